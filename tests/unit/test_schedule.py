import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.impairment import LEAST_QUEUE_PACKETS
from testbed.plan import Change, GilbertElliott, Shape
from testbed.quantity import Queue
from testbed.schedule import OUTAGE_STEP_US, RATE_FLOOR_BPS, Lane, LinkEvent, schedule
from testbed.trace.series import Series

PLAIN = Lane("l", "up", 10**7, 1000)
TRACE = Series("t", (0, 10, 20), 30, {"rate_bps": (10**6, 0, 2 * 10**6)})


def rates(result, direction="up"):
    return [(c.t_us, c.shape.rate_bps) for c in result.changes if c.direction == direction]


def test_a_plain_lane_never_changes():
    result = schedule([PLAIN], [], [], 100)
    assert result.shapes == {("l", "up"): Shape(10**7, 1000, queue_packets=LEAST_QUEUE_PACKETS)}
    assert result.changes == ()


def test_a_trace_goes_before_the_rate_and_zero_is_the_floor():
    result = schedule([Lane("l", "up", 5, 1000, series=TRACE, end="hold")], [], [], 100)
    assert result.shapes["l", "up"].rate_bps == 10**6
    assert rates(result) == [(10, RATE_FLOOR_BPS), (20, 2 * 10**6)]
    assert [c.shape.delay_us for c in result.changes] == [1000, 1000]
    assert result.floored == {("l", "up"): 1}


def test_end_of_the_trace():
    def at_end(end):
        return rates(schedule([Lane("l", "up", 5 * 10**6, 1000, series=TRACE, end=end)], [], [], 45))[2:]

    assert at_end("hold") == []
    assert at_end("loop") == [(30, 10**6), (40, RATE_FLOOR_BPS)]
    assert at_end("stop") == [(30, 5 * 10**6)]


def test_each_direction_takes_its_own_column():
    both = Series("t", (0,), 10, {"up_bps": (10**6,), "down_bps": (10**7,), "delay_us": (7,), "loss_ppm": (3,)})
    lanes = [Lane("l", d, None, None, jitter_us=2, series=both) for d in ("up", "down")]
    result = schedule(lanes, [], [], 10)
    assert result.shapes["l", "up"] == Shape(10**6, 7, 2, 3, LEAST_QUEUE_PACKETS)
    assert result.shapes["l", "down"].rate_bps == 10**7


def test_a_rate_replaces_the_trace_from_then_on():
    lane = Lane("l", "up", None, 1000, series=TRACE, end="loop")
    result = schedule([lane], [LinkEvent(15, "l", ("up",), "slow", rate_bps=10**5)], [], 100)
    assert rates(result) == [(10, RATE_FLOOR_BPS), (15, 10**5)]


def test_a_scale_multiplies_the_trace_and_does_not_add_up():
    lane = Lane("l", "up", None, 1000, series=TRACE, end="hold", scale_ppm=2_000_000)
    events = [LinkEvent(t, "l", ("up",), "x", scale_ppm=500_000) for t in (20, 25)]
    result = schedule([lane], events, [], 100)
    assert result.shapes["l", "up"].rate_bps == 2 * 10**6
    assert rates(result) == [(10, RATE_FLOOR_BPS), (20, 2 * 10**6), (25, 2 * 10**6)]


def test_a_later_rate_forgets_an_earlier_scale():
    events = [LinkEvent(1, "l", ("up",), "a", scale_ppm=500_000), LinkEvent(2, "l", ("up",), "b", rate_bps=10**6)]
    assert rates(schedule([PLAIN], events, [], 100)) == [(1, 5 * 10**6), (2, 10**6)]


def test_a_change_carries_the_whole_shape():
    lane = Lane("l", "up", 10**7, 1000, jitter_us=5, loss_ppm=7, queue=Queue(20, "packets"))
    (change,) = schedule([lane], [LinkEvent(5, "l", ("up",), "far", delay_us=9000)], [], 100).changes
    assert change == Change(5, "link", "l", "up", Shape(10**7, 9000, 5, 7, 28), text="far")


def test_an_event_of_both_directions_is_told_once():
    lanes = [PLAIN, Lane("l", "down", 10**7, 1000)]
    changes = schedule(lanes, [LinkEvent(5, "l", ("up", "down"), "far", delay_us=2000)], [], 100).changes
    assert [(c.direction, c.text) for c in changes] == [("up", "far"), ("down", "")]


def test_events_that_change_nothing_are_kept_and_steps_are_not():
    flat = Series("t", (0, 10, 20), 30, {"rate_bps": (10**6, 10**6, 10**6)})
    lane = Lane("l", "up", None, 1000, series=flat)
    changes = schedule([lane], [LinkEvent(10, "l", ("up",), "same", rate_bps=10**6)], [], 100).changes
    assert [(c.t_us, c.text) for c in changes] == [(10, "same")]


def test_an_event_and_a_step_at_one_moment_are_one_change():
    lane = Lane("l", "up", None, 1000, series=TRACE, end="hold")
    result = schedule([lane], [LinkEvent(20, "l", ("up",), "x", scale_ppm=500_000)], [], 100)
    assert rates(result) == [(10, RATE_FLOOR_BPS), (20, 10**6)]


def test_nodes_come_in_between_in_the_order_of_time():
    nodes = [Change(50, "node_up", "n", text="n: up"), Change(5, "load", "n", value=3), Change(200, "node_down", "n")]
    events = [LinkEvent(20, "l", ("up",), "x", rate_bps=5)]
    assert [c.t_us for c in schedule([PLAIN], events, nodes, 100).changes] == [5, 20, 50]


def test_the_queue_holds_what_is_on_its_way_too():
    def packets(queue):
        return schedule([Lane("l", "up", 12 * 10**8, 10_000, queue=queue)], [], [], 1).shapes["l", "up"].queue_packets

    assert packets(None) == 4000  # a round trip holds 2000 packets; twice that
    assert packets(Queue(50, "packets")) == 1050
    assert packets(Queue(1000, "us")) == 1100
    assert packets(Queue(15_000, "bytes")) == 1010


def test_a_lane_without_any_rate_is_a_bug_with_a_name():
    with pytest.raises(ValueError, match="neither rate nor trace"):
        schedule([Lane("l", "up", None, 5)], [], [], 10)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=5),
    st.sampled_from(["hold", "loop", "stop"]),
)
def test_changes_are_ordered_inside_the_run_and_never_idle(values, marks, end):
    times = tuple(range(0, 10 * len(values), 10))
    series = Series("t", times, times[-1] + 10, {"rate_bps": tuple(v * 10**5 for v in values)})
    events = [LinkEvent(t, "l", ("up",), f"e{t}", rate_bps=(v + 1) * 10**5) for t, v in sorted(marks)]
    result = schedule([Lane("l", "up", 10**6, 5, series=series, end=end)], events, [], 100)
    before = result.shapes["l", "up"]
    last = 0
    for change in result.changes:
        assert last <= change.t_us < 100
        assert change.text or change.shape != before
        assert change.shape.rate_bps >= RATE_FLOOR_BPS
        before, last = change.shape, change.t_us
    assert sum(bool(c.text) for c in result.changes) == sum(event.t_us < 100 for event in events)


def test_an_event_changes_a_rarer_impairment_and_leaves_the_others():
    lane = Lane("l", "up", 10**7, 1000, more={"duplicate_ppm": 7, "corrupt_ppm": 8})
    event = LinkEvent(5, "l", ("up",), "clean", more={"duplicate_ppm": 0})
    result = schedule([lane], [event], [], 100)
    (change,) = result.changes
    assert (result.shapes["l", "up"].duplicate_ppm, result.shapes["l", "up"].corrupt_ppm) == (7, 8)
    assert (change.shape.duplicate_ppm, change.shape.corrupt_ppm) == (0, 8)


def test_losses_of_a_trace_go_before_a_model_and_an_event_before_both():
    traced = Series("t", (0,), 10, {"rate_bps": (10**6,), "loss_ppm": (3,)})
    model = GilbertElliott(1, 1)
    lane = Lane("l", "up", None, 1000, loss_ppm=5, series=traced, more={"loss_model": model})
    event = LinkEvent(5, "l", ("up",), "bursts", loss_ppm=500_000, more={"loss_model": model})
    result = schedule([lane], [event], [], 10)
    assert (result.shapes["l", "up"].loss_ppm, result.shapes["l", "up"].loss_model) == (3, None)
    (change,) = result.changes
    assert (change.shape.loss_ppm, change.shape.loss_model) == (500_000, model)


def test_where_netem_does_not_replan_an_outage_holds_back_what_comes_in_until_it_is_over():
    trace = Series("t", (0, 10_000, 30_000, 90_000), 100_000, {"rate_bps": (10**6, 0, 0, 3 * 10**6)})
    lanes = [Lane("l", "up", None, 1000, series=trace, end="hold")]
    rates_bps = [c.shape.rate_bps for c in schedule(lanes, [], [], 10**6).changes]
    assert rates_bps == [RATE_FLOOR_BPS, 3 * 10**6]
    result = schedule(lanes, [], [], 10**6, replans=False)
    found = [(c.t_us, c.shape.rate_bps, c.shape.delay_us, c.shape.queue_packets) for c in result.changes]
    leaves_us = 90_000 + 1000
    waiting = [(t_us, 3 * 10**6, leaves_us - t_us, LEAST_QUEUE_PACKETS) for t_us in (10_000, 30_000, 50_000, 70_000)]
    assert found == [*waiting, (90_000, 3 * 10**6, 1000, LEAST_QUEUE_PACKETS)]
    assert waiting[1][0] - waiting[0][0] <= OUTAGE_STEP_US


def test_an_outage_without_an_end_is_held_at_the_floor():
    trace = Series("t", (0, 10), 20, {"rate_bps": (10**6, 0)})
    result = schedule([Lane("l", "up", None, 1000, series=trace, end="hold")], [], [], 10**6)
    assert [(c.t_us, c.shape.rate_bps, c.shape.delay_us) for c in result.changes] == [(10, RATE_FLOOR_BPS, 1000)]
