"""netem over netlink: the whole option set in one message, and the same set read back.

A netem change resets whatever is left out, so a shape is always sent whole. The 64-bit attributes are used for
delay and rate: the 32-bit ones round delays to scheduler ticks and end at 34 Gbit/s.
Attribute numbers and layouts: linux/pkt_sched.h, TCA_NETEM_*.
"""

from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import nla
from pyroute2.netlink.rtnl import TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import plugins

from testbed.plan import Shape

parent = TC_H_ROOT  # read by pyroute2 from each qdisc plugin
HANDLE = 0x10000
MAX_U32 = 0xFFFFFFFF


class options(nla):  # the name pyroute2 looks for
    nla_map = (
        ("TCA_NETEM_UNSPEC", "none"),
        ("TCA_NETEM_CORR", "hex"),
        ("TCA_NETEM_DELAY_DIST", "hex"),
        ("TCA_NETEM_REORDER", "hex"),
        ("TCA_NETEM_CORRUPT", "hex"),
        ("TCA_NETEM_LOSS", "hex"),
        ("TCA_NETEM_RATE", "netem_rate"),
        ("TCA_NETEM_ECN", "uint32"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "hex"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
        ("TCA_NETEM_SLOT", "hex"),
        ("TCA_NETEM_SLOT_DIST", "hex"),
        ("TCA_NETEM_PRNG_SEED", "uint64"),
    )
    fields = (
        ("latency", "I"),
        ("limit", "I"),
        ("loss", "I"),
        ("gap", "I"),
        ("duplicate", "I"),
        ("jitter", "I"),
    )

    class netem_rate(nla):
        fields = (("rate", "I"), ("packet_overhead", "i"), ("cell_size", "I"), ("cell_overhead", "i"))


def get_parameters(kwarg: dict[str, Any]) -> dict[str, Any]:
    """Called by pyroute2: the message of a `Shape` (argument `shape`) and an optional `seed`."""
    shape: Shape = kwarg["shape"]
    rate_bytes = shape.rate_bps // 8
    attrs: list[tuple[str, Any]] = [
        ("TCA_NETEM_LATENCY64", shape.delay_us * 1000),
        ("TCA_NETEM_JITTER64", shape.jitter_us * 1000),
        ("TCA_NETEM_RATE64", rate_bytes),
        (
            "TCA_NETEM_RATE",
            {"rate": min(rate_bytes, MAX_U32), "packet_overhead": 0, "cell_size": 0, "cell_overhead": 0},
        ),
    ]
    if kwarg.get("seed") is not None:
        attrs.append(("TCA_NETEM_PRNG_SEED", kwarg["seed"]))
    return {
        "latency": 0,
        "limit": shape.queue_packets,
        "loss": _share(shape.loss_ppm),
        "gap": 0,
        "duplicate": 0,
        "jitter": 0,
        "attrs": attrs,
    }


def _share(ppm: int) -> int:
    """Parts per million as the kernel's share of 2^32 - 1."""
    return round(ppm * MAX_U32 / 1_000_000)


plugins["netem"] = __import__("sys").modules[__name__]


def add(netlink: IPRoute, index: int, shape: Shape, seed: int | None = None) -> None:
    netlink.tc("add", "netem", index, handle=HANDLE, parent=TC_H_ROOT, shape=shape, seed=seed)


def change(netlink: IPRoute, index: int, shape: Shape) -> None:
    """In place: what is queued stays queued."""
    netlink.tc("change", "netem", index, handle=HANDLE, parent=TC_H_ROOT, shape=shape)


def read(netlink: IPRoute, index: int) -> Shape | None:
    """What the kernel holds on an interface; None when it has no netem at its root."""
    for qdisc in netlink.get_qdiscs(index=index):
        if qdisc.get_attr("TCA_KIND") != "netem" or qdisc["handle"] != HANDLE:
            continue
        held = qdisc.get_attr("TCA_OPTIONS")
        rate = held.get_attr("TCA_NETEM_RATE64") or held.get_attr("TCA_NETEM_RATE")["rate"]
        return Shape(
            rate_bps=rate * 8,
            delay_us=held.get_attr("TCA_NETEM_LATENCY64") // 1000,
            jitter_us=held.get_attr("TCA_NETEM_JITTER64") // 1000,
            loss_ppm=round(held["loss"] * 1_000_000 / MAX_U32),
            queue_packets=held["limit"],
        )
    return None


def same(asked: Shape, held: Shape | None) -> bool:
    """Whether the kernel holds what was asked; netem counts rates in whole bytes per second."""
    return held is not None and held == Shape(
        rate_bps=asked.rate_bps // 8 * 8,
        delay_us=asked.delay_us,
        jitter_us=asked.jitter_us,
        loss_ppm=asked.loss_ppm,
        queue_packets=asked.queue_packets,
    )
