"""Mininet nodes without a shell until a command wants one, and namespaces without a process of their own.

Mininet keeps a shell in every node, for hosts the one that holds the namespace: three programs started for each. Here
a thread of this process holds it. Its number is the node's `pid`: the kernel and `mnexec` take it for that.
"""

import os
import threading
from concurrent.futures import Future
from typing import Any

from mininet.node import Node

from nodes.belonging import new_netns

STACK_BYTES = 128 * 1024


class QuietNode(Node):
    """In front of a Mininet node class; `cmd` and `sendCmd` start the shell."""

    inNamespace: bool  # Mininet's name

    def startShell(self, mnopts: str | None = None) -> None:  # noqa: ARG002  Mininet's name; it is called at the start
        self.pid = hold_netns() if self.inNamespace else os.getpid()

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        self._need_shell()
        return super().cmd(*args, **kwargs)

    def sendCmd(self, *args: Any, **kwargs: Any) -> Any:
        self._need_shell()
        return super().sendCmd(*args, **kwargs)

    def _need_shell(self) -> None:
        if self.shell is not None:
            return
        home, in_namespace = self.pid, self.inNamespace
        self.inNamespace = False  # else a new one is made
        super().startShell(f"-cda{home}" if in_namespace else "-cd")
        self.pid, self.inNamespace = home, in_namespace


def hold_netns() -> int:
    """A new network namespace that lives as long as this process; the thread that is in it. Raises OSError."""
    number: Future[int] = Future()

    def hold() -> None:
        try:
            new_netns()
        except OSError as error:
            number.set_exception(error)
            return
        number.set_result(threading.get_native_id())
        threading.Event().wait()

    before = threading.stack_size(STACK_BYTES)
    try:
        threading.Thread(target=hold, name="netns", daemon=True).start()
    finally:
        threading.stack_size(before)
    return number.result()
