"""Every impairment does what it says, measured by datagrams between two hosts of one guest.

Shares and lengths lie within the 95 % confidence interval of the setting; the draws are seeded, so that they are the
same in every run.
"""

import dataclasses
import json
from dataclasses import replace
from itertools import groupby, pairwise
from math import sqrt
from statistics import fmean, pstdev
from typing import Any

import pytest

from testbed.impairment import changed, loss, loss_ppm
from testbed.kernel.guest import CONSOLE, GuestOptions, run_guest, tail
from tests.scenarios.impairing import CLEAN, EVERYTHING, FEW, FOUR_STATES, LIVE, MANY, REST, SOFT, SOME, TWO_STATES

SURE = 1.96  # standard deviations


@pytest.fixture(scope="module")
def measured(kernel, new_folder) -> dict[str, Any]:
    folder = new_folder("impairments")
    run_guest(kernel, folder, "tests.scenarios.impairing", GuestOptions(wall_limit_s=240))
    result = folder / "impairments.json"
    assert result.exists(), f"the guest measured nothing; its console:\n{tail(folder / CONSOLE, 40)}"
    return json.loads(result.read_text())


def lost(one: dict[str, list[int]], sent: int = MANY) -> list[int]:
    """1 for each datagram that did not arrive."""
    arrived = set(one["order"])
    return [int(number not in arrived) for number in range(sent)]


def overtaken(one: dict[str, list[int]]) -> int:
    return sum(after < before for before, after in pairwise(one["order"]))


def binomial(share: float, count: int) -> Any:
    return pytest.approx(share, abs=SURE * sqrt(share * (1 - share) / count))


def test_a_clean_link_changes_nothing(measured):
    one = measured["clean"]
    assert one["order"] == list(range(FEW))
    assert {abs(late_us - 1000) <= 1 for late_us in one["late_us"]} == {True}


def test_what_is_read_back_is_what_was_asked(measured):
    """The kernel does not tell which distribution it draws from."""
    asked = CLEAN
    for words, held in zip((EVERYTHING, REST, {"rate": "40Gbit"}), measured["everything"], strict=True):
        asked = changed(asked, words)
        assert held == [dataclasses.asdict(replace(asked, distribution="uniform"))] * 2


@pytest.mark.parametrize(("name", "share", "sent"), [("loss", 0.02, MANY), ("loss_down", 0.05, SOME)])
def test_random_loss(measured, name, share, sent):
    assert fmean(lost(measured[name], sent)) == binomial(share, sent)


def test_the_other_direction_is_left_alone(measured):
    assert sum(lost(measured["loss_other_way"], FEW)) == 0
    assert set(measured["delay_up"]["late_us"]) <= {29_999, 30_000, 30_001}
    assert set(measured["delay_down"]["late_us"]) <= {6_999, 7_000, 7_001}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gilbert_elliott", TWO_STATES),
        ("gilbert_elliott_down", TWO_STATES),
        ("gilbert_elliott_soft", SOFT),
        ("markov", FOUR_STATES),
    ],
)
def test_the_share_of_a_loss_model(measured, name, model):
    """Losses come together, so the interval is that of the means of blocks."""
    losses = lost(measured[name])
    blocks = [fmean(losses[start : start + 200]) for start in range(0, MANY, 200)]
    interval = SURE * pstdev(blocks) / sqrt(len(blocks))
    assert fmean(losses) == pytest.approx(loss_ppm(loss(model)) / 1e6, abs=interval)


# (mean, standard deviation) of the number of losses in a row. Two states: left with 25 %. Four: state 1 is ten times as
# likely as 2 and 3; of 6 bursts 1 is a loss alone, the others are left with p31 + p32 = 50 %.
TWO_STATE_BURST = (4, sqrt(0.75) / 0.25)
FOUR_STATE_BURST = (11 / 6, sqrt(31 / 6 - (11 / 6) ** 2))


@pytest.mark.parametrize(
    ("name", "burst"),
    [
        ("gilbert_elliott", TWO_STATE_BURST),
        ("gilbert_elliott_down", TWO_STATE_BURST),
        ("markov", FOUR_STATE_BURST),
    ],
)
def test_the_length_of_a_burst(measured, name, burst):
    bursts = [len(list(group)) for gone, group in groupby(lost(measured[name])) if gone]
    assert fmean(bursts) == pytest.approx(burst[0], abs=SURE * burst[1] / sqrt(len(bursts)))


def test_duplicates(measured):
    order = measured["duplicate"]["order"]
    assert set(order) == set(range(SOME))
    assert len(order) / SOME - 1 == binomial(0.03, SOME)


def test_corruption(measured):
    """One bit of the frame: in the data it is seen, in the headers the datagram is gone."""
    order = measured["corrupt"]["order"]
    damaged = order.count(-1)
    assert (damaged + SOME - len(order)) / SOME == binomial(0.03, SOME)
    assert damaged > 100


@pytest.mark.parametrize(
    ("distribution", "deviation_us"),
    [("uniform", 5000 / sqrt(3)), ("normal", 5000), ("pareto", 5000), ("paretonormal", 5000)],
)
def test_jitter(measured, distribution, deviation_us):
    late_us = measured[f"jitter_{distribution}"]["late_us"]
    assert len(late_us) == FEW
    assert fmean(late_us) == pytest.approx(50_000, abs=SURE * deviation_us / sqrt(FEW))
    assert pstdev(late_us) == pytest.approx(deviation_us, rel=0.1)
    skew = fmean(((late - fmean(late_us)) / pstdev(late_us)) ** 3 for late in late_us)
    assert skew > 1 if "pareto" in distribution else abs(skew) < 0.3
    assert 50_000 + 4 * 5000 >= max(late_us) > (54_900 if distribution == "uniform" else 60_000)


def test_jitter_keeps_the_order_unless_it_may_not(measured):
    assert overtaken(measured["in_order"]) == overtaken(measured["in_order_again"]) == 0
    assert overtaken(measured["out_of_order"]) > FEW / 4
    assert sorted(measured["out_of_order"]["order"]) == list(range(FEW))


def test_the_rate_holds_where_jitter_may_reorder(measured):
    for name, rate_bps in (("out_of_order_rate", 10**7), ("out_of_order_rate_changed", 5 * 10**6)):
        at_us = measured[name]["at_us"]
        assert overtaken(measured[name]) > 50
        assert at_us[-1] - at_us[0] == pytest.approx(199 * 1042 * 8e6 / rate_bps, rel=0.01)


def test_reorder(measured):
    """Those that overtake do not wait at all."""
    early = sum(late_us < 100 for late_us in measured["reorder"]["late_us"])
    assert early / FEW == binomial(0.05, FEW)
    order = measured["reorder_gap"]["order"]
    early = [number for number, late_us in zip(order, measured["reorder_gap"]["late_us"], strict=True) if late_us < 100]
    assert {after - before for before, after in pairwise(early)} == {5}


@pytest.mark.parametrize(
    ("name", "wire_bytes", "rate_bps"),
    [
        ("rate_1M", 1042, 10**6),
        ("rate_10G", 1042, 10**10),
        ("overhead", 1042 + 24, 10**6),
        ("overhead_less", 1042 - 14, 10**6),
        ("cell", 22 * 53, 10**6),
    ],
)
def test_the_time_that_a_packet_takes(measured, name, wire_bytes, rate_bps):
    at_us = measured[name]["at_us"]
    assert len(at_us) == 100
    assert at_us[-1] - at_us[0] == pytest.approx(99 * wire_bytes * 8e6 / rate_bps, abs=2)


def test_queues(measured):
    kept = {unit: measured[f"queue_{unit}"]["order"] for unit in ("packets", "bytes", "ms")}
    assert {unit: len(order) for unit, order in kept.items()} == {"packets": 50, "bytes": 40, "ms": 30}
    assert all(order == list(range(len(order))) for order in kept.values())


@pytest.mark.parametrize(
    ("name", "packets", "apart_us"),
    [
        ("slot", 4, (9_990, 10_010)),
        ("slot_changed", 4, (9_990, 10_010)),
        ("slot_bytes", 2, (9_990, 10_010)),
        ("slot_drawn", 4, (4_990, 15_010)),
    ],
)
def test_slots(measured, name, packets, apart_us):
    slots = [(at_us, len(list(group))) for at_us, group in groupby(measured[name]["at_us"])]
    assert {count for _, count in slots} == {packets}
    apart = [after - before for (before, _), (after, _) in pairwise(slots)]
    assert apart_us[0] <= min(apart) <= max(apart) <= apart_us[1]
    assert max(measured["slot_none"]["late_us"]) <= 1001


def test_ten_changes_a_second_lose_and_reorder_nothing(measured):
    assert measured["changes"]["order"] == list(range(LIVE))
    late_us = measured["changes"]["late_us"]
    assert min(late_us) < 5_000
    assert max(late_us) > 80_000
