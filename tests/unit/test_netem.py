"""The message that netem gets and what is read of it, without a kernel: the layouts are those of linux/pkt_sched.h."""

import struct
from dataclasses import replace
from statistics import fmean, pstdev
from types import SimpleNamespace

import pytest

from testbed.network import netem
from testbed.network.distribution import ENTRIES, SCALE, encoded, table
from testbed.network.link import ShapedLink
from testbed.plan import GilbertElliott, Markov, Shape, Slot
from testbed.quantity import QuantityError

PLAIN = Shape(rate_bps=8 * 10**6, delay_us=1000)
EVERYTHING = Shape(
    rate_bps=8 * 12345,
    delay_us=12_345,
    jitter_us=77,
    loss_ppm=123,
    queue_packets=4321,
    loss_model=GilbertElliott(10_000, 250_000, 900_000, 1),
    duplicate_ppm=1,
    corrupt_ppm=999_999,
    reorder_ppm=50_000,
    reorder_gap=5,
    slot=Slot(5_001, 9_999, 4, 6000),
    overhead_bytes=-14,
    cell_bytes=48,
    cell_overhead_bytes=5,
)


def message(shape, **others) -> netem.options:
    packed = netem.options()
    packed.setvalue(netem.get_parameters({"shape": shape, **others}))
    packed.encode()
    return packed


def read(shape) -> Shape:
    held = netem.options(bytes(message(shape).data))
    held.decode()
    return netem._decoded(held)


@pytest.mark.parametrize(
    "shape",
    [
        PLAIN,
        EVERYTHING,
        replace(PLAIN, loss_model=Markov(1, 2, 3, 4, 5)),
        replace(PLAIN, loss_model=GilbertElliott(1, 2)),
        replace(PLAIN, rate_bps=10**10),
        replace(PLAIN, rate_bps=8 * 10**11),
        replace(PLAIN, slot=Slot(1, 1)),
    ],
)
def test_what_is_written_is_what_is_read(shape):
    assert netem.same(shape, read(shape))


def test_every_difference_is_seen():
    fields = ("rate_bps", "delay_us", "jitter_us", "loss_ppm", "queue_packets", "duplicate_ppm", "reorder_gap")
    for name in (*fields, "corrupt_ppm", "reorder_ppm", "overhead_bytes", "cell_bytes", "cell_overhead_bytes"):
        assert not netem.same(replace(EVERYTHING, **{name: getattr(EVERYTHING, name) + 8}), read(EVERYTHING)), name
    for name in ("slot", "loss_model"):
        assert not netem.same(replace(EVERYTHING, **{name: None}), read(EVERYTHING)), name
    assert not netem.same(PLAIN, None)


def attributes(shape, **others) -> dict[str, bytes]:
    """Name -> payload, as they lie in the message behind the six fields of 32 bits."""
    data = bytes(message(shape, **others).data)
    found, at = {}, 4 + 24
    while at < len(data):
        length, number = struct.unpack_from("=HH", data, at)
        found[netem.options.nla_map[number & 0x3FFF][0]] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def test_the_layouts_of_the_kernel():
    held = attributes(EVERYTHING, seed=7)
    assert struct.unpack("=IiIi", held["TCA_NETEM_RATE"]) == (12345, -14, 48, 5)
    assert struct.unpack("=qqiiqq", held["TCA_NETEM_SLOT"]) == (5_001_000, 9_999_000, 4, 6000, 7_500_000, 2_499_000)
    kind, share = held["TCA_NETEM_LOSS"][2:4], struct.unpack("=IIII", held["TCA_NETEM_LOSS"][4:])
    assert struct.unpack("=H", kind)[0] == 2  # NETEM_LOSS_GE
    assert [round(part / 0xFFFFFFFF, 6) for part in share] == [0.01, 0.25, 0.1, 1e-6]
    assert struct.unpack("=q", held["TCA_NETEM_LATENCY64"]) == (12_345_000,)
    assert struct.unpack("=Q", held["TCA_NETEM_PRNG_SEED"]) == (7,)
    four = attributes(replace(PLAIN, loss_model=Markov(10**6, 0, 0, 0, 0)))["TCA_NETEM_LOSS"]
    assert struct.unpack("=HHIIIII", four) == (24, 1, 0xFFFFFFFF, 0, 0, 0, 0)


def test_what_the_kernel_would_keep_is_always_sent():
    held = attributes(PLAIN)
    for name in ("RATE", "RATE64", "REORDER", "CORRUPT", "SLOT", "LATENCY64", "JITTER64"):
        assert f"TCA_NETEM_{name}" in held
    assert set(held["TCA_NETEM_SLOT"]) == {0}
    assert "TCA_NETEM_PRNG_SEED" not in held  # a change must not begin the chances anew
    assert "TCA_NETEM_LOSS" not in held
    assert attributes(replace(PLAIN, jitter_us=1))["TCA_NETEM_DELAY_DIST"] == encoded("uniform")
    assert attributes(replace(PLAIN, slot=Slot(1, 2)))["TCA_NETEM_SLOT_DIST"] == encoded("uniform")


def test_slots_that_stay_are_not_begun_anew():
    assert "TCA_NETEM_SLOT" not in attributes(replace(EVERYTHING, delay_us=5), before=EVERYTHING)
    assert set(attributes(PLAIN, before=EVERYTHING)["TCA_NETEM_SLOT"]) == {0}


class OneWire:
    """A link whose kernel is a dictionary: what was sent is what is held."""

    def __init__(self, monkeypatch):
        self.sent = []
        self.link = ShapedLink.__new__(ShapedLink)
        self.link.asked, self.link.cuts = {"up": PLAIN, "down": PLAIN}, set()
        self.link.intf1 = self.link.intf2 = SimpleNamespace(netlink=None, index=1)
        monkeypatch.setattr(netem, "change", lambda netlink, index, shape, before: self.sent.append((before, shape)))
        monkeypatch.setattr(netem, "read", lambda netlink, index: replace(self.sent[-1][1], distribution="uniform"))


def test_a_call_changes_both_directions_or_one_each_by_one_message(monkeypatch):
    wire = OneWire(monkeypatch)
    wire.link.set(rate="20Mbit", delay="10ms", loss="1%")
    assert [(shape.rate_bps, shape.delay_us, shape.loss_ppm) for _, shape in wire.sent] == [
        (2 * 10**7, 10**4, 10**4)
    ] * 2
    wire.link.set(delay="3ms", direction="down")
    assert len(wire.sent) == 3
    assert wire.sent[2][0].delay_us == 10_000
    assert (wire.link.asked["up"].delay_us, wire.link.asked["down"].delay_us) == (10_000, 3000)


@pytest.mark.parametrize("words", [{"dealy": "1ms"}, {"delay": 1}, {"delay": "1ms", "direction": "left"}])
def test_a_wrong_word_changes_nothing(monkeypatch, words):
    wire = OneWire(monkeypatch)
    with pytest.raises(QuantityError):
        wire.link.set(rate="1Mbit", **words)
    assert wire.sent == []


def test_the_rate_lies_below_where_jitter_may_reorder():
    shape = replace(EVERYTHING, jitter_reorders=True)
    above, below = netem._parts(shape)
    assert (above.rate_bps, above.overhead_bytes, above.cell_bytes) == (0, 0, 0)
    assert (below.rate_bps, below.overhead_bytes, below.cell_overhead_bytes) == (8 * 12345, -14, 5)
    assert (above.jitter_us, below.jitter_us, below.loss_ppm, below.delay_us) == (77, 0, 0, 0)
    assert netem._parts(EVERYTHING)[0] is EVERYTHING
    assert netem._parts(EVERYTHING)[1].rate_bps == 0


@pytest.mark.parametrize("distribution", ["normal", "pareto", "paretonormal"])
def test_tables_have_mean_0_and_deviation_1(distribution):
    values = [value / SCALE for value in table(distribution)]
    assert len(values) == ENTRIES
    assert fmean(values) == pytest.approx(0, abs=1e-5)
    assert pstdev(values) == pytest.approx(1, abs=1e-5)
    assert values == sorted(values)
    assert max(map(abs, values)) <= 4
    assert len(encoded(distribution)) == 2 * ENTRIES


def test_the_shapes_of_the_tables():
    normal, pareto, uniform = table("normal"), table("pareto"), table("uniform")
    assert [-value for value in reversed(normal)] == list(normal)
    assert fmean(abs(value) < SCALE for value in normal) == pytest.approx(0.6827, abs=1e-3)
    assert min(pareto) > -SCALE  # nothing much below the usual, and a long tail above
    assert fmean(value > 3 * SCALE for value in pareto) > 0.01
    assert (uniform[0], uniform[-1]) == (-8190, 8190)
    assert pstdev(uniform) == pytest.approx(SCALE / 3**0.5, rel=1e-3)
