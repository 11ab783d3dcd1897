"""Control groups: what is written into a tree of plain files, and what a real kernel makes of it where one can ask."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.kernel import cgroup, guest
from testbed.kernel.cgroup import Groups, NoGroups, Tree, find, room, sweep
from testbed.kernel.guest import GuestOptions

BOTH = pytest.mark.parametrize("version", [1, 2])
MIB = 2**20


def mounts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mounts"
    path.write_text("".join(f"{line} 0 0\n" for line in lines))
    return path


def own(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "own"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def tree(tmp_path: Path, version: int) -> Tree:
    """Folders as the kernel shows them, but of plain files."""
    tops = [tmp_path / name for name in (("one", "one") if version == 2 else ("cpu", "memory"))]
    for top in tops:
        top.mkdir(exist_ok=True)
    return Tree(version, *tops)


Folders = tuple[dict[str, str], dict[str, str]]  # texts of files by name: that of the cpu, that of the memory


def told(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(folders: tuple[Path, Path], texts: Folders) -> None:
    for folder, named in zip(folders, texts, strict=True):
        for name, text in named.items():
            (folder / name).write_text(text)


def made(where: Tree, name: str = "testbed-1") -> Groups:
    for top in where.tops:
        (top / name).mkdir()
    return Groups(where, name)


def test_the_second_version_is_taken_where_it_has_the_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    found = find(mounts(tmp_path, f"cgroup2 {tmp_path} cgroup2 rw"), own(tmp_path, "0::/user.slice/session-3.scope"))
    assert found == Tree(2, tmp_path, tmp_path)


def test_else_the_first_version_is_taken_with_a_tree_a_controller(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    lines = [
        "cgroup /g/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct",
        "cgroup /g/memory cgroup rw,memory",
        f"cgroup2 {tmp_path} cgroup2 rw",
    ]
    found = find(mounts(tmp_path, *lines), own(tmp_path, "4:cpu,cpuacct:/", "3:memory:/", "2:pids:/somewhere", "0::/"))
    assert found == Tree(1, Path("/g/cpu,cpuacct"), Path("/g/memory"))


def test_a_machine_that_cannot_limit_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NoGroups, match="no control group tree has the controller cpu and memory"):
        find(mounts(tmp_path, "proc /proc proc rw"), own(tmp_path))
    with pytest.raises(NoGroups, match="has the controller memory"):
        find(mounts(tmp_path, "cgroup /g/cpu cgroup rw,cpu"), own(tmp_path))


def test_who_has_been_limited_stays_in_that(tmp_path: Path) -> None:
    lines = ["cgroup /g/cpu cgroup rw,cpu", "cgroup /g/memory cgroup rw,memory"]
    with pytest.raises(NoGroups, match="in the memory group /jobs/7 of whoever started it"):
        find(mounts(tmp_path, *lines), own(tmp_path, "5:memory:/jobs/7", "1:cpu:/"))


def test_the_second_version_is_told_limit_and_quota(tmp_path: Path) -> None:
    groups = made(tree(tmp_path, 2))
    groups.group("edge1", 600_000, 512 * MIB).place(4711)
    folder = tmp_path / "one" / "testbed-1" / "edge1"
    at_first = {"memory.max": str(512 * MIB), "cgroup.procs": "4711"}
    assert told(folder) == at_first
    groups.hold()
    assert told(folder) == at_first | {"cpu.max": "60000 100000"}


def test_the_first_version_is_told_the_same_in_two_trees(tmp_path: Path) -> None:
    groups = made(tree(tmp_path, 1))
    groups.group("edge1", 1_500_000, MIB).place(4711)
    cpu, memory = (tmp_path / name / "testbed-1" / "edge1" for name in ("cpu", "memory"))
    assert told(cpu) == {"cgroup.procs": "4711"}
    assert told(memory) == {"cgroup.procs": "4711", "memory.limit_in_bytes": str(MIB)}
    groups.hold()
    assert told(cpu) == {"cgroup.procs": "4711", "cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"}


TOLD_BY_2 = (
    ({"cpu.stat": "usage_usec 7000000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"}, {}),
    (
        {"cpu.stat": "usage_usec 9500000\nnr_periods 70\nnr_throttled 20\nthrottled_usec 870000\n"},
        {"memory.events": "low 0\nmax 12\noom 1\noom_kill 1\n", "memory.peak": "524288\n"},
    ),
)
TOLD_BY_1 = (
    ({"cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n", "cpuacct.usage": "7000000000\n"}, {}),
    (
        {"cpu.stat": "nr_periods 70\nnr_throttled 20\nthrottled_time 870000000\n", "cpuacct.usage": "9500000000\n"},
        {"memory.oom_control": "under_oom 0\noom_kill 1\n", "memory.max_usage_in_bytes": "524288\n"},
    ),
)


@pytest.mark.parametrize(("version", "at_zero", "at_end"), [(2, *TOLD_BY_2), (1, *TOLD_BY_1)])
def test_what_was_held_to_what_and_how_much_was_used_is_read_back(
    tmp_path: Path, version: int, at_zero: Folders, at_end: Folders
) -> None:
    groups = made(tree(tmp_path, version))
    group = groups.group("edge1", 400_000, MIB)
    write((group.cpu, group.memory), at_zero)
    groups.hold()
    write((group.cpu, group.memory), at_end)
    assert dict(groups.figures()) == {
        "edge1": {
            **{"quota_us": 40_000, "period_us": 100_000, "used_us": 2_500_000},
            **{"periods": 70, "throttled": 20, "throttled_us": 870_000},
            **{"limit_bytes": MIB, "peak_bytes": 524_288, "killed": 1},
        }
    }


@BOTH
def test_what_a_kernel_does_not_tell_is_none(tmp_path: Path, version: int) -> None:
    groups = made(tree(tmp_path, version))
    groups.group("edge1", 400_000, MIB)
    ((_, figures),) = groups.figures()
    assert {name for name, figure in figures.items() if figure is not None} == {"limit_bytes", "killed"}


@pytest.mark.parametrize("asked", [False, True])
def test_a_guest_makes_groups_only_where_they_are_asked_for(asked: bool) -> None:
    words = guest.command(Path("linux"), "director", GuestOptions("real", control_groups=asked))
    assert [word for word in words if word.startswith(cgroup.VARIABLE)] == ["TESTBED_GROUP=testbed-guest"] * asked


@BOTH
def test_a_guest_is_given_back_the_half_tick_that_it_loses_but_no_second_processor(
    tmp_path: Path, version: int
) -> None:
    groups = made(tree(tmp_path, version), cgroup.OF_GUEST)
    given = [groups.group(f"edge{cpus_ppm}", cpus_ppm, MIB) for cpus_ppm in (400_000, 990_000, 1_000_000)]
    assert [group.quota_us for group in given] == [41_200 + 5_000, 103_000, 103_000]
    assert {group.period_us for group in given} == {103_000}
    assert given[0].period_us % (2 * cgroup.HALF_TICK_US), "else chance would decide once where in a tick it goes on"


@BOTH
def test_a_kill_for_want_of_memory_is_seen_and_named(tmp_path: Path, version: int) -> None:
    groups = made(tree(tmp_path, version))
    group = groups.group("edge1", 1_000_000, MIB)
    events = {1: ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n")}
    name, text = events.get(version, ("memory.events", "low 0\nmax 12\noom 1\noom_kill {}\noom_group_kill 0\n"))
    (group.memory / name).write_text(text.format(0))
    assert groups.killed() == []
    (group.memory / name).write_text(text.format(1))
    assert groups.killed() == ["edge1 was killed for want of memory: its control group may use 1048576 bytes"]


@BOTH
def test_nothing_is_left_of_a_room_and_what_others_left_is_swept(tmp_path: Path, version: int) -> None:
    where = tree(tmp_path, version)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = ["testbed-1", "testbed-notes", "system.slice"]  # process 1 lives
    for top in where.tops:
        for name in (f"testbed-{dead.pid}", *kept):
            (top / name / "edge1").mkdir(parents=True)
    with room(where, shutil.rmtree) as name:
        assert name == f"testbed-{os.getpid()}"
        Groups(where, name).group("edge1", 400_000, MIB)
        assert all((top / name / "edge1").is_dir() for top in where.tops)
        if version == 2:
            shares = [top / "cgroup.subtree_control" for top in (where.cpu, where.cpu / name)]
            assert [share.read_text() for share in shares] == ["+cpu +memory"] * 2
    for top in where.tops:
        assert sorted(path.name for path in top.iterdir() if path.is_dir()) == sorted(kept)
    assert sweep(where, shutil.rmtree) == []


@BOTH
def test_a_tree_that_may_not_be_written_is_no_room(tmp_path: Path, version: int) -> None:
    where = tree(tmp_path, version)
    (where.tops[-1] / f"testbed-{os.getpid()}").write_text("in the way")
    with pytest.raises(NoGroups, match="cannot make the control group"), room(where):
        pass
    assert not any((top / f"testbed-{os.getpid()}").is_dir() for top in where.tops)


def real_cpu() -> Path:
    """The real tree of the cpu controller, if this process is at its top; the memory's may be out of reach."""
    if os.getuid() != 0:
        pytest.skip("this machine lacks root, which control groups need")
    try:
        return find().cpu
    except NoGroups as why:
        lines = [line.split() for line in cgroup.MOUNTS.read_text().splitlines()]
        tops = [Path(line[1]) for line in lines if line[2] == "cgroup" and "cpu" in line[3].split(",")]
        at_top = any(line.split(":", 2)[1:] == ["cpu", "/"] for line in cgroup.OWN.read_text().splitlines())
        if not tops or not at_top:
            pytest.skip(f"this machine lacks a control group tree of ours: {why}")
        return tops[0]


BURN = """
import sys, time
sys.stdin.readline()
while time.process_time() < 0.1: pass
"""


def test_a_real_kernel_holds_a_process_to_its_share_of_a_processor(tmp_path: Path) -> None:
    cpu = real_cpu()
    version = 2 if (cpu / "cgroup.controllers").exists() else 1
    where = Tree(version, cpu, cpu if version == 2 else tree(tmp_path, 1).memory)
    remove = lambda path: path.rmdir() if path.is_relative_to(cpu) else shutil.rmtree(path)  # noqa: E731
    with room(where, remove) as name:
        groups = Groups(where, name)
        group = groups.group("edge1", 200_000, 256 * MIB)
        groups.hold()
        child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE)
        group.place(child.pid)
        child.communicate(b"go\n")
        ((_, figures),) = groups.figures()
        assert figures["quota_us"] == 20_000
        assert (figures["throttled"] or 0) >= 3  # 100 ms of work in parts of 20
    assert child.returncode == 0
    assert not (cpu / name).exists()


FILL = "import sys; sys.stdin.readline(); held = bytearray(256 << 20)"


def test_a_real_kernel_kills_what_needs_more_memory_than_it_has() -> None:
    if lacks := cgroup.missing():
        pytest.skip(f"this machine lacks control groups for memory (test_limits.py shows it in a guest): {lacks}")
    with room(find()) as name:
        groups = Groups(find(), name)
        group = groups.group("edge1", 1_000_000, 32 * MIB)
        child = subprocess.Popen([sys.executable, "-c", FILL], stdin=subprocess.PIPE)
        group.place(child.pid)
        child.communicate(b"go\n")
        assert child.returncode == -9
        assert groups.killed()[0].startswith("edge1 was killed for want of memory")
