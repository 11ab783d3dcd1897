"""Control groups of a run on the host's own kernel: the agent of each host gets so many processors and so much memory.

Version 2 (one tree) where it has the controllers, else version 1 (a tree a controller). A run has one group of its
own, `testbed-<process>`, and in it one a host.

Rules: the testbed's process makes the group of the run and removes it; what a `kill -9` left empty, the next run
removes. In version 2 it lies at the top, since a group with processes of its own cannot share out below itself. In
version 1 it lies at the top only if this process is there too: elsewhere somebody has limited us, and we stay in that.

    with room(find()) as name, then in the sandbox: Groups(find(), name).group("edge1", 600_000, 2**29).place(pid)
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MOUNTS, OWN = Path("/proc/self/mounts"), Path("/proc/self/cgroup")
PREFIX = "testbed-"
VARIABLE = "TESTBED_GROUP"  # the group of the run, for the processes of its sandbox
PERIOD_US = 100_000  # of the quota; the kernel's own
PPM = 1_000_000
REMOVALS, REMOVAL_S = 100, 0.02
CONTROLLERS = ("cpu", "memory")


class NoGroups(Exception):
    """This machine's control groups cannot be used; says what is missing."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where groups are made: the same folder twice in version 2."""

    version: int
    cpu: Path
    memory: Path

    @property
    def tops(self) -> tuple[Path, ...]:
        return (self.cpu,) if self.version == 2 else (self.cpu, self.memory)


def find(mounts: Path = MOUNTS, own: Path = OWN) -> Tree:
    """Raises NoGroups."""
    trees: dict[str, Path] = {}
    for line in mounts.read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and set(CONTROLLERS) <= set(_words(Path(where) / "cgroup.controllers")):
            return Tree(2, Path(where), Path(where))
        if kind == "cgroup":
            trees |= {name: Path(where) for name in CONTROLLERS if name in options.split(",")}
    lacking = [name for name in CONTROLLERS if name not in trees]
    if lacking:
        raise NoGroups(f"no control group tree has the controller {' and '.join(lacking)}")
    for line in own.read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in set(names.split(",")) & set(CONTROLLERS):
            if path != "/":
                raise NoGroups(f"this process is in the {name} group {path} of whoever started it, not at the top")
    return Tree(1, trees["cpu"], trees["memory"])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


@contextmanager
def room(tree: Tree, remove: Callable[[Path], None] = Path.rmdir) -> Iterator[str]:
    """The name of a new group of this process's run, which is gone with all in it afterwards. Raises NoGroups."""
    name = f"{PREFIX}{os.getpid()}"
    sweep(tree, remove)
    try:
        try:
            for top in tree.tops:
                (top / name).mkdir()
            if tree.version == 2:
                for folder in (tree.cpu, tree.cpu / name):
                    _write(folder / "cgroup.subtree_control", " ".join(f"+{c}" for c in CONTROLLERS))
        except OSError as error:
            raise NoGroups(f"cannot make the control group {error.filename}: {error.strerror}") from error
        yield name
    finally:
        for top in tree.tops:
            _clear(top / name, remove)


def sweep(tree: Tree, remove: Callable[[Path], None] = Path.rmdir) -> list[str]:
    """Removes groups whose process is no more; their names."""
    found = []
    for top in tree.tops:
        for group in sorted(top.glob(f"{PREFIX}*")):
            owner = re.fullmatch(rf"{PREFIX}(\d+)", group.name)
            if owner and not Path("/proc", owner[1]).exists():
                _clear(group, remove)
                found.append(group.name)
    return found


def _clear(group: Path, remove: Callable[[Path], None]) -> None:
    """What ended a moment ago may still be in it."""
    for _ in range(REMOVALS):
        try:
            for folder in [*(path for path in group.glob("*") if path.is_dir()), group]:
                remove(folder)
            return
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            time.sleep(REMOVAL_S)


@dataclass(frozen=True, slots=True)
class Group:
    """That of one host: the same folder twice in version 2."""

    version: int
    cpu: Path
    memory: Path
    memory_bytes: int

    def place(self, process: int) -> None:
        """With all that it starts from now on."""
        for folder in {self.cpu, self.memory}:
            _write(folder / "cgroup.procs", str(process))

    def killed(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        events = self.memory / ("memory.events" if self.version == 2 else "memory.oom_control")
        found = re.search(r"^oom_kill (\d+)$", events.read_text(), flags=re.MULTILINE)
        return int(found[1]) if found else 0


class Groups:
    """Those of a run, by host."""

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree, self._name = tree, name
        self._groups: dict[str, Group] = {}

    def group(self, host: str, cpus_ppm: int, memory_bytes: int) -> Group:
        """Makes it. `cpus_ppm`: of one processor, in millionths."""
        made = Group(
            self._tree.version, self._tree.cpu / self._name / host, self._tree.memory / self._name / host, memory_bytes
        )
        for folder in {made.cpu, made.memory}:
            folder.mkdir()
        quota_us = PERIOD_US * cpus_ppm // PPM
        if made.version == 2:
            _write(made.cpu / "cpu.max", f"{quota_us} {PERIOD_US}")
            _write(made.memory / "memory.max", str(memory_bytes))
            _write_if_there(made.memory / "memory.swap.max", "0")
        else:
            _write(made.cpu / "cpu.cfs_period_us", str(PERIOD_US))
            _write(made.cpu / "cpu.cfs_quota_us", str(quota_us))
            _write(made.memory / "memory.limit_in_bytes", str(memory_bytes))
            _write_if_there(made.memory / "memory.memsw.limit_in_bytes", str(memory_bytes))
        self._groups[host] = made
        return made

    def why_ended(self, host: str) -> str:
        """Empty unless the kernel killed it for want of memory."""
        group = self._groups.get(host)
        if group is None or not group.killed():
            return ""
        return f"{host} was killed for want of memory: its control group may use {group.memory_bytes} bytes"


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _write_if_there(path: Path, text: str) -> None:
    """Swap is not accounted for by every kernel."""
    if path.exists():
        _write(path, text)


def missing() -> str:
    """What this machine lacks for `compute: cgroup`, asked by doing; empty when nothing."""
    if os.getuid() != 0:
        return "root"
    try:
        with room(find()):
            return ""
    except NoGroups as why:
        return str(why)
