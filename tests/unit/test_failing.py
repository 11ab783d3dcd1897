"""Failures of links and switches: from events to changes, what ends which, and that holds nest."""

import re
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from testbed.compile import ModelFiles, compile_plan
from testbed.experiment import ExperimentError, load_experiment
from testbed.plan import border, from_json, to_json
from testbed.schedule import Lane, LinkEvent, schedule
from testbed.trace.series import Series

TOWN = Path(__file__).resolve().parents[1] / "scenarios" / "experiments" / "town.yaml"
ISLAND = ["ue1", "ue2", "bs1", "edge1"]


def compiled(*events):
    text = re.sub(r"(?ms)^events:\n.*?\n\n", f"events: [{', '.join(events)}]\n\n", TOWN.read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        experiment = load_experiment(file.name)
    return compile_plan(experiment, {name: ModelFiles("w", "a", 8) for name in experiment.models})


def changes(*events):
    return [change for change in compiled(*events).changes if change.what != "link"]


def told(*events):
    return [(change.t_us / 1e6, change.text) for change in compiled(*events).changes if change.text]


def up(found):
    """link -> [(seconds, whether it is up)] as the network would have it, a link being up when nothing holds it."""
    held, states = defaultdict(set), defaultdict(list)
    for change in found:
        (held[change.target].add if change.what == "link_down" else held[change.target].discard)(change.cause)
        states[change.target].append((change.t_us / 1e6, not held[change.target]))
    return dict(states)


def faults(*events):
    with pytest.raises(ExperimentError) as caught:
        compiled(*events)
    return "\n".join(f"{fault.field}: {fault.why}" for fault in caught.value.faults)


def test_a_link_goes_down_and_up_by_a_second_event_or_by_itself():
    for events in (["{at: 5s, link_down: xn}", "{at: 8s, link_up: xn}"], ["{at: 5s, link_down: xn, for: 3s}"]):
        assert up(changes(*events)) == {"xn": [(5, False), (8, True)]}
        assert told(*events) == [(5, "xn: link down"), (8, "xn: link up")]
    assert up(changes("{at: 5s, link_down: xn}")) == {"xn": [(5, False)]}


def test_a_flap_is_down_for_half_of_each_period():
    states = up(changes("{at: 5s, flap: xn, period: 2s, times: 3}"))["xn"]
    assert states == [(5, False), (6, True), (7, False), (8, True), (9, False), (10, True)]


def test_a_partition_takes_the_links_to_all_others_and_tells_once():
    event = f"{{at: 5s, partition: [{', '.join(ISLAND)}], for: 1s}}"
    assert up(changes(event)) == {"bs1agg": [(5, False), (6, True)], "xn": [(5, False), (6, True)]}
    assert told(event) == [(5, "ue1, ue2, bs1, edge1: partition"), (6, "ue1, ue2, bs1, edge1: healed")]


def test_a_partition_is_healed_by_the_same_group_in_any_order():
    states = up(changes("{at: 5s, partition: [ue1, bs1]}", "{at: 7s, heal: [bs1, ue1]}"))
    assert states["xn"] == [(5, False), (7, True)]


def test_a_link_is_up_again_only_when_no_failure_holds_it():
    states = up(
        changes(
            "{at: 2s, link_down: xn, for: 10s}",
            "{at: 4s, link_down: xn}",
            "{at: 6s, link_up: xn}",
            "{at: 5s, partition: [bs1], for: 10s}",
        )
    )
    assert states["xn"] == [(2, False), (4, False), (5, False), (6, False), (12, False), (15, True)]
    assert states["ue1"] == [(5, False), (15, True)]


def test_what_ends_when_the_next_begins_never_comes_up():
    states = up(changes("{at: 4s, link_down: xn, for: 2s}", "{at: 6s, link_down: xn, for: 2s}"))
    assert states["xn"] == [(4, False), (6, False), (6, False), (8, True)]


def test_a_switch_is_one_change_a_time():
    found = changes("{at: 5s, switch_down: bs2}", "{at: 8s, switch_up: bs2}")
    assert [(c.t_us, c.what, c.target, c.text) for c in found] == [
        (5_000_000, "switch_down", "bs2", "bs2: switch down"),
        (8_000_000, "switch_up", "bs2", "bs2: switch up"),
    ]
    assert found[0].cause == found[1].cause


def test_the_plan_survives_its_file():
    plan = compiled("{at: 5s, switch_down: bs2, for: 1s}", "{at: 5s, cut: ue1}")
    assert from_json(to_json(plan)) == plan


def shapes(plan, link, direction):
    return [(c.t_us / 1e6, c.shape.loss_ppm) for c in plan.changes if (c.target, c.direction) == (link, direction)]


def test_a_cut_is_one_direction_and_lies_over_other_changes():
    events = ["{at: 5s, cut: ue1, direction: up, for: 4s}", "{at: 6s, link: ue1, loss: 1%}"]
    plan = compiled(*events)
    assert shapes(plan, "ue1", "up") == [(5, 1_000_000), (6, 1_000_000), (9, 10_000)]
    assert shapes(plan, "ue1", "down") == [(6, 10_000)]
    assert told(*events) == [(5, "ue1 up: cut"), (6, "ue1: loss 1%"), (9, "ue1 up: mended")]


def test_a_cut_of_both_directions_is_mended_by_an_event():
    plan = compiled("{at: 5s, cut: ue1}", "{at: 7s, mend: ue1}")
    for direction in ("up", "down"):
        assert shapes(plan, "ue1", direction) == [(5, 1_000_000), (7, 0)]
    assert shapes(compiled("{at: 5s, cut: ue1}"), "ue1", "up") == [(5, 1_000_000)]


def test_a_link_event_with_an_end_leaves_nothing_behind_and_the_trace_goes_on():
    trace = Series("t", (0, 10, 20, 30), 40, {"rate_bps": (10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6)})
    lane = Lane("l", "up", None, 1000, series=trace, end="hold", loss_ppm=7)
    bad = LinkEvent(5, "l", ("up",), "bad", loss_ppm=20_000, more={"corrupt_ppm": 9}, until_us=25, after="good")
    slow = LinkEvent(12, "l", ("up",), "slow", scale_ppm=500_000, until_us=22, after="fast")
    found = [
        (c.t_us, c.shape.rate_bps // 10**5, c.shape.loss_ppm, c.shape.corrupt_ppm, c.text)
        for c in schedule([lane], [bad, slow], [], 100).changes
    ]
    assert found == [
        (5, 10, 20_000, 9, "bad"),
        (10, 20, 20_000, 9, ""),
        (12, 10, 20_000, 9, "slow"),
        (20, 15, 20_000, 9, ""),
        (22, 30, 20_000, 9, "fast"),
        (25, 30, 7, 0, "good"),
        (30, 40, 7, 0, ""),
    ]


def test_a_degraded_link_says_how_long():
    events = told("{at: 5s, link: ue1, corrupt: 1%, loss: 2%, for: 4s}")
    assert events == [(5, "ue1: loss 2%, corrupt 1%, for 4s"), (9, "ue1: loss, corrupt as before")]


def test_the_border_of_a_group():
    ends = {"a": ("x", "y"), "b": ("y", "z"), "c": ("z", "x")}
    assert border(["x"], ends) == ("a", "c")
    assert border(["x", "y", "z"], ends) == border([], ends) == ()


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (["{at: 5s, link_down: x}"], "events[0].link_down: no link 'x'; did you mean 'xn'?"),
        (["{at: 5s, flap: nix, period: 2s, times: 3}"], "events[0].flap: no link 'nix'"),
        (["{at: 5s, link_up: xn}"], "events[0].link_up: nothing to end; right is after a link_down of the same"),
        (["{at: 5s, link_down: xn, for: 9s}", "{at: 6s, link_up: xn}"], "events[1].link_up: nothing to end"),
        (["{at: 5s, cut: ue1, direction: up}", "{at: 6s, mend: ue1}"], "events[1].mend: nothing to end"),
        (["{at: 5s, partition: [ue1]}", "{at: 6s, heal: [ue2]}"], "events[1].heal: nothing to end"),
        (["{at: 6s, switch_up: bs1}", "{at: 7s, switch_down: bs1}"], "events[0].switch_up: nothing to end"),
        (
            ["{at: 5s, link_down: xn}", "{at: 7s, link_down: xn}"],
            "events[1].link_down: holds since 5s already; a link_up",
        ),
        (["{at: 5s, switch_down: bs7}"], "events[0].switch_down: no switch 'bs7'; did you mean 'bs"),
        (["{at: 5s, switch_down: ue1}"], "'ue1' is no switch; node_down and node_up are about hosts"),
        (["{at: 5s, partition: [ue1, ue9]}"], "events[0].partition[1]: no node 'ue9'"),
        (["{at: 5s, partition: [ue1, ue1]}"], "'ue1' is there twice"),
        (["{at: 5s, partition: [ue1, ue2, ue3, bs1, bs2, agg, edge1, mec]}"], "cuts nothing"),
        (["{at: 5s, link_down: xn, for: 19s}"], "events[0].for: does not end within the experiment"),
        (["{at: 5s, link: xn, loss: 1%, for: 30s}"], "events[0].for: does not end within the experiment"),
        (["{at: 20s, flap: xn, period: 2s, times: 3}"], "events[0].times: does not end within the experiment"),
        (["{at: 24s, link_down: xn}"], "events[0].at: lies behind the end"),
        (["{at: 5s, flap: xn, period: 1ms, times: 3}"], "events[0].period: at least 10ms is right"),
        (["{at: 5s, flap: xn, times: 3}"], "events[0].period: is missing"),
        (["{at: 5s, flap: xn, period: 2s}"], "events[0].times: is missing"),
        (["{at: 5s, link_down: xn, direction: up}"], "events[0].direction: does not belong to a link_down event"),
        (["{at: 5s, link_up: xn, for: 2s}"], "events[0].for: does not belong to a link_up event"),
        (["{at: 5s, cut: ue1, loss: 5%}"], "events[0].loss: does not belong to a cut event; right are at, cut, dir"),
        (["{at: 5s, link_down: xn, cut: xn}"], "link_down and cut of link, load"),
    ],
)
def test_what_makes_no_sense_is_told(events, says):
    assert says in faults(*events)
