"""Rates and delays judged from counters and probes: what is proven, what is charged, who is named."""

from typing import Any

import pytest

from testbed.calibration import calibrated
from testbed.fidelity import assess
from testbed.fidelity.asked import asked, away, possible_bytes
from testbed.fidelity.limits import REAL, VIRTUAL
from testbed.fidelity.rates import judge_rates
from testbed.wire import charged_bytes
from tests.unit.journal_factory import SECOND, a_run

Record = dict[str, Any]
LINK = {"link": "radio1", "direction": "up"}
RATE_BPS = 8_000_000  # a byte a microsecond
FRAME = 1000
PART_US = 100_000


def shape(**changes: Any) -> Record:
    return {**LINK, "from": "ue1", "to": "bs1", "rate_bps": RATE_BPS, "delay_us": 5000, **changes}


def step(t_us: int, **changes: Any) -> Record:
    return {"kind": "step", "t_us": t_us, "asked_us": t_us, **shape(), **changes}


def carried(
    rates: list[float], *, backlog: int = 300_000, each: int = FRAME, link: Record = LINK, start_us: int = 0
) -> list[Record]:
    """Samples each 0.1 s of a direction that carries so many bytes a microsecond in each second of `rates`."""
    found, total = [], 0.0
    for part in range(10 * len(rates) + 1):
        t_us = start_us + part * PART_US
        one = {"bytes": round(total), "packets": round(total) // each, "dropped": 0, "backlog_bytes": backlog}
        found.append({"kind": "carried", "t_us": t_us, **link, **one})
        total += rates[min(part // 10, len(rates) - 1)] * PART_US
    return found


def kinds(*records: Record, shapes: tuple[Record, ...] = (shape(),)) -> dict[str, list[Record]]:
    names = ("carried", "step", "state", "probe", "unprobed", "headroom")
    found: dict[str, list[Record]] = {name: [r for r in records if r["kind"] == name] for name in names}
    return found | {"run": [{"kind": "run", "t_us": 0, "shapes": shapes}]}


def errors(*records: Record, shapes: tuple[Record, ...] = (shape(),)) -> list[float]:
    return [round(window.error, 4) for window in judge_rates(kinds(*records, shapes=shapes)).windows]


def test_a_saturated_link_at_its_rate_has_no_error() -> None:
    judged = judge_rates(kinds(*carried([1.0, 1.0, 1.0])))
    assert [window.error for window in judged.windows] == [0.0, 0.0]  # of the first second it is not known
    assert judged.seconds == 3
    assert judged.unjudged == 1


def test_a_saturated_link_that_is_too_slow_is_off_by_the_difference_less_a_frame() -> None:
    assert errors(*carried([0.9, 0.9, 0.9])) == [-0.099, -0.099]


def test_too_little_on_a_link_whose_queue_runs_empty_is_no_error() -> None:
    assert errors(*carried([0.5, 0.5, 0.5], backlog=0)) == []
    assert errors(*carried([0.5, 0.5, 0.5], backlog=2000)) == []  # on its way, in the delay


def test_more_than_the_rate_is_an_error_without_any_queue() -> None:
    once_a_second = carried([1.1, 1.1], backlog=0)[::10]
    assert errors(*once_a_second) == [0.099, 0.099]


def test_one_frame_more_or_less_is_how_counters_count() -> None:
    assert errors(*carried([0.9995, 0.9995])) == [0.0]
    assert errors(*carried([1.0005], backlog=0)[::10]) == []


def test_a_queue_that_came_and_was_swept_away_proves_nothing() -> None:
    whole = carried([0.2, 0.2, 0.2])
    for number, sample in enumerate(whole):
        sample["backlog_bytes"] = 300_000 if number % 2 else 0
    assert errors(*whole) == []


def test_overhead_is_charged_for_each_frame() -> None:
    net = FRAME / (FRAME + 24)
    assert errors(*carried([net, net]), shapes=(shape(overhead_bytes=24),)) == [0.0]
    assert errors(*carried([1.0, 1.0], backlog=0)[::10], shapes=(shape(overhead_bytes=24),)) == [0.023, 0.023]


def test_cells_are_charged_whole_within_what_sizes_of_frames_can_be() -> None:
    assert charged_bytes(1000, 1, 0, 48, 5) == (21 * 53, 21 * 53)
    assert charged_bytes(1000, 10, 0, 48, 5) == (21 * 53, 30 * 53)
    assert charged_bytes(100, 2, -14, 0, 0) == (72, 72)
    net = FRAME / (21 * 53)
    cells = (shape(cell_bytes=48, cell_overhead_bytes=5),)
    assert errors(*carried([net, net]), shapes=cells) == [0.0]
    assert errors(*carried([net / 2, net / 2]), shapes=cells)[0] < -0.4


def test_slots_and_reordering_are_not_judged() -> None:
    assert errors(*carried([0.2, 0.2, 0.2]), shapes=(shape(slot={"min_us": 1, "max_us": 1}),)) == []
    assert errors(*carried([0.2, 0.2, 0.2]), shapes=(shape(jitter_reorders=True),)) == []


def test_a_step_inside_a_window_counts_by_its_time() -> None:
    shapes = asked(kinds(step(500_000, rate_bps=RATE_BPS // 2)))["radio1", "up"]
    assert possible_bytes(shapes, 0, SECOND, 0) == (750_000, 750_000)
    assert possible_bytes(shapes, 0, SECOND, 200_000) == (750_000, 850_000)  # what waits keeps its pace
    assert possible_bytes(shapes, SECOND, 2 * SECOND, 200_000) == (500_000, 500_000)


def test_a_queue_that_keeps_its_old_pace_after_a_step_is_no_error_but_shows() -> None:
    samples = carried([1.0, 1.0, 0.5, 0.5, 0.5])
    for sample in samples:  # the step was half a second before it shows
        sample["backlog_bytes"] = 500_000
    judged = judge_rates(kinds(*samples, step(1_500_000, rate_bps=RATE_BPS // 2)))
    assert {window.error for window in judged.windows} == {0.0}
    assert max(abs(window.replay_error) for window in judged.windows) > 0.2


def test_where_a_new_rate_holds_for_what_is_queued_the_old_pace_is_an_error() -> None:
    run = {"kind": "run", "t_us": 0, "shapes": (shape(),), "replans": True}
    seen = kinds(*carried([1.0, 1.0, 1.0, 1.0]), step(1_500_000, rate_bps=RATE_BPS // 2))
    windows = judge_rates(seen | {"run": [run]}).windows
    assert max(window.error for window in windows) > 0.5
    assert [window.error for window in windows] == [window.replay_error for window in windows]


def test_a_link_is_not_judged_while_it_or_its_switch_is_down() -> None:
    for target, what in (("radio1", "link"), ("bs1", "switch")):
        down = {"kind": "state", "t_us": SECOND, "what": what, "target": target, "up": False, "asked_us": SECOND}
        up = {**down, "t_us": 2 * SECOND, "up": True, "asked_us": 2 * SECOND, "applied_us": 2 * SECOND}
        assert away(kinds(down, up)) == {"radio1": [(SECOND, 3 * SECOND)]}
        assert errors(*carried([0.5] * 3), down) == []
        assert errors(*carried([0.5] * 6), down, up) == [-0.499, -0.499]


def run_with(*records: Record, clock: str = "virtual", shapes: tuple[Record, ...] = (shape(),)) -> list[Record]:
    whole = [r | {"shapes": list(shapes), "clock": clock} if r["kind"] == "run" else r for r in a_run()]
    return [*(r for r in whole if r["kind"] != "step"), *records]


def probe(took_us: float | None, t_us: int = SECOND) -> Record:
    return {"kind": "probe", "t_us": t_us, **LINK, "bytes": 60, "took_ns": took_us and round(took_us * 1000)}


def test_the_verdict_names_the_worst_link_and_second() -> None:
    other = {"link": "radio2", "direction": "down"}
    samples = carried([1.0] * 4) + carried([0.5] * 4, link=other, start_us=SECOND)
    fidelity = assess(run_with(*samples, shapes=(shape(), shape(**other))))
    assert fidelity.verdict == "INVALID"
    assert fidelity.worst["rate"]["link"] == "radio2"
    assert fidelity.worst["rate"]["asked_bytes"] == SECOND
    assert fidelity.worst["rate"]["carried_bytes"] == SECOND // 2
    assert "radio2 down carried -49.9% of its rate at 1." in fidelity.reasons[0]
    assert "radio1" not in fidelity.reasons[0]
    assert fidelity.figures["rate_windows"] == 6


@pytest.mark.parametrize(
    ("clock", "rate", "valid"), [("virtual", 0.98, False), ("real", 0.98, True), ("real", 0.96, False)]
)
def test_the_limit_of_rates_is_that_of_the_clock(clock: str, rate: float, valid: bool) -> None:
    fidelity = assess(run_with(*carried([rate] * 3), clock=clock))
    assert (fidelity.verdict == "valid") is valid
    assert fidelity.limits["rate_error"] == (0.03 if clock == "real" else 0.01)


@pytest.mark.parametrize(
    ("clock", "took_us", "valid"),
    [
        ("virtual", 5060 + 99, True),  # 5 ms and 60 bytes
        ("virtual", 5060 + 101, False),
        ("virtual", 5060 - 101, False),
        ("virtual", None, False),
        ("real", 5060 + 999, True),
        ("real", 5060 + 1001, False),
    ],
)
def test_the_limit_of_delays_is_that_of_the_clock(clock: str, took_us: float | None, valid: bool) -> None:
    fidelity = assess(run_with(probe(took_us), clock=clock))
    assert (fidelity.verdict == "valid") is valid
    assert fidelity.worst["delay"]["link"] == "radio1"
    if not valid:
        assert "radio1 up" in fidelity.reasons[0]


def test_a_probe_near_a_step_is_not_judged() -> None:
    assert (
        assess(run_with(probe(9999), step(SECOND + 10_000, applied_us=SECOND + 10_000, readback_ok=True))).figures[
            "probes"
        ]
        == 0
    )


def test_what_was_not_probed_is_counted() -> None:
    unprobed = {"kind": "unprobed", "t_us": 9, **LINK, "busy": 3, "slow": 2}
    figures = assess(run_with(unprobed)).figures
    assert (figures["probes_skipped"], figures["directions_unprobed"]) == (5, 1)


def test_a_machine_without_headroom_spoils_real_time_only() -> None:
    busy = [{"kind": "headroom", "t_us": n, "idle_ppm": 10_000, "late_us": 100} for n in range(20)]
    assert "99% busy" in assess(run_with(*busy, clock="real")).reasons[0]
    assert assess(run_with(*busy)).verdict == "valid"
    late = [{"kind": "headroom", "t_us": n, "idle_ppm": 900_000, "late_us": 11_000} for n in range(20)]
    assert "11 ms late" in assess(run_with(*late, clock="real")).reasons[0]


def test_a_calibration_demands_that_every_direction_was_saturated() -> None:
    run = {"kind": "run", "t_us": 0, "shapes": [shape(), shape(direction="down")]}
    found = calibrated(run, {"alone": [*carried([1.0] * 3), probe(5060.5)]}, VIRTUAL)
    assert found["verdict"] == "INVALID"
    assert found["reasons"] == ["alone: radio1 down was never seen saturated at its 8 Mbit/s"]
    up, down = found["phases"]["alone"]
    assert (up["windows"], up["rate_error"]["p95"], up["delay_error_us"]["p95"]) == (2, 0.0, 0.5)
    assert (down["windows"], down["probes"], down["delay_error_us"]["p50"]) == (0, 0, None)


def test_a_calibration_tells_what_is_off_and_by_how_much() -> None:
    run = {"kind": "run", "t_us": 0, "shapes": [shape()]}
    found = calibrated(run, {"together": [*carried([0.9] * 3), probe(7000), probe(None)]}, REAL)
    assert found["reasons"] == [
        "together: radio1 up is off its rate by 9.90% (p95), limit 3%",
        "together: radio1 up: probes never arrived",
    ]
