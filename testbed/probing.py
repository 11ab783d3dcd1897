"""The frames that probe delays: made once, before the run, for scapy takes seconds to load in a guest.

An Ethernet type for experiments, and addresses that nobody has: switches forward the frames nowhere, hosts ignore them.
"""

import json
from pathlib import Path

from testbed.plan import Plan

FRAMES_FILE = "probes.json"
NUMBER_AT, NUMBER_BYTES = 14, 8  # the probe's number, big-endian, right behind the Ethernet header
ETHERTYPE = 0x88B5
FRAME_BYTES = 60
SWITCH, NOBODY = "02:ff:00:00:00:01", "02:ff:00:00:00:02"


def save_frames(plan: Plan, folder: Path) -> None:
    """One for each host, from its own address, and one under "" for all switches."""
    sources = {"": SWITCH, **{host.name: host.mac for host in plan.hosts}}
    (folder / FRAMES_FILE).write_text(json.dumps({name: frame(source).hex() for name, source in sources.items()}))


def read_frames(folder: Path) -> dict[str, bytes]:
    raw = json.loads((folder / FRAMES_FILE).read_text())
    return {name: bytes.fromhex(text) for name, text in raw.items()}


def frame(source: str) -> bytes:
    """A frame of FRAME_BYTES with number 0, from the hardware address `source`."""
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    made = bytes(Ether(src=source, dst=NOBODY, type=ETHERTYPE) / Raw(bytes(FRAME_BYTES - NUMBER_AT)))
    assert len(made) == FRAME_BYTES
    return made
