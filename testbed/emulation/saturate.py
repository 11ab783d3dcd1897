"""Keeps the queue of a link direction from ever being empty: full frames, handed to its interface as they fit.

They are for nobody, like probes, and end at the other end of their link; no path of the network is needed.
"""

import socket
import threading
import time
from contextlib import nullcontext

from testbed.network.gauge import Key
from testbed.network.host import NetlinkHost
from testbed.network.namespace import inside
from testbed.network.network import Network

FRAME_BYTES = 1514
ETHERTYPE = 0x88B6  # for experiments, but not that of probes
REFILL = 8  # parts of the queue: when one is free it is filled up


class Saturator:
    """From `start` to `stop`, in a thread of its own. `frame`: a probe's, for its addresses."""

    def __init__(self, network: Network, key: Key, frame: bytes) -> None:
        link, direction = network.links[key[0]], key[1]
        interface, shape = link.interface(direction), link.asked[direction]
        host = isinstance(interface.node, NetlinkHost)
        with inside(interface.node.netns) if host else nullcontext():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.where = interface.name, 0
        self.frame = frame[:12] + ETHERTYPE.to_bytes(2, "big") + bytes(FRAME_BYTES - 14)
        self.pause_s = min(0.1, shape.queue_packets / REFILL * FRAME_BYTES * 8 / shape.rate_bps)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.socket.close()

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.socket.sendto(self.frame, self.where)
            except OSError:  # the queue is full; netem lets go of a sender's buffer at once, so that it never blocks
                time.sleep(self.pause_s)
