from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.compile import compile_plan
from testbed.experiment import load_experiment
from testbed.impairment import WORDS, changed, fields, held_packets, loss, loss_ppm, reorder, show, slot
from testbed.plan import GilbertElliott, Markov, Shape, Slot, from_json, to_json
from testbed.quantity import QuantityError

SMALL = Path(__file__).with_name("small.yaml")
SHAPE = Shape(rate_bps=12 * 10**6, delay_us=10_000, queue_packets=1000)
TWO_STATES = {"model": "gilbert_elliott", "p": "1%", "r": "25%"}


def test_several_words_change_one_shape():
    after = changed(SHAPE, {"rate": "20Mbit", "delay": "10ms", "loss": "1%", "duplicate": "2%", "overhead": "24B"})
    assert (after.rate_bps, after.delay_us, after.loss_ppm, after.duplicate_ppm) == (20_000_000, 10_000, 10_000, 20_000)
    assert after.overhead_bytes == 24
    assert changed(SHAPE, {}) == SHAPE


def test_every_word_has_its_way_back():
    given_words = {
        "cell": {"size": "48B", "overhead": "5B"},
        "loss": TWO_STATES,
        "slot": {"min": "5ms", "packets": "4packets"},
        "reorder": {"share": "5%", "gap": "3packets"},
    }
    after = changed(changed(SHAPE, given_words), {"cell": "none", "loss": "0%", "slot": "none", "reorder": "none"})
    assert (after.cell_bytes, after.loss_ppm, after.loss_model, after.slot) == (0, 0, None, None)
    assert (after.reorder_ppm, after.reorder_gap, after.jitter_reorders) == (0, 0, False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"dealy": "10ms"}, "no impairment 'dealy'; did you mean 'delay'?"),
        ({"bandwidth": "1Mbit"}, "no impairment 'bandwidth'; right are rate, overhead"),
        ({"rate": 20}, "rate: 20 has no unit"),
        ({"loss": {"model": "gilbert_elliott", "p": "1%", "r": 1}}, "loss: r: 1 has no unit"),
        ({"loss": {"p": "1%"}}, "loss: None is no model of losses"),
        ({"cell": "48B"}, "cell: '48B' is no cell; 'none' or {size: 48B, overhead: 5B} is right"),
        ({"slot": {"max": "5ms"}}, "slot: 'min' is missing"),
        ({"reorder": {"share": "5%", 3: 4}}, "reorder: unknown key 3"),
    ],
)
def test_errors_name_the_word_and_what_would_be_right(words, says):
    with pytest.raises(QuantityError) as caught:
        changed(SHAPE, words)
    assert says in str(caught.value)


def test_the_queue_keeps_what_may_wait_and_makes_room_for_what_is_on_its_way():
    assert held_packets(SHAPE) == 10
    assert changed(SHAPE, {"delay": "110ms"}).queue_packets == 1100
    assert changed(SHAPE, {"delay": "0ms"}).queue_packets == 1000
    assert changed(SHAPE, {"queue": "100ms"}).queue_packets == 10 + 100
    assert changed(SHAPE, {"queue": "15kB", "delay": "0ms"}).queue_packets == 10
    assert held_packets(changed(SHAPE, {"jitter": "5ms"})) == 15
    assert held_packets(changed(SHAPE, {"jitter": "5ms", "distribution": "normal"})) == 30
    assert held_packets(changed(SHAPE, {"slot": "20ms"})) == 30


def simulated(model: Markov, count=200_000) -> float:
    """The chain as the kernel walks it, drawn evenly instead of by chance: its long-run share by iteration."""
    p13, p31, p32, p23, p14 = (
        value / 1e6 for value in (model.p13_ppm, model.p31_ppm, model.p32_ppm, model.p23_ppm, model.p14_ppm)
    )
    one, two, three, four = 1.0, 0.0, 0.0, 0.0
    for _ in range(count):
        one, two, three, four = (
            one * (1 - p13 - p14) + three * p31 + four,
            two * (1 - p23) + three * p32,
            three * (1 - p31 - p32) + one * p13 + two * p23,
            one * p14,
        )
    return three + four


@pytest.mark.parametrize(
    "model",
    [
        Markov(20_000, 200_000, 300_000, 300_000, 10_000),
        Markov(0, 0, 0, 0, 50_000),
        Markov(10_000, 500_000, 0, 0, 0),
        Markov(10_000, 0, 200_000, 300_000, 0),
        Markov(10_000, 0, 0, 0, 0),
    ],
)
def test_the_mean_of_four_states(model):
    assert loss_ppm(model) == pytest.approx(simulated(model, 5000) * 1e6, abs=2)


def test_the_mean_of_two_states():
    assert loss_ppm(loss(TWO_STATES)) == 38_462
    assert loss_ppm(GilbertElliott(0, 0)) == 0
    assert loss_ppm(GilbertElliott(100_000, 300_000, 500_000, 100_000)) == 200_000
    assert loss_ppm(7) == 7


@pytest.mark.parametrize(
    ("word", "value", "text"),
    [
        ("loss", TWO_STATES, "gilbert_elliott of 3.8462%"),
        ("loss", "1%", "1%"),
        ("slot", {"min": "5ms", "max": "10ms"}, "5ms to 10ms"),
        ("slot", "10ms", "10ms"),
        ("slot", "none", "none"),
        ("reorder", "allowed", "allowed"),
        ("reorder", "5%", "5%"),
        ("cell", {"size": "48B", "overhead": "5B"}, "48B + 5B"),
        ("overhead", "-14B", "-14B"),
        ("distribution", "pareto", "pareto"),
        ("queue", "50packets", "50packets"),
    ],
)
def test_what_an_event_is_told_as(word, value, text):
    assert show(word, WORDS[word](value)) == text


def test_a_file_says_all_of_it_and_the_plan_keeps_it():
    up, event = "links.radio.up", "events.0"
    experiment = load_experiment(
        SMALL,
        sets=[
            *(f"{up}.loss.{key}={value}" for key, value in TWO_STATES.items()),
            *(f"{up}.{word}" for word in ("jitter=2ms", "distribution=normal", "reorder=allowed", "duplicate=1%")),
            *(f"{up}.{word}" for word in ("corrupt=2%", "slot.min=5ms", "slot.packets=4packets", "overhead=24B")),
            "links.radio.up.cell.size=48B",
            *(f"{event}.{word}" for word in ("loss=1%", "slot=none", "reorder=none", "cell=none")),
        ],
    )
    plan = compile_plan(experiment, {name: _Files for name in experiment.models})
    before = next(link for link in plan.links if link.name == "radio").up
    assert before.loss_model == GilbertElliott(10_000, 250_000)
    assert (before.loss_ppm, before.jitter_us, before.distribution, before.jitter_reorders) == (
        38_462,
        2000,
        "normal",
        True,
    )
    assert (before.duplicate_ppm, before.corrupt_ppm, before.slot) == (10_000, 20_000, Slot(5000, 5000, 4))
    assert (before.overhead_bytes, before.cell_bytes) == (24, 48)
    (change,) = plan.changes
    assert change.text == "radio up: rate 10Mbit, cell none, reorder none, loss 1%, slot none"
    assert (change.shape.loss_ppm, change.shape.loss_model, change.shape.slot) == (10_000, None, None)
    assert (change.shape.jitter_reorders, change.shape.distribution, change.shape.duplicate_ppm) == (
        False,
        "normal",
        10_000,
    )
    assert from_json(to_json(plan)) == plan


class _Files:
    weights = answers = graphs = ""
    off_plain = 0.0
    inputs = 8


def test_the_readers_give_what_the_plan_holds():
    four = loss({"model": "markov", "p13": "2%", "p31": "20%", "p14": "1%"})
    assert four == Markov(20_000, 200_000, 0, 0, 10_000)
    assert fields("loss", four)["loss_model"] is four
    assert slot("10ms") == Slot(10_000, 10_000)
    assert reorder("0%").gap == 0


@given(
    st.recursive(
        st.none() | st.text(max_size=8) | st.integers(), lambda part: st.dictionaries(st.text(max_size=4), part)
    )
)
def test_any_value_is_read_or_refused(value):
    for read in WORDS.values():
        try:
            read(value)
        except QuantityError as fault:
            assert len(str(fault)) < 300
