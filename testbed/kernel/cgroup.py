"""Control groups of a run in real time: the agent of each host gets so many processors and so much memory.

Version 2 (one tree) where it has the controllers, else version 1 (a tree a controller). A run has one group of its
own, `testbed-<process>`, and in it one a host.

Rules: on the host's own kernel the testbed's process makes the group of the run and removes it; what a `kill -9` left
empty, the next run removes. In version 2 it lies at the top, since a group with processes of its own cannot share out
below itself. In version 1 it lies at the top only if this process is there too: elsewhere somebody has limited us, and
we stay in that. A guest's kernel is the run's own: its first process makes the group, and all ends with the guest.

    with room(find()) as name, then in the sandbox: Groups(find(), name).group("edge1", 600_000, 2**29).place(pid)
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

MOUNTS, OWN = Path("/proc/self/mounts"), Path("/proc/self/cgroup")
PREFIX = "testbed-"
VARIABLE = "TESTBED_GROUP"  # the group of the run, for the processes of its sandbox
OF_GUEST = f"{PREFIX}guest"
PERIOD_US = 100_000  # of the quota; the kernel's own
# A guest counts processor time in ticks of 10 ms, and in each period a group goes on in the middle of one and pays for
# all of it: on average half a tick, since no period begins where the last one did.
GUEST_PERIOD_US, HALF_TICK_US = 103_000, 5_000
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
        make(tree, name)
        yield name
    finally:
        for top in tree.tops:
            _clear(top / name, remove)


def make(tree: Tree, name: str) -> None:
    """The group of a run, for groups of its hosts below it. Raises NoGroups."""
    try:
        for top in tree.tops:
            (top / name).mkdir()
        if tree.version == 2:
            for folder in (tree.cpu, tree.cpu / name):
                _write(folder / "cgroup.subtree_control", " ".join(f"+{c}" for c in CONTROLLERS))
    except OSError as error:
        raise NoGroups(f"cannot make the control group {error.filename}: {error.strerror}") from error


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
    quota_us: int  # of each period, once it is held to that
    period_us: int
    memory_bytes: int
    prepared_us: int = 0  # that it had run until then

    def place(self, process: int) -> None:
        """With all that it starts from now on."""
        for folder in {self.cpu, self.memory}:
            _write(folder / "cgroup.procs", str(process))

    def hold(self) -> "Group":
        """To its quota, from now on."""
        if self.version == 2:
            _write(self.cpu / "cpu.max", f"{self.quota_us} {self.period_us}")
        else:
            _write(self.cpu / "cpu.cfs_period_us", str(self.period_us))
            _write(self.cpu / "cpu.cfs_quota_us", str(self.quota_us))
        return replace(self, prepared_us=self._used_us() or 0)

    def _used_us(self) -> int | None:
        if self.version == 2:
            return _counts(self.cpu / "cpu.stat").get("usage_usec")
        return _us(_numbers(self.cpu / "cpuacct.usage")[0])

    def killed(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        return _counts(self.memory / ("memory.events" if self.version == 2 else "memory.oom_control")).get(
            "oom_kill", 0
        )

    def figures(self) -> dict[str, int | None]:
        """What the kernel holds it to, read back, and what it counted; None: no limit, or it does not say.

        It may run `quota_us` of each `period_us`. Since then it ran `used_us`, used up its quota in `throttled` of the
        `periods` in which it had work, and stood still for `throttled_us`. It may have `limit_bytes`, and had
        `peak_bytes` at most since it was made.
        """
        stat = _counts(self.cpu / "cpu.stat")
        if self.version == 2:
            quota_us, period_us = _numbers(self.cpu / "cpu.max", 2)
            throttled_us = stat.get("throttled_usec")
            limit, peak = "memory.max", "memory.peak"
        else:
            (quota_us,), (period_us,) = (
                _numbers(self.cpu / "cpu.cfs_quota_us"),
                _numbers(self.cpu / "cpu.cfs_period_us"),
            )
            throttled_us = _us(stat.get("throttled_time"))
            limit, peak = "memory.limit_in_bytes", "memory.max_usage_in_bytes"
        (limit_bytes,), (peak_bytes,) = _numbers(self.memory / limit), _numbers(self.memory / peak)
        used_us = self._used_us()
        return {
            **{"quota_us": quota_us, "period_us": period_us},
            "used_us": None if used_us is None else used_us - self.prepared_us,
            **{"periods": stat.get("nr_periods"), "throttled": stat.get("nr_throttled"), "throttled_us": throttled_us},
            **{"limit_bytes": limit_bytes, "peak_bytes": peak_bytes, "killed": self.killed()},
        }


class Groups:
    """Those of a run, by host."""

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree, self._name = tree, name
        self._period_us, self._lost_us = (GUEST_PERIOD_US, HALF_TICK_US) if name == OF_GUEST else (PERIOD_US, 0)
        self._groups: dict[str, Group] = {}

    def group(self, host: str, cpus_ppm: int, memory_bytes: int) -> Group:
        """Makes it, with its memory limited. `cpus_ppm`: of one processor, in millionths."""
        cpu, memory = (top / self._name / host for top in (self._tree.cpu, self._tree.memory))
        quota_us = self._period_us * cpus_ppm // PPM
        if cpus_ppm < PPM:  # else nothing holds it back
            quota_us = min(quota_us + self._lost_us, self._period_us)
        made = Group(self._tree.version, cpu, memory, quota_us, self._period_us, memory_bytes)
        for folder in {made.cpu, made.memory}:
            folder.mkdir()
        if made.version == 2:
            _write(made.memory / "memory.max", str(memory_bytes))
            _write_if_there(made.memory / "memory.swap.max", "0")
        else:
            _write(made.memory / "memory.limit_in_bytes", str(memory_bytes))
            _write_if_there(made.memory / "memory.memsw.limit_in_bytes", str(memory_bytes))
        self._groups[host] = made
        return made

    def hold(self) -> None:
        """All to their quotas from now on: to get ready everybody takes the time that there is."""
        self._groups = {host: group.hold() for host, group in self._groups.items()}

    def figures(self) -> Iterator[tuple[str, dict[str, int | None]]]:
        """Each host's."""
        return ((host, group.figures()) for host, group in self._groups.items())

    def killed(self) -> list[str]:
        """Of each host that the kernel killed for want of memory, that it did."""
        return [
            f"{host} was killed for want of memory: its control group may use {group.memory_bytes} bytes"
            for host, group in self._groups.items()
            if group.killed()
        ]


def _counts(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    words = _words(path)
    return {name: int(count) for name, count in zip(words[::2], words[1::2], strict=False)}


def _numbers(path: Path, count: int = 1) -> list[int | None]:
    """`count` of them; None for "max", and for all that a kernel does not tell."""
    return [int(word) if word.isdecimal() else None for word in _words(path)] or [None] * count


def _us(ns: int | None) -> int | None:
    return None if ns is None else ns // 1000


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
