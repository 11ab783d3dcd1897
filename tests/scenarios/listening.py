"""The ordinary director with an ear on every link: what of the pictures and the answers can be read there.

Writes `heard.json`: link -> {"tcp_bytes": how many were seen, "input": how many different windows of the inputs' bytes
were found, "answer": how many answers}.
"""

import json
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodes.prepare import tensorfile
from testbed.emulation import director
from testbed.network.host import NetlinkHost
from testbed.network.link import ShapedLink
from testbed.network.network import Network, running_network
from testbed.plan import Plan

ETH_P_ALL, SO_RCVBUFFORCE = 0x0003, 33
BUFFER_BYTES = 64 << 20
WINDOW_BYTES, WINDOWS = 64, 8  # of each input
LOOK_S = 0.2


class Ear:
    """Puts each direction of each TCP connection together, so that a window across two segments is found too."""

    def __init__(self, windows: dict[str, list[bytes]]) -> None:
        self.windows = windows
        self.tcp_bytes = 0
        self.found: dict[str, set[int]] = {what: set() for what in windows}
        self.flows: dict[bytes, tuple[int, bytes]] = {}  # next number, last bytes

    def hear(self, frame: bytes) -> None:
        if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        tcp = 14 + (frame[14] & 15) * 4
        end = 14 + int.from_bytes(frame[16:18], "big")
        data = frame[tcp + (frame[tcp + 12] >> 4) * 4 : end]
        if not data:
            return
        self.tcp_bytes += len(data)
        flow, (number,) = frame[26:34] + frame[tcp : tcp + 4], struct.unpack_from("!I", frame, tcp + 4)
        follows, before = self.flows.get(flow, (number, b""))
        text = before + data if number == follows else data
        self.flows[flow] = (number + len(data)) % 2**32, text[-WINDOW_BYTES + 1 :]
        for what, windows in self.windows.items():
            self.found[what] |= {n for n, window in enumerate(windows) if window in text}


def windows(plan: Plan) -> dict[str, list[bytes]]:
    """Bytes of the inputs at even distances, and all bytes of the answers, none of which are alike."""
    found: dict[str, list[bytes]] = {"input": [], "answer": []}
    for model in plan.models:
        held = tensorfile.read(Path(model.answers_file))
        for i in range(model.inputs):
            data = bytes(held[f"input.{i}"].data.cast("B"))
            each = (len(data) - WINDOW_BYTES) // WINDOWS
            found["input"] += [data[n * each : n * each + WINDOW_BYTES] for n in range(WINDOWS)]
            found["answer"].append(bytes(held[f"answer.{i}"].data.cast("B")))
    return {what: [one for one in all_ if len(set(one)) > 8] for what, all_ in found.items()}


def _tap(link: ShapedLink) -> socket.socket:
    """On the switch's end, where both directions pass."""
    end = next(end for end in (link.intf1, link.intf2) if not isinstance(end.node, NetlinkHost))
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    tap.bind((end.name, ETH_P_ALL))
    tap.setblocking(False)
    return tap


@contextmanager
def listening(plan: Plan, *arguments: Any) -> Iterator[Network]:
    with running_network(plan, *arguments) as network:
        sought, over = windows(plan), threading.Event()
        ears = {name: Ear(sought) for name in network.links}
        selector = selectors.DefaultSelector()
        for name, link in network.links.items():
            selector.register(_tap(link), selectors.EVENT_READ, ears[name])
        thread = threading.Thread(target=_listen, args=(selector, over))
        thread.start()
        try:
            yield network
        finally:
            over.set()
            thread.join()
        heard = {
            name: {"tcp_bytes": ear.tcp_bytes, **{what: len(found) for what, found in ear.found.items()}}
            for name, ear in ears.items()
        }
        (Path.cwd() / "heard.json").write_text(json.dumps({"sought": {w: len(s) for w, s in sought.items()}, **heard}))


def _listen(selector: selectors.BaseSelector, over: threading.Event) -> None:
    while not over.is_set():
        for key, _ in selector.select(LOOK_S):
            try:
                while frame := key.fileobj.recv(1 << 16):
                    key.data.hear(frame)
            except BlockingIOError:
                continue


def main(run_folder: Path) -> None:
    director.running_network = listening
    director.main(run_folder)
