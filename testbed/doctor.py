"""What this machine can do: every check is a probe, and says what would mend it. Changes nothing.

Rules: a kernel is asked by doing, in a network namespace of its own that ends with the probe; nobody trusts a name or
a version where a probe is possible.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed import packages
from testbed.cache import cache_folder
from testbed.kernel import build, cgroup

Kernel = Literal["guest", "host"]
Clock = Literal["virtual", "real"]

PROJECT = Path(__file__).resolve().parents[1]
MEMORY_BYTES = 6 << 30  # what a guest may use
PROBE_S = 20
# The first and only acts of a guest's first process; a kernel's command line holds no spaces.
POWER_OFF = "__import__('ctypes').CDLL(None).reboot(0x4321fedc)"
MOUNT = "__import__('ctypes').CDLL(None).mount(b'none',b'/mnt',b'cgroup2',0,None)"
SAY_CONTROLLERS = f"(({MOUNT}==0)and(print(open('/mnt/cgroup.controllers').read(),flush=True)),{POWER_OFF})"
NO_VIRTUAL_HOST = "a machine's own clock does not stand still: virtual time needs the guest kernel"
# Checks that decide whether a kernel can be used; the others inform.
NEEDED: dict[Kernel, tuple[str, ...]] = {
    "guest": ("python packages", "switch", "mnexec", "sandbox", "guest kernel"),
    "host": ("python packages", "switch", "mnexec", "root", "tun device", "veth on host", "netem on host"),
}


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str
    remedy: str = ""  # when not ok


@dataclass(frozen=True, slots=True)
class Mode:
    """A kernel and a clock; usable when nothing speaks against it."""

    kernel: Kernel
    clock: Clock
    why_not: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.why_not


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]
    modes: tuple[Mode, ...]


def examine() -> Report:
    """Every check there is; takes about a second."""
    checks = (
        *_packages(),
        _python_packages(),
        _program("switch", "ovs-vswitchd", "openvswitch-switch"),
        _program("mnexec", "mnexec", "mininet"),
        _sandbox(),
        _guest_kernel(),
        _guest_groups(),
        *_host_kernel(),
        *_size(),
    )
    return Report(checks, modes(checks))


def modes(checks: Iterable[Check]) -> tuple[Mode, ...]:
    """Which kernels and clocks can be used, by what the checks found."""
    checks = tuple(checks)
    guest = _against("guest", checks)
    host = _against("host", checks)
    return (
        Mode("guest", "virtual", guest),
        Mode("guest", "real", guest),
        Mode("host", "virtual", (NO_VIRTUAL_HOST,)),
        Mode("host", "real", host),
    )


def _against(kernel: Kernel, checks: Iterable[Check]) -> tuple[str, ...]:
    bad = (check for check in checks if check.name in NEEDED[kernel] and not check.ok)
    return tuple(f"{check.name}: {check.found}" + (f" ({check.remedy})" if check.remedy else "") for check in bad)


def _packages() -> list[Check]:
    name = "distribution packages"
    if not packages.LIST.exists():
        return [Check(name, True, "not checked: this is not a checkout of the project")]
    try:
        present = packages.installed()
    except packages.NotDebian as unknown:
        return [Check(name, False, str(unknown), "install them by hand")]
    missing = packages.missing(present)
    if not missing:
        return [Check(name, True, "all there")]
    names = " ".join(alternatives[0] for alternatives in missing)
    return [Check(name, False, f"missing: {names}", f"sudo apt-get install --no-install-recommends {names}")]


def _python_packages() -> Check:
    """Compares what is installed with the lock file."""
    lock = PROJECT / "requirements.lock"
    name = "python packages"
    if not lock.exists():
        return Check(name, True, "not checked: this is not a checkout of the project")
    pins = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", lock.read_text(), flags=re.MULTILINE)
    there = {_plain(dist.name): dist.version for dist in importlib.metadata.distributions()}
    wrong = [f"{pin} {version}" for pin, version in pins if there.get(_plain(pin)) != version]
    if "torch" not in there:
        wrong.append("torch")
    if wrong:
        return Check(name, False, f"not as locked: {', '.join(wrong[:5])}{' ...' if wrong[5:] else ''}", "make setup")
    return Check(name, True, f"{len(pins)} as locked, torch {there['torch']}")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _program(check: str, program: str, package: str) -> Check:
    path = shutil.which(program, path=_search_path())
    if path is None:
        return Check(check, False, f"no {program}", f"sudo apt-get install {package}")
    return Check(check, True, path)


def _search_path() -> str:
    """Daemons and network tools live where an ordinary user's PATH does not reach."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _unshare(*flags: str) -> list[str]:
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *own_user, *flags, "--"]


def _works(command: list[str]) -> str:
    """Empty when the command succeeds, else its complaint."""
    return _answer(command)[0]


def _answer(command: list[str]) -> tuple[str, str]:
    """The complaint, empty when the command succeeds, and what it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=PROBE_S,
            env={**os.environ, "PATH": _search_path()},
        )
    except FileNotFoundError:
        return f"no {command[0]}", ""
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_S} s", ""
    if done.returncode == 0:
        return "", done.stdout
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return said[-1] if said else f"exit code {done.returncode}", done.stdout


def _probe(name: str, command: list[str], good: str, remedy: str) -> Check:
    complaint = _works(command)
    return Check(name, not complaint, complaint or good, remedy if complaint else "")


def _sandbox() -> Check:
    command = [*_unshare("--pid", "--fork", "--kill-child=KILL"), "true"]
    good = "a process namespace of its own" + ("" if os.geteuid() == 0 else ", without root")
    return _probe(
        "sandbox", command, good, "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, or be root"
    )


def _guest_kernel() -> Check:
    """Boots it and lets it switch itself off."""
    name = "guest kernel"
    kernel = build.installed()
    if kernel is None:
        return Check(name, False, "not built", "testbed kernel build")
    good, remedy = f"boots: {kernel}", "a guest needs ptrace and an executable /dev/shm"
    return _probe(name, _guest(kernel, POWER_OFF), good, remedy)


def _guest_groups() -> Check:
    """Only `compute: cgroup` needs them."""
    name, remedy = "guest control groups", "testbed kernel build, for compute: cgroup with --clock real only"
    kernel = build.installed()
    complaint, said = ("not built", "") if kernel is None else _answer(_guest(kernel, SAY_CONTROLLERS))
    lacking = set(cgroup.CONTROLLERS) - set(said.split())
    if complaint or lacking:
        return Check(name, False, complaint or f"no controller {' and '.join(sorted(lacking))}", remedy)
    return Check(name, True, "processors and memory can be limited: compute: cgroup works with --clock real")


def _guest(kernel: Path, act: str) -> list[str]:
    """`act`: what its first process does, in Python."""
    machine = ["mem=96M", "rootfstype=hostfs", "root=/dev/root", "rootflags=/", "ro", "quiet", "con=null"]
    first = ["con0=fd:0,fd:1", "init=/usr/bin/python3", "--", "-ISc", act]
    return [*_unshare("--pid", "--fork", "--kill-child=KILL"), str(kernel), *machine, *first]


def _host_kernel() -> list[Check]:
    root = os.geteuid() == 0
    apart = _unshare("--net")
    netem = [*apart, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms", "rate", "1mbit"]
    veth = [*apart, "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]
    tun = Path("/dev/net/tun")
    return [
        Check("root", root, "yes" if root else "an ordinary user", "" if root else "sudo, for --kernel host only"),
        Check("tun device", tun.exists(), str(tun) if tun.exists() else "none", "" if tun.exists() else "modprobe tun"),
        _probe("veth on host", veth, "works", "modprobe veth"),
        _probe("netem on host", netem, "works", "modprobe sch_netem; a kernel without it can't shape"),
        _datapath(),
        _control_groups(),
    ]


def _datapath() -> Check:
    """A host kernel may do without it: the switch then forwards in userspace."""
    there = Path("/sys/module/openvswitch").exists()
    found = "the kernel forwards" if there else "no openvswitch module loaded: the switch forwards in userspace"
    return Check("kernel datapath", there, found, "" if there else "modprobe openvswitch, for --kernel host only")


def _control_groups() -> Check:
    """Only `compute: cgroup` on the host's kernel needs them."""
    name, lacks = "control groups on host", cgroup.missing()
    remedy = "for compute: cgroup with --kernel host only (a guest has its own): be root at the top of the machine's"
    return Check(name, not lacks, lacks or "processors and memory can be limited", remedy if lacks else "")


def _size() -> list[Check]:
    free = _memory_available()
    cache = cache_folder()
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    writable = os.access(nearest, os.W_OK)
    enough = free >= MEMORY_BYTES
    return [
        Check(
            "memory",
            enough,
            f"{free / 2**30:.1f} GiB free",
            "" if enough else f"a guest may use {MEMORY_BYTES >> 30} GiB",
        ),
        Check("processors", True, f"{len(os.sched_getaffinity(0))}: as many guests run side by side"),
        Check("cache", writable, str(cache), "" if writable else "set XDG_CACHE_HOME to a folder of yours"),
    ]


def _memory_available() -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
