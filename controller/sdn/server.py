"""LinkState over a Unix socket: every watcher gets each report, at its own pace.

Rules: reports are kept in a short bounded history; a watcher that is slower than that loses the oldest.
Watchers block on a condition, never on the clock.
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from controller.sdn import linkstate_pb2 as pb
from controller.sdn import linkstate_pb2_grpc as pb_grpc
from controller.sdn.core import State
from controller.sdn.graph import Counters
from controller.sdn.paths import latency_us

HISTORY = 64  # reports
WATCHERS_MAX = 4
PATHS_MAX = 4096  # of a report
CHANGES_MAX = 1024  # of a report
_NO_COUNTERS = Counters(0, 0, 0, 0, 0)


class SocketUnusable(Exception):
    """The Unix socket could not be bound: its folder must exist and be writable, its path shorter than 108 bytes."""


class Board:
    """Where the application puts its reports and watchers wait for them."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._reports: deque[tuple[int, pb.Report]] = deque(maxlen=HISTORY)
        self._count = 0

    def publish(self, report: pb.Report) -> None:
        with self._news:
            self._count += 1
            self._reports.append((self._count, report))
            self._news.notify_all()

    def _after(self, seen: int, active: threading.Event) -> tuple[int, list[pb.Report]]:
        """Waits for reports behind number `seen`; returns the newest number and those still in the history."""
        with self._news:
            self._news.wait_for(lambda: self._count > seen or not active.is_set())
            return self._count, [report for number, report in self._reports if number > seen]

    def wake(self) -> None:
        """Lets every waiting watcher see that its caller may have gone."""
        with self._news:
            self._news.notify_all()

    def watch(self, period_us: int, active: threading.Event) -> Iterator[pb.Report]:
        """Reports at least `period_us` apart (0: every one), until `active` is cleared; changes in between are kept."""
        seen, last_us, changes = 0, None, deque[str](maxlen=CHANGES_MAX)
        while active.is_set():
            seen, news = self._after(seen, active)
            for report in news:
                changes.extend(report.changes)
                # an eighth of a period of slack: reports jitter a little against the watcher's period
                if last_us is None or period_us == 0 or report.t_us - last_us > period_us - period_us // 8:
                    last_us = report.t_us
                    merged = pb.Report()
                    merged.CopyFrom(report)
                    merged.changes[:] = list(changes)
                    changes.clear()
                    yield merged


class LinkState(pb_grpc.LinkStateServicer):
    def __init__(self, board: Board) -> None:
        self._board = board

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.Report]:
        if not 0 <= request.period_s <= 3600:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "period_s must be between 0 (every report) and 3600")
        active = threading.Event()
        active.set()

        def leave() -> None:
            active.clear()
            self._board.wake()

        if not context.add_callback(leave):
            return
        yield from self._board.watch(round(request.period_s * 1_000_000), active)


def serve(board: Board, socket: Path) -> grpc.Server:
    """A started server on the socket."""
    server = grpc.server(ThreadPoolExecutor(max_workers=WATCHERS_MAX), maximum_concurrent_rpcs=WATCHERS_MAX)
    pb_grpc.add_LinkStateServicer_to_server(LinkState(board), server)
    try:
        server.add_insecure_port(f"unix:{socket.absolute()}")
    except RuntimeError as why:
        raise SocketUnusable(f"{socket}: {why}; is its folder there and writable, its path shorter than 108?") from why
    server.start()
    return server


def report(state: State, now_us: int) -> pb.Report:
    """The whole of what is known, with the changes since they were last taken."""
    graph = state.graph
    out = pb.Report(t_us=now_us, flows=sum(len(table) for table in state.tables.values()), changes=state.changes)
    for _, link in sorted(graph.links.items()):
        out.links.add(
            from_dpid=link.source[0],
            from_port=link.source[1],
            to_dpid=link.target[0],
            to_port=link.target[1],
            latency_us=link.latency_us,
            raw_latency_us=link.raw_us,
            up=graph.link_up(link),
        )
    for (dpid, number), port in sorted(graph.ports.items()):
        totals = port.counters or _NO_COUNTERS
        out.ports.add(
            dpid=dpid,
            port=number,
            name=port.name,
            up=port.up,
            tx_bps=port.tx_bps,
            rx_bps=port.rx_bps,
            tx_bytes=totals.tx_bytes,
            rx_bytes=totals.rx_bytes,
            tx_dropped=totals.tx_dropped,
            rx_dropped=totals.rx_dropped,
        )
    for mac, host in sorted(graph.hosts.items()):
        out.hosts.add(mac=mac, ip=host.ip, dpid=host.at[0], port=host.at[1])
    out.paths.extend(_paths(state))
    return out


def _paths(state: State) -> list[pb.Path]:
    """The path of every ordered pair of hosts that has one, at most PATHS_MAX."""
    hosts = sorted(state.graph.hosts.items())
    found: list[pb.Path] = []
    for mac, host in hosts:
        for other, there in hosts:
            tree = state.trees.get(there.at[0])
            if mac == other or tree is None or host.at[0] not in state.graph.round_trips_us:
                continue
            if len(found) >= PATHS_MAX:
                return found
            dpids = tree.path(host.at[0])
            total_us = latency_us(state.graph, tree, host.at[0])
            if dpids and total_us is not None:
                found.append(pb.Path(from_mac=mac, to_mac=other, dpids=dpids, latency_us=total_us))
    return found
