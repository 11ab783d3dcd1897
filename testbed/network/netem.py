"""netem over netlink: the whole option set in one message, and the same set read back.

The kernel keeps some options that a message leaves out and resets others, so a shape is sent whole, but for slots that
stay as they are. The 64-bit
attributes are used for delay and rate: the 32-bit ones round delays to scheduler ticks and end at 34 Gbit/s.

With a rate netem sends no packet before the one that came before it, whatever the jitter. Where jitter may reorder,
the rate is therefore held by a second netem below the first, which delays.
Attribute numbers and layouts: linux/pkt_sched.h, TCA_NETEM_*. Which option does what: docs/links.md.
"""

import sys
from dataclasses import replace
from errno import ENODEV, ENOENT
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_ECHO, NLM_F_REQUEST, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import plugins, tcmsg

from testbed.plan import Distribution, GilbertElliott, Markov, Shape, Slot

parent = TC_H_ROOT  # read by pyroute2 from each qdisc plugin
HANDLE, CLASS = 0x10000, 0x10001
RATE_HANDLE = 0x20000  # of the netem below, where there is one
MAX_U32 = 0xFFFFFFFF
PPM = 1_000_000
NO_LIMIT_PACKETS = 10_000_000  # of the netem below: the one above counts its packets too


class options(nla):  # the name pyroute2 looks for
    nla_map = (
        ("TCA_NETEM_UNSPEC", "none"),
        ("TCA_NETEM_CORR", "hex"),
        ("TCA_NETEM_DELAY_DIST", "cdata"),
        ("TCA_NETEM_REORDER", "netem_share"),
        ("TCA_NETEM_CORRUPT", "netem_share"),
        ("TCA_NETEM_LOSS", "netem_loss"),
        ("TCA_NETEM_RATE", "netem_rate"),
        ("TCA_NETEM_ECN", "uint32"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "hex"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
        ("TCA_NETEM_SLOT", "netem_slot"),
        ("TCA_NETEM_SLOT_DIST", "cdata"),
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

    class netem_share(nla):
        fields = (("share", "I"), ("correlation", "I"))

    class netem_rate(nla):
        fields = (("rate", "I"), ("packet_overhead", "i"), ("cell_size", "I"), ("cell_overhead", "i"))

    class netem_slot(nla):
        fields = (
            ("min_delay", "q"),
            ("max_delay", "q"),
            ("max_packets", "i"),
            ("max_bytes", "i"),
            ("dist_delay", "q"),
            ("dist_jitter", "q"),
        )

    class netem_loss(nla):
        nla_map = (("LOSS_UNSPEC", "none"), ("LOSS_GI", "four_states"), ("LOSS_GE", "two_states"))

        class four_states(nla):
            fields = (("p13", "I"), ("p31", "I"), ("p32", "I"), ("p14", "I"), ("p23", "I"))

        class two_states(nla):
            fields = (("p", "I"), ("r", "I"), ("h", "I"), ("k1", "I"))


def get_parameters(kwarg: dict[str, Any]) -> dict[str, Any]:
    """Called by pyroute2: the message of a `Shape` (argument `shape`), an optional `seed`, the shape `before`."""
    shape: Shape = kwarg["shape"]
    rate_bytes = shape.rate_bps // 8
    attrs: list[tuple[str, Any]] = [
        ("TCA_NETEM_LATENCY64", shape.delay_us * 1000),
        ("TCA_NETEM_JITTER64", shape.jitter_us * 1000),
        (
            "TCA_NETEM_RATE",
            {
                "rate": min(rate_bytes, MAX_U32),
                "packet_overhead": shape.overhead_bytes,
                "cell_size": shape.cell_bytes,
                "cell_overhead": shape.cell_overhead_bytes,
            },
        ),
        ("TCA_NETEM_RATE64", rate_bytes),
        ("TCA_NETEM_REORDER", {"share": _share(shape.reorder_ppm), "correlation": 0}),
        ("TCA_NETEM_CORRUPT", {"share": _share(shape.corrupt_ppm), "correlation": 0}),
    ]
    before: Shape | None = kwarg.get("before")
    if before is None or before.slot != shape.slot:  # kept when left out; sent, it would open a slot at once
        attrs.append(("TCA_NETEM_SLOT", _slot(shape.slot)))
    if shape.jitter_us:  # the kernel keeps a table until it gets another
        attrs.append(("TCA_NETEM_DELAY_DIST", _table(shape.distribution)))
    if shape.slot:
        attrs.append(("TCA_NETEM_SLOT_DIST", _table("uniform")))
    if shape.loss_model:
        attrs.append(("TCA_NETEM_LOSS", {"attrs": [_loss(shape.loss_model)]}))
    if kwarg.get("seed") is not None:
        attrs.append(("TCA_NETEM_PRNG_SEED", kwarg["seed"]))
    return {
        "latency": 0,
        "limit": shape.queue_packets,
        "loss": _share(shape.loss_ppm),
        "gap": shape.reorder_gap,
        "duplicate": _share(shape.duplicate_ppm),
        "jitter": 0,
        "attrs": attrs,
    }


def _share(ppm: int) -> int:
    """Parts per million as the kernel's share of 2^32 - 1."""
    return round(ppm * MAX_U32 / PPM)


def _ppm(share: int) -> int:
    return round(share * PPM / MAX_U32)


def _table(distribution: Distribution) -> bytes:
    from testbed.network.distribution import encoded  # most links have no jitter

    return encoded(distribution)


def _slot(slot: Slot | None) -> dict[str, int]:
    """Drawn from a table, for the seed rules only what is; least and most are there to be read back."""
    if slot is None:
        return dict.fromkeys(("min_delay", "max_delay", "max_packets", "max_bytes", "dist_delay", "dist_jitter"), 0)
    return {
        "min_delay": slot.min_us * 1000,
        "max_delay": slot.max_us * 1000,
        "max_packets": slot.packets,
        "max_bytes": slot.bytes,
        "dist_delay": (slot.min_us + slot.max_us) * 500,
        "dist_jitter": (slot.max_us - slot.min_us) * 500,
    }


def _loss(model: GilbertElliott | Markov) -> tuple[str, dict[str, int]]:
    if isinstance(model, GilbertElliott):
        shares = {"p": model.p_ppm, "r": model.r_ppm, "h": PPM - model.bad_ppm, "k1": model.good_ppm}
        return "LOSS_GE", {name: _share(ppm) for name, ppm in shares.items()}
    names = ("p13", "p31", "p32", "p14", "p23")
    return "LOSS_GI", {name: _share(getattr(model, f"{name}_ppm")) for name in names}


plugins["netem"] = sys.modules[__name__]


def add(netlink: IPRoute, index: int, shape: Shape, seed: int | None = None) -> None:
    """Put it at the root of an interface; `seed` rules all chances that netem draws itself."""
    above, below = _parts(shape)
    netlink.tc("add", "netem", index, handle=HANDLE, parent=TC_H_ROOT, shape=above, seed=seed)
    if shape.jitter_reorders:
        netlink.tc("add", "netem", index, handle=RATE_HANDLE, parent=CLASS, shape=below)


def change(netlink: IPRoute, index: int, shape: Shape, before: Shape) -> None:
    """In place: what is queued stays queued. A netem below stays once it is there, without a rate if need be."""
    above, below = _parts(shape)
    if shape.jitter_reorders or before.jitter_reorders:
        netlink.tc("replace", "netem", index, handle=RATE_HANDLE, parent=CLASS, shape=below)
    netlink.tc("change", "netem", index, handle=HANDLE, parent=TC_H_ROOT, shape=above, before=before)


def _parts(shape: Shape) -> tuple[Shape, Shape]:
    """What the netem at the root holds, and the one below."""
    nothing = Shape(rate_bps=0, delay_us=0, queue_packets=NO_LIMIT_PACKETS)
    if not shape.jitter_reorders:
        return shape, nothing
    return _with_rate_of(shape, nothing), _with_rate_of(nothing, shape)


def _with_rate_of(shape: Shape, other: Shape) -> Shape:
    return replace(
        shape,
        rate_bps=other.rate_bps,
        overhead_bytes=other.overhead_bytes,
        cell_bytes=other.cell_bytes,
        cell_overhead_bytes=other.cell_overhead_bytes,
    )


def find(netlink: IPRoute, index: int, handle: int = HANDLE) -> tcmsg | None:
    """The netem of that handle as the kernel tells it, None when there is none.

    Asked for alone: a dump tells every qdisc of the namespace, and the one of the switches has hundreds.
    """
    question = tcmsg()
    question["index"], question["handle"] = index, handle
    netlink.status["nlm_generator"] = False  # pyroute2 0.9 reads it below and sets it nowhere
    try:
        (found,) = netlink.nlm_request(question, RTM_GETQDISC, NLM_F_REQUEST | NLM_F_ECHO | NLM_F_ACK)
    except NetlinkError as error:
        if error.code not in (ENOENT, ENODEV):
            raise
        return None
    return found if found.get_attr("TCA_KIND") == "netem" else None


def read(netlink: IPRoute, index: int) -> Shape | None:
    """What the kernel holds on an interface; None when it has no netem at its root.

    The kernel does not tell which table it draws from: the distribution is always "uniform" here.
    """
    held = find(netlink, index)
    if held is None:
        return None
    shape = _decoded(held.get_attr("TCA_OPTIONS"))
    under = None if shape.rate_bps else find(netlink, index, RATE_HANDLE)
    below = None if under is None else _decoded(under.get_attr("TCA_OPTIONS"))
    if below is None or not below.rate_bps:
        return shape
    return replace(_with_rate_of(shape, below), jitter_reorders=True)


def _decoded(held: nla) -> Shape:
    rate = held.get_attr("TCA_NETEM_RATE")
    model = held.get_attr("TCA_NETEM_LOSS")
    return Shape(
        rate_bps=(held.get_attr("TCA_NETEM_RATE64") or rate["rate"]) * 8,
        delay_us=held.get_attr("TCA_NETEM_LATENCY64") // 1000,
        jitter_us=held.get_attr("TCA_NETEM_JITTER64") // 1000,
        loss_ppm=_ppm(held["loss"]),
        queue_packets=held["limit"],
        loss_model=model and _decoded_loss(model),
        duplicate_ppm=_ppm(held["duplicate"]),
        corrupt_ppm=_ppm(held.get_attr("TCA_NETEM_CORRUPT")["share"]),
        reorder_ppm=_ppm(held.get_attr("TCA_NETEM_REORDER")["share"]),
        reorder_gap=held["gap"],
        slot=_decoded_slot(held.get_attr("TCA_NETEM_SLOT")),
        overhead_bytes=rate["packet_overhead"],
        cell_bytes=rate["cell_size"],
        cell_overhead_bytes=rate["cell_overhead"],
    )


def _decoded_slot(slot: nla | None) -> Slot | None:
    if slot is None or not slot["max_delay"]:
        return None
    return Slot(slot["min_delay"] // 1000, slot["max_delay"] // 1000, slot["max_packets"], slot["max_bytes"])


def _decoded_loss(model: nla) -> GilbertElliott | Markov:
    two = model.get_attr("LOSS_GE")
    if two is not None:
        return GilbertElliott(_ppm(two["p"]), _ppm(two["r"]), PPM - _ppm(two["h"]), _ppm(two["k1"]))
    four = model.get_attr("LOSS_GI")
    return Markov(**{f"{name}_ppm": _ppm(four[name]) for name in ("p13", "p31", "p32", "p23", "p14")})


def same(asked: Shape, held: Shape | None) -> bool:
    """Whether the kernel holds what was asked; netem counts rates in whole bytes per second."""
    return held is not None and held == replace(asked, rate_bps=asked.rate_bps // 8 * 8, distribution="uniform")
