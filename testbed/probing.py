"""The frames that probe delays: made once, before the run, for scapy takes seconds to load in a guest.

An Ethernet type for experiments, and addresses that nobody has: switches forward the frames nowhere, hosts ignore them.
scapy keeps files of its own in the user's home, so it runs in a process whose home is a folder of the run's.

Run as `python -m testbed.probing ADDRESS...`: prints {address: frame in hexadecimal}.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed.kernel.sandbox import dies_with_parent
from testbed.plan import Plan

FRAMES_FILE = "probes.json"
NUMBER_AT, NUMBER_BYTES = 14, 8  # the probe's number, big-endian, right behind the Ethernet header
ETHERTYPE = 0x88B5
FRAME_BYTES = 60
SWITCH, NOBODY = "02:ff:00:00:00:01", "02:ff:00:00:00:02"


def save_frames(plan: Plan, folder: Path) -> None:
    """One for each host, from its own address, and one under "" for all switches. Raises CalledProcessError."""
    sources = {"": SWITCH, **{host.name: host.mac for host in plan.hosts}}
    with tempfile.TemporaryDirectory(prefix="scapy-", dir=folder) as home:
        done = subprocess.run(
            [sys.executable, "-m", "testbed.probing", *sources.values()],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
            preexec_fn=dies_with_parent(),
        )
    made = json.loads(done.stdout)
    (folder / FRAMES_FILE).write_text(json.dumps({name: made[source] for name, source in sources.items()}))


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


if __name__ == "__main__":
    json.dump({source: frame(source).hex() for source in sys.argv[1:]}, sys.stdout)
