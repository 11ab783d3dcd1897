"""A run on the host's own kernel: root and netem needed, real time only."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from testbed.kernel import cgroup
from testbed.kernel.guest import CONSOLE, ENVIRONMENT, PROJECT, GuestFailed, GuestOptions, tail, watch
from testbed.kernel.sandbox import contained, dies_with_parent

OPENVSWITCH_MODULE = Path("/sys/module/openvswitch")
# what makes a guest repeatable is not needed here, what keeps threads and memory in hand is
LEFT_OUT = {"PYTHONHASHSEED", "OPENSSL_ia32cap"}


def missing() -> list[str]:
    """What this machine lacks to run an experiment on its own kernel; empty when nothing."""
    lacks = []
    if os.getuid() != 0:
        lacks.append("root: run it as root, or in the virtual machine that `vagrant up` makes")
        return lacks
    probe = contained(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], private_network=True)
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        lacks.append(f"netem in the kernel (`modprobe sch_netem`; tc said: {done.stderr.strip() or done.returncode})")
    return lacks


def datapath() -> Literal["kernel", "user"]:
    """Open vSwitch's: "kernel" where the module is loaded, else "user"."""
    return "kernel" if OPENVSWITCH_MODULE.exists() else "user"


def run_on_host(
    run_folder: Path,
    director: str,
    options: GuestOptions,
    each_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run the director in namespaces of its own. Raises GuestFailed as `run_guest` does."""
    console = run_folder / CONSOLE
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in LEFT_OUT}
    with ExitStack() as stack, console.open("wb") as output:
        if options.control_groups:
            environment[cgroup.VARIABLE] = stack.enter_context(_groups())
        process = subprocess.Popen(
            contained(
                [sys.executable, "-m", "testbed.kernel.hostinit", str(run_folder), director], private_network=True
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "PYTHONPATH": str(PROJECT)},
            preexec_fn=dies_with_parent(),  # noqa: PLW1509  one system call each, no locks
        )
        watch(process, options.wall_limit_s, each_poll, console)
    if "Traceback" in tail(console):
        raise GuestFailed("the director failed", tail(console))


@contextmanager
def _groups() -> Iterator[str]:
    """The control group of this run."""
    try:
        with cgroup.room(cgroup.find()) as name:
            yield name
    except cgroup.NoGroups as why:
        raise GuestFailed(f"no control groups: {why}", "") from why
