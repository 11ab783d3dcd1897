"""Fidelity: a good run is valid, and each way of not being believable is told."""

import pytest

from testbed.fidelity import assess
from tests.unit.journal_factory import a_run, a_step


def reasons(records: list[dict]) -> str:
    fidelity = assess(records)
    assert (fidelity.verdict == "INVALID") == bool(fidelity.reasons)
    return "; ".join(fidelity.reasons)


def without(kind: str) -> list[dict]:
    return [record for record in a_run() if record["kind"] != kind]


def a_state(late_us: int) -> dict:
    state = {"kind": "state", "what": "link", "target": "xn", "up": False, "readback_ok": True}
    return state | {"t_us": 5_000_000 + late_us, "asked_us": 5_000_000, "applied_us": 5_000_000 + late_us}


def changed(kind: str, **changes: object) -> list[dict]:
    return [record | changes if record["kind"] == kind else record for record in a_run()]


def test_a_good_run_is_valid_with_its_figures() -> None:
    fidelity = assess(a_run())
    assert (fidelity.verdict, fidelity.reasons) == ("valid", ())
    assert fidelity.figures["steps"] == 120
    assert fidelity.figures["step_late_p99_us"] == 150
    assert fidelity.figures["requests_sent"] == 480
    assert fidelity.figures["overrun_share"] == 0


def test_a_broken_sla_or_a_failed_request_is_a_result_not_a_reason() -> None:
    records = a_run(recovers=False)
    failed = next(record for record in records if record["kind"] == "request")
    failed.update(outcome="failed", done_us=None, checked=False, equal=False)
    assert assess(records).verdict == "valid"


def test_nothing_is_invalid() -> None:
    assert "never started" in reasons([])


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (without("end"), "did not finish"),
        (without("request"), "480 of 480 requests were sent and never accounted for"),
        (without("event"), "event `uplink gets worse` never fired"),
        (changed("end", virtual_us=30_000_000), "ended at 30.000 s of 60.000 s"),
        (changed("end", sent=481), "1 of 481 requests"),
        (changed("end", sent=470), "480 requests are accounted for, but only 470"),
        (changed("run", steps=121), "only 120 of 121 link steps fired"),
        (changed("event", applied_us=20_200_000), "200 ms late"),
        (changed("request", checked=False), "480 of 480 answers were not compared"),
        ([*a_run(), {"kind": "fault", "t_us": 5, "what": "agent", "why": "died"}], "agent: died"),
        ([*a_run(), a_state(late_us=150_000)], "link xn down was 150 ms late, limit 100 ms"),
        (changed("run", states=1), "only 0 of 1 links and switches went down or up"),
        ([*a_run(), a_step(1, readback_ok=False)], "1 link steps read back differently"),
        ([*a_run(), a_step(1, late_us=10_001), a_step(2, late_us=20_000)], "steps were late: p99 10.0 ms"),
        (
            [
                *a_run(),
                *({"kind": "overrun", "t_us": n, "node": "edge1", "request": n, "late_us": 9_000} for n in range(5)),
            ],
            "1.0%",
        ),
    ],
)
def test_what_makes_a_run_unbelievable_is_told(records: list[dict], reason: str) -> None:
    assert reason in reasons(records)


def test_one_late_step_in_a_hundred_and_few_overruns_are_allowed() -> None:
    overrun = {"kind": "overrun", "t_us": 3, "node": "edge1", "request": 1, "late_us": 9_000}
    assert reasons([*a_run(), a_step(1, late_us=50_000), overrun]) == ""


def test_overruns_that_nobody_feels_are_told_and_not_judged() -> None:
    """A hundredth of the latency of a request, all its overruns together, or a tenth of a millisecond."""
    latency_us = {r["id"]: r["done_us"] - r["sent_us"] for r in a_run() if r["kind"] == "request"}
    limit_us = {id: max(100, took // 100) for id, took in latency_us.items()}

    def overruns(more_us: int) -> list[dict]:
        parts = [(id, late) for id, most in limit_us.items() for late in (most - 50, 50 + more_us)]
        return [{"kind": "overrun", "t_us": 1, "node": "edge1", "request": id, "late_us": late} for id, late in parts]

    assert reasons([*a_run(), *overruns(0)]) == ""
    assert "took longer than modelled" in reasons([*a_run(), *overruns(1)])


def test_without_numerics_answers_need_no_check() -> None:
    records = [r | {"numerics": False} if r["kind"] == "run" else r for r in changed("request", checked=False)]
    assert reasons(records) == ""


def test_a_run_without_requests_measured_nothing() -> None:
    records = [r | {"sent": 0} if r["kind"] == "end" else r for r in without("request")]
    assert "nothing was measured" in reasons(records)
