"""The first process of a guest: makes a private file system view, runs the director, powers the guest off.

The host's files are seen read-only below a layer in memory: the guest may write anywhere and nothing of it reaches
the host, except in the run folder, which is mounted on its own, always at the same place. A Python program, since a
set-uid `mount` would lose root inside a user namespace.

Run by the kernel: python -m testbed.kernel.init DIRECTOR_MODULE
"""

import ctypes
import importlib
import os
import sys
import traceback
from pathlib import Path

from testbed.kernel import cgroup

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_MOVE = 1, 2, 4, 8192
POWER_OFF = 0x4321FEDC
PROCESSORS = Path("/sys/devices/system/cpu")
RUN_FOLDER = "/run/experiment"  # what the guest calls it
RUN_FOLDER_OF_HOST = "/proc/self/cwd/."  # as the kernel's process sees it, which was started there
CONTROL_GROUPS = "/sys/fs/cgroup"
CYCLES_KHZ = 1_000_000  # any figure does: nothing of a run is computed from cycles

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"mount {kind} on {target}")


def private_view() -> None:
    """The host's files under a layer in memory; only the run folder is the host's own."""
    mount("tmpfs", "/run", "tmpfs")
    for name in ("upper", "work", "root"):
        Path("/run", name).mkdir()
    mount("overlay", "/run/root", "overlay", MS_NOSUID, "lowerdir=/,upperdir=/run/upper,workdir=/run/work")
    for source, name, kind in (
        ("proc", "proc", "proc"),
        ("sysfs", "sys", "sysfs"),
        ("devtmpfs", "dev", "devtmpfs"),
        ("tmpfs", "run", "tmpfs"),
    ):
        mount(source, f"/run/root/{name}", kind, MS_NOSUID)
    for name, kind in (("pts", "devpts"), ("shm", "tmpfs")):
        Path("/run/root/dev", name).mkdir(exist_ok=True)
        mount(kind, f"/run/root/dev/{name}", kind, MS_NOSUID)
    Path(f"/run/root{RUN_FOLDER}").mkdir()
    mount("none", f"/run/root{RUN_FOLDER}", "hostfs", MS_NOSUID | MS_NODEV, RUN_FOLDER_OF_HOST)
    os.chroot("/run/root")
    os.chdir(RUN_FOLDER)


def state_frequency() -> None:
    """Says how fast cycles count, so that nobody measures it.

    The cycle counter runs on the host's time, so in virtual time no two measurements against a sleep agree: gRPC's
    first contended lock in a process would try eight times, 255 ms in all, and hold up whatever it carries.
    """
    kept = {
        path.name: path.read_text() for path in PROCESSORS.iterdir() if path.name in ("online", "possible", "present")
    }
    mount("tmpfs", str(PROCESSORS), "tmpfs")
    first = PROCESSORS / "cpu0"
    first.mkdir()
    kept["cpu0/tsc_freq_khz"] = f"{CYCLES_KHZ}\n"
    for name, text in kept.items():
        (PROCESSORS / name).write_text(text)


def control_groups(name: str) -> None:
    """The tree of the second version, with the group of the run in it. Raises NoGroups."""
    mount("cgroup2", CONTROL_GROUPS, "cgroup2", MS_NOSUID)
    cgroup.make(cgroup.find(), name)


def main(director: str) -> None:
    os.environ.update(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", LANG="C.UTF-8")
    private_view()
    state_frequency()
    if cgroup.VARIABLE in os.environ:  # only where the run asks for them
        control_groups(os.environ[cgroup.VARIABLE])
    importlib.import_module(director).main(Path(RUN_FOLDER))


if __name__ == "__main__":
    try:
        main(sys.argv[1])  # the kernel appends words of its own
    except KeyboardInterrupt:
        pass  # the director's own watch has said why
    except BaseException:  # the guest ends here: whatever it was goes to the console, which the host keeps
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.sync()
        _libc.reboot(POWER_OFF)
