import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodes.zygote import FAILED, Exit, Spawner, SpawnError
from tests.unit.sockets import opened

ROOT = Path(__file__).parents[2]
MAINS = """
import os, signal, socket, sys, threading, time
from pathlib import Path
from nodes import zygote

def main(config):
    print("hello from", config["name"])
    match config["do"]:
        case "return": return config["code"]
        case "raise": raise RuntimeError("it broke")
        case "exit": sys.exit(5)
        case "die": os.kill(os.getpid(), signal.SIGTERM)
        case "wait": signal.pause()
        case "look":
            print("files", sorted(int(f.name) for f in Path("/proc/self/fd").iterdir())[:3])
            print("netns", Path("/proc/self/ns/net").stat().st_ino)
            print("links", sorted(name for _, name in socket.if_nameindex()))
            print("modules", "colorsys" in sys.modules, "threads", threading.active_count())
            print("signals", signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        case "grpc":
            import grpc
            with grpc.insecure_channel("unix:/nowhere") as channel:
                try:
                    channel.unary_unary("/a/b")(b"", timeout=60)
                except grpc.RpcError as error:
                    print("code", error.code().name)

signal.signal(signal.SIGTERM, lambda *_: None)
if sys.argv[2] == "threads":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
zygote.serve(Path(sys.argv[1]), main, ["colorsys", "grpc", "numpy"])
"""


@contextlib.contextmanager
def running(folder, mode="plain"):
    path = folder / "z.sock"
    process = subprocess.Popen([sys.executable, "-c", MAINS, str(path), mode], cwd=ROOT)
    try:
        spawner = opened(lambda: Spawner(path, 60))
        try:
            yield process, spawner
        finally:
            spawner.close()
            process.wait(60)
    finally:
        process.kill()
        process.wait()


def spawn(spawner, folder, name, do, netns=None, **config):
    log = folder / f"{name}.log"
    return spawner.spawn(name, netns=netns, log=log, config={"name": name, "do": do, **config}), log


def gone(pid):
    """Ended; whether its new parent has noticed is not ours to wait for."""
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_exits_are_reported_by_name(tmp_path):
    with running(tmp_path) as (_, spawner):
        pids = {}
        for name, do in [("a", "return"), ("b", "raise"), ("c", "exit"), ("d", "die")]:
            pids[name], _ = spawn(spawner, tmp_path, name, do, code=3)
        exits = []
        while len(exits) < 4:
            exits += spawner.exits(60)
        assert sorted(exits, key=lambda e: e.name) == [
            Exit("a", pids["a"], 3),
            Exit("b", pids["b"], FAILED),
            Exit("c", pids["c"], 5),
            Exit("d", pids["d"], -signal.SIGTERM),
        ]
        assert spawner.exits() == []
        assert "RuntimeError: it broke" in (tmp_path / "b.log").read_text()
        assert "hello from a" in (tmp_path / "a.log").read_text()


def test_a_child_is_clean_and_preloaded(tmp_path):
    with running(tmp_path) as (_, spawner):
        _, log = spawn(spawner, tmp_path, "a", "look")
        assert spawner.exits(60)[0].code == 0
    text = log.read_text()
    assert "modules True threads 1" in text and "signals True" in text
    assert f"netns {Path('/proc/self/ns/net').stat().st_ino}" in text


def test_grpc_works_in_a_child(tmp_path):
    with running(tmp_path) as (_, spawner):
        _, log = spawn(spawner, tmp_path, "a", "grpc")
        assert spawner.exits(60)[0].code == 0
    assert "code UNAVAILABLE" in log.read_text()


def test_children_die_with_the_zygote_and_it_with_its_owner(tmp_path):
    with running(tmp_path) as (process, spawner):
        pid, _ = spawn(spawner, tmp_path, "a", "wait")
        spawner.close()
        assert process.wait(60) == 0
        assert gone(pid)


def test_children_die_with_a_killed_zygote(tmp_path):
    with running(tmp_path) as (process, spawner):
        pid, _ = spawn(spawner, tmp_path, "a", "wait")
        process.kill()
        assert gone(pid)
        with pytest.raises(SpawnError, match="has ended"):
            spawner.exits(60)


def test_a_child_enters_the_namespace_it_is_told(tmp_path):
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("entering a network namespace needs root and unshare")
    holder = subprocess.Popen([unshare, "--net", "sleep", "30"])
    try:
        mine = Path("/proc/self/ns/net").stat().st_ino
        for _ in range(3000):
            if Path(f"/proc/{holder.pid}/ns/net").stat().st_ino != mine:
                break
            time.sleep(0.02)
        else:
            pytest.skip("this machine does not let root make a network namespace")
        with running(tmp_path) as (_, spawner):
            _, log = spawn(spawner, tmp_path, "a", "look", netns=holder.pid)
            assert spawner.exits(60)[0].code == 0
            assert f"netns {Path(f'/proc/{holder.pid}/ns/net').stat().st_ino}" in log.read_text()
            spawn(spawner, tmp_path, "b", "look", netns="/nowhere")
            assert spawner.exits(60)[0].code == FAILED
            assert "No such file" in (tmp_path / "b.log").read_text()
    finally:
        holder.kill()
        holder.wait()


def test_a_parent_with_threads_does_not_fork(tmp_path):
    with running(tmp_path, "threads") as (_, spawner), pytest.raises(SpawnError, match="2 threads"):
        spawn(spawner, tmp_path, "a", "return", code=0)
