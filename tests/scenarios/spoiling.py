"""A calibration of a network that somebody else has changed behind the testbed's back."""

from dataclasses import replace
from pathlib import Path

from testbed.emulation import calibrate
from testbed.network import netem
from testbed.network.network import Network

SLOWER, LATER_US = 0.97, 300  # of its rate; more delay


def spoil(network: Network) -> None:
    for link, direction, change in (
        ("ue1", "up", lambda shape: replace(shape, rate_bps=round(SLOWER * shape.rate_bps))),
        ("edge1", "down", lambda shape: replace(shape, delay_us=shape.delay_us + LATER_US)),
    ):
        interface, shape = network.links[link].interface(direction), network.links[link].asked[direction]
        netem.change(interface.netlink, interface.index, change(shape), shape)


def main(run_folder: Path) -> None:
    calibrate.prepared = spoil
    calibrate.main(run_folder)
