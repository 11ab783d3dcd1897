"""What a process belongs to: the network namespace that it is in, and the parent that it dies with. Linux only."""

import ctypes
import os
import signal

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
ORPHANED = 70  # exit code of a child whose parent had died before it could say so

_libc = ctypes.CDLL(None, use_errno=True)


def enter_netns(namespace: int) -> None:
    """The calling thread goes into the namespace of an open file (/proc/PID/ns/net). Raises OSError."""
    _checked(_libc.setns(namespace, CLONE_NEWNET), "setns")


def new_netns() -> None:
    """The calling thread goes into a network namespace of its own. Raises OSError."""
    _checked(_libc.unshare(CLONE_NEWNET), "unshare")


def die_with(parent: int) -> None:
    """The calling process is killed when the thread of `parent` that has started it ends. Raises OSError."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:  # it died before the signal was armed
        os._exit(ORPHANED)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
