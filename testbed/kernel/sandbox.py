"""What holds every process of a run: one pid namespace whose first process dies with the testbed.

Nothing is cleaned up after a `kill -9`, because nothing can be left: the kernel ends the namespace as a whole.
"""

import os
import resource
from collections.abc import Callable, Iterable

from nodes.belonging import die_with


def contained(command: list[str], *, private_network: bool) -> list[str]:
    """The command as the first process of a pid namespace of its own.

    `private_network` also gives it network and mount namespaces: what the host kernel needs and a guest does not.
    An ordinary user becomes root of a user namespace.
    """
    words = ["unshare", "--pid", "--fork", "--kill-child=KILL"]
    if os.getuid() != 0:
        words += ["--user", "--map-root-user"]
    if private_network:
        words += ["--net", "--mount", "--mount-proc", "--propagation=private"]
    return [*words, "--", *command]


def dies_with_parent(cpus: Iterable[int] | None = None) -> Callable[[], None]:
    """For `Popen(preexec_fn=...)`: the child is killed when this thread's process ends, however it ends.

    It may also open as many files as the machine lets it: a guest holds a host file open for each that it has cached.
    """
    parent = os.getpid()
    allowed = None if cpus is None else set(cpus)

    def prepare() -> None:
        die_with(parent)
        os.setpgrp()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if allowed:
            os.sched_setaffinity(0, allowed)

    return prepare
