"""A guest kernel as an ordinary process: started, watched and ended from outside.

User-Mode Linux, with the host's files read-only as its root. In virtual time its clock stands still while anything
computes and jumps when everything sleeps.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from testbed.kernel import cgroup
from testbed.kernel.bytecode import compile_ahead
from testbed.kernel.processors import claimed
from testbed.kernel.sandbox import contained, dies_with_parent

START_NS = 1_767_225_600 * 10**9  # the guest's calendar starts 2026-01-01, whatever the day
PROJECT = Path(__file__).resolve().parents[2]
POLL_S = 0.1
TAIL_LINES = 15
PANIC_LINES = 100
PANIC = "Kernel panic - not syncing: "
CONSOLE = "console.log"

# One thread per computation (spinning threads never let virtual time pass), memory kept by the allocator (a page
# touched for the first time costs a guest some 0.1 ms), and nothing that differs from run to run.
ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "40000000000",
    "MALLOC_TOP_PAD_": "67108864",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "OSKEN_HUB_TYPE": "native",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # TLS libraries: no cycle counter and no random numbers of the processor's own, which no seed reaches
    "OPENSSL_ia32cap": "~0x4000000000000010",
}


class GuestFailed(Exception):
    """The guest ended badly; `why` is one sentence and `console` its last lines."""

    def __init__(self, why: str, console: str) -> None:
        super().__init__(f"{why}\n{console}" if console else why)
        self.why = why
        self.console = console


@dataclass(frozen=True, slots=True)
class GuestOptions:
    clock: Literal["virtual", "real"] = "virtual"
    memory: str = "6G"  # what the guest may use at most; taken from the host as it is touched
    wall_limit_s: float = 1800
    control_groups: bool = False
    seed: int = 0  # of all that the guest's kernel calls random, in virtual time


def command(kernel: Path, director: str, options: GuestOptions) -> list[str]:
    """The guest's command line, to be run in the run folder.

    It does not name the folder: what is in a guest's memory, down to the place of an object and the order of a set,
    is then the same wherever its results go.
    """
    words = [
        str(kernel),
        f"mem={options.memory}",
        "rootfstype=hostfs",
        "root=/dev/root",
        "rootflags=/",
        "ro",
        "con=null",
        "con0=fd:0,fd:1",
        "ssl=null",
        "quiet",
        "norandmaps",
        "panic=-1",
        "uml_dir=guest/",  # its pid file, by default in ~/.uml and left there by a kill
        f"init={sys.executable}",
    ]
    if options.clock == "virtual":
        words += ["time-travel=inf-cpu", f"time-travel-start={START_NS}", f"random.seed={options.seed}"]
    words += [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    if options.control_groups:
        words += [f"{cgroup.VARIABLE}={cgroup.OF_GUEST}"]
    words += [f"PYTHONPATH={PROJECT}"]
    return [*words, "--", "-m", "testbed.kernel.init", director]


def run_guest(
    kernel: Path,
    run_folder: Path,
    director: str,
    options: GuestOptions,
    each_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run a guest to its end. Raises GuestFailed when it panics, hangs past its limit or is killed."""
    for path in (PROJECT, Path(sys.executable)):
        if " " in str(path):
            raise GuestFailed(f"the path {path} has a space in it, which a kernel command line can't hold", "")
    compile_ahead(PROJECT)
    console = run_folder / CONSOLE
    with claimed() as cpu, console.open("wb") as output:
        process = subprocess.Popen(
            contained(command(kernel, director, options), private_network=False),
            cwd=run_folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": _memory_folder(run_folder, options.memory)},
            preexec_fn=dies_with_parent({cpu}),  # noqa: PLW1509  one system call each, no locks
        )
        watch(process, options.wall_limit_s, each_poll, console)


def watch(
    process: "subprocess.Popen[bytes]", wall_limit_s: float, each_poll: Callable[[], None], console: Path
) -> None:
    """Wait for the first process of a sandbox; whatever happens here, it has ended when this returns."""
    try:
        _await_end(process, wall_limit_s, each_poll, console)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _await_end(
    process: "subprocess.Popen[bytes]", wall_limit_s: float, each_poll: Callable[[], None], console: Path
) -> None:
    started = monotonic()
    while process.poll() is None:
        if monotonic() - started > wall_limit_s:
            raise GuestFailed(f"the guest did not end within {wall_limit_s:.0f} s and was stopped", tail(console))
        _raise_on_panic(console)  # a panicked guest does not always end by itself
        each_poll()
        sleep(POLL_S)
    each_poll()
    _raise_on_panic(console)
    if process.returncode:
        what = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        raise GuestFailed(f"the guest ended with {what}", tail(console))


def _raise_on_panic(console: Path) -> None:
    """The kernel's own reason, and what came before it; the stack that follows stays in the file."""
    before, panic, after = tail(console, PANIC_LINES).partition(PANIC)
    if panic and "\n" in after:
        last = "\n".join(before.splitlines()[-TAIL_LINES:])
        raise GuestFailed(f"the guest's kernel panicked: {after.splitlines()[0]}", last)


def tail(console: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a guest's console."""
    with console.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 200 * lines))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _memory_folder(run_folder: Path, memory: str) -> str:
    """Where the guest's memory lives: in memory if it fits there, else beside the results."""
    size = int(memory[:-1]) * {"M": 2**20, "G": 2**30}[memory[-1]]
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free >= size:
        return str(shared)
    return str(run_folder.absolute())
