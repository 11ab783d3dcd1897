import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from controller.sdn import core
from controller.sdn import linkstate_pb2 as pb
from controller.sdn import linkstate_pb2_grpc as pb_grpc
from controller.sdn.__main__ import arguments
from controller.sdn.graph import Counters, Graph, Host, Link, Port
from controller.sdn.paths import choose
from controller.sdn.server import HISTORY, Board, SocketUnusable, report, serve


def active() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_watcher_gets_every_report_with_its_changes() -> None:
    board = Board()
    for t_us in (1, 2, 3):
        board.publish(pb.Report(t_us=t_us, changes=[f"c{t_us}"]))
    stream = board.watch(0, active())
    assert [(r.t_us, list(r.changes)) for r in (next(stream), next(stream), next(stream))] == [
        (1, ["c1"]),
        (2, ["c2"]),
        (3, ["c3"]),
    ]


def test_slower_watcher_loses_reports_but_no_changes() -> None:
    board = Board()
    for second in range(7):
        board.publish(pb.Report(t_us=second * 1_000_000, changes=[str(second)]))
    stream = board.watch(3_000_000, active())
    assert [(r.t_us // 1_000_000, list(r.changes)) for r in (next(stream), next(stream), next(stream))] == [
        (0, ["0"]),
        (3, ["1", "2", "3"]),
        (6, ["4", "5", "6"]),
    ]


def test_history_is_bounded_and_a_leaving_watcher_ends() -> None:
    board, here = Board(), active()
    for t_us in range(HISTORY + 10):
        board.publish(pb.Report(t_us=t_us))
    stream = board.watch(0, here)
    assert next(stream).t_us == 10
    here.clear()
    board.wake()
    assert len(list(stream)) == HISTORY - 1


def test_report_says_all_that_is_known() -> None:
    ports = {at: Port(at, f"s{at[0]}-eth{at[1]}", True) for at in ((1, 1), (2, 1), (1, 2), (2, 2))}
    ports[1, 1] = Port((1, 1), "s1-eth1", True, Counters(5, 10, 20, 1, 2), tx_bps=80, rx_bps=160)
    links = {(1, 1): Link((1, 1), (2, 1), 700, 900, 0), (2, 1): Link((2, 1), (1, 1), 400, 400, 0, fresh=False)}
    hosts = {"a": Host("a", "10.0.0.1", (1, 2)), "b": Host("b", "", (2, 2))}
    graph = Graph({1: 0, 2: 0}, ports, links, hosts)
    state = core.State(4_000_000, graph, choose(graph, {}), {1: frozenset()}, ("link lost",))
    seen = report(state, 42)
    assert (seen.t_us, seen.flows, list(seen.changes)) == (42, 0, ["link lost"])
    assert [(x.from_dpid, x.to_port, x.latency_us, x.raw_latency_us, x.up) for x in seen.links] == [
        (1, 1, 700, 900, True),
        (2, 1, 400, 400, False),
    ]
    assert (seen.ports[0].tx_bps, seen.ports[0].rx_bytes, seen.ports[0].rx_dropped) == (80, 20, 2)
    assert [(h.mac, h.ip, h.dpid, h.port) for h in seen.hosts] == [("a", "10.0.0.1", 1, 2), ("b", "", 2, 2)]
    assert [(p.from_mac, p.to_mac, list(p.dpids), p.latency_us) for p in seen.paths] == [("a", "b", [1, 2], 700)]


def test_watch_over_a_unix_socket(tmp_path: Path) -> None:
    board = Board()
    server = serve(board, tmp_path / "x.sock")
    try:
        with grpc.insecure_channel(f"unix:{tmp_path}/x.sock") as channel:
            stub = pb_grpc.LinkStateStub(channel)
            board.publish(pb.Report(t_us=7))
            stream = stub.Watch(pb.WatchRequest(period_s=0), timeout=60)
            assert next(stream).t_us == 7
            stream.cancel()
            with pytest.raises(grpc.RpcError) as refused:
                next(stub.Watch(pb.WatchRequest(period_s=-1), timeout=60))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        server.stop(grace=None).wait()


def test_unusable_socket_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(SocketUnusable, match="folder"):
        serve(Board(), tmp_path / "absent" / "x.sock")


def test_arguments() -> None:
    options = arguments(["--openflow", "127.0.0.1:7000", "--socket", "x", "--period", "0.5"])
    assert (options.openflow, options.socket, options.period) == (("127.0.0.1", 7000), Path("x"), 0.5)


@pytest.mark.parametrize("bad", ["--period=0", "--period=nan", "--period=x", "--openflow=host", "--openflow=h:70000"])
def test_bad_arguments_exit_with_2(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(["--socket", "x", bad])
    assert ended.value.code == 2
    assert "write" in capsys.readouterr().err


def test_taken_port_ends_the_process_with_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "controller.sdn", "--openflow", address, "--socket", str(tmp_path / "x.sock")]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
        )
    assert done.returncode == 2
    assert f"cannot listen for switches on {address}" in done.stderr
