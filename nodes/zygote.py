"""A preloaded parent that forks one process per host into the host's network namespace.

The parent imports what every host needs once and shares it copy-on-write. It talks over a Unix stream socket, one
JSON object a line, with one owner: commands {"name", "netns", "log", "config"} in; {"event": "spawned", "name",
"pid"}, {"event": "refused", "name", "why"} and {"event": "exit", "name", "pid", "code"} out.

Rules: the parent has one thread (gRPC is imported, never started, before a fork); when its owner goes, it goes; when
it goes, the kernel kills the children.

    zygote: serve(path, main, ["grpc", "torch", "nodes.host"])      owner: Spawner(path).spawn("mec", netns=pid, ...)
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nodes.belonging import die_with, enter_netns

LINE_MAX_BYTES = 16 << 20
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FAILED = 70  # exit code of a child whose main raised; the log says what

Main = Callable[[Mapping[str, Any]], int | None]


class SpawnError(Exception):
    """The zygote could not or would not start a host."""


def preload(modules: Sequence[str]) -> None:
    """Imports with thread pools off: a fork copies one thread only."""
    for name in THREAD_LIMITS:
        os.environ[name] = "1"
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a peer that ends is no news
    for module in modules:
        importlib.import_module(module)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # else the collector writes into shared pages


def serve(path: Path, main: Main, modules: Sequence[str]) -> None:
    """Preloads, then forks for the first owner that connects, until it disconnects."""
    preload(modules)
    before = os.umask(0o177)
    made = path.with_name(f"{path.name}.made")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(made))
        os.umask(before)
        listener.listen(1)
        made.rename(path)  # whoever finds it can connect
        owner, _ = listener.accept()
    path.unlink()
    with owner:
        _Parent(owner, main).run()


class _Parent:
    def __init__(self, owner: socket.socket, main: Main) -> None:
        self._owner = owner
        self._main = main
        self._selector = selectors.DefaultSelector()
        self._selector.register(owner, selectors.EVENT_READ)
        self._received = b""

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._owner:
                    if not self._read():
                        return
                else:
                    self._reap(key.fd, *key.data)

    def _read(self) -> bool:
        """Obeys whole lines; False: the owner is gone."""
        data = self._owner.recv(1 << 16)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._spawn(json.loads(line))
        return bool(data) and len(self._received) < LINE_MAX_BYTES

    def _spawn(self, command: Mapping[str, Any]) -> None:
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads != 1:
            self._say(event="refused", name=command["name"], why=f"the zygote has {threads} threads, 1 can be forked")
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(command, self._main, parent)
        pidfd = os.pidfd_open(pid)
        self._selector.register(pidfd, selectors.EVENT_READ, (command["name"], pid))
        self._say(event="spawned", name=command["name"], pid=pid)

    def _reap(self, pidfd: int, name: str, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._say(event="exit", name=name, pid=pid, code=os.waitstatus_to_exitcode(status))

    def _say(self, **event: Any) -> None:
        self._owner.sendall(json.dumps(event).encode() + b"\n")


def _child(command: Mapping[str, Any], main: Main, parent: int) -> NoReturn:
    """Never returns into the parent's code."""
    code = FAILED
    try:
        _redirect(Path(command["log"]))
        die_with(parent)
        _reset_signals()
        _close_files()
        _move_to(command["netns"])
        code = main(command["config"]) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILED
    except BaseException:  # the process's entry point: whatever it was is in the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in ((0, null), (1, file), (2, file)):
        os.dup2(source, target)
    # the parent's stream objects may be somebody else's capture
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _close_files() -> None:
    """The owner's socket and the handles of siblings; sys.modules keep none open."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 16 else 1 << 16)


def _move_to(where: int | str | None) -> None:
    """The network namespace of a process id, at a path, or None to stay; raises OSError."""
    if where is None:
        return
    with Path(f"/proc/{where}/ns/net" if isinstance(where, int) else where).open("rb") as namespace:
        enter_netns(namespace.fileno())


@dataclass(frozen=True, slots=True)
class Exit:
    name: str
    pid: int
    code: int  # negative: minus the signal


class Spawner:
    """The owner's end; closing it ends the zygote and all hosts. For one thread."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._socket.connect(str(path))
        self._received = b""
        self._exits: list[Exit] = []

    def spawn(self, name: str, *, netns: int | str | None, log: Path, config: Mapping[str, Any]) -> int:
        """The process id of the host; raises `SpawnError`."""
        command = {"name": name, "netns": netns, "log": str(log), "config": config}
        self._socket.sendall(json.dumps(command).encode() + b"\n")
        while True:
            event = self._next(self._timeout_s)
            if event is None:
                raise SpawnError(f"{name}: the zygote does not answer")
            if event["event"] == "refused":
                raise SpawnError(f"{name}: {event['why']}")
            if event["event"] == "spawned":
                return int(event["pid"])
            self._exits.append(Exit(event["name"], event["pid"], event["code"]))

    def exits(self, timeout_s: float | None = 0) -> list[Exit]:
        """Hosts that have ended since the last call; waits for one when there is none. None: as long as it takes."""
        while not self._exits or timeout_s == 0:
            event = self._next(timeout_s)
            if event is None:
                break
            self._exits.append(Exit(event["name"], event["pid"], event["code"]))
        exits, self._exits = self._exits, []
        return exits

    def fileno(self) -> int:
        """For a selector: readable when a host has ended."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _next(self, timeout_s: float | None) -> dict[str, Any] | None:
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._received:
            try:
                data = self._socket.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if not data:
                raise SpawnError("the zygote has ended")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        event: dict[str, Any] = json.loads(line)
        return event
