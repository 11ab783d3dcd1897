"""The summary: its keys, and each definition on a journal small enough to reckon by hand."""

import json

import pytest

from testbed.percentile import UNANSWERED, percentile
from testbed.summary import summarise, windows
from tests.unit.journal_factory import SECOND, a_move, a_request, a_run

SLA = {"percentile": 95, "latency_us": 150_000, "window_us": 5 * SECOND}


def test_percentiles_are_nearest_rank() -> None:
    assert percentile([], 50) is None
    assert percentile([7], 99) == 7
    assert [percentile(list(range(1, 101)), p) for p in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([1, UNANSWERED], 95) == UNANSWERED


def test_the_keys_that_later_tools_rely_on() -> None:
    summary = summarise(a_run())
    assert {"verdict", "reasons"} <= set(summary["fidelity"])
    assert set(summary["requests"]) == {"sent", "ok", "failed", "lost", "duplicated"}
    assert set(summary["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"violated_s", "recovery_s"} <= set(summary["sla"])
    assert set(summary["bytes"]) == {"data", "moves"}
    assert set(summary["moves"]) == {"count", "aborted"}
    assert set(summary["decision_ms"]) == {"count", "p50", "p99"}
    assert set(summary["decision_gap"]) == {"count", "certain", "largest"}
    assert set(summary["answers"]) == {"checked", "equal", "relative_error"}
    assert {"seed", "wall_s", "virtual_s", "versions"} <= set(summary)
    json.dumps(summary, allow_nan=False)


def test_a_run_that_recovers() -> None:
    summary = summarise(a_run())
    assert summary["fidelity"]["verdict"] == "valid"
    assert summary["requests"] == {"sent": 480, "ok": 480, "failed": 0, "lost": 0, "duplicated": 0}
    # bad from 20 s to 24 s: windows violate from the one that ends at 21 s to the one that ends at 28 s
    assert summary["sla"]["violated_s"] == 8
    assert summary["sla"]["recovery_s"] == 8
    assert summary["answers"] == {"checked": 480, "equal": 480, "relative_error": None}
    assert summary["moves"] == {"count": 1, "aborted": 0}
    assert summary["bytes"] == {"data": 480 * 154_528, "moves": 28_000_000}
    assert summary["decision_ms"] == {"count": 2, "p50": 0.9, "p99": 1.8}
    assert summary["decision_gap"] == {"count": 2, "certain": 2, "largest": 0.0}
    assert summary["links"]["radio1"]["up"]["tx_bytes"] == 72_000_000
    assert (summary["virtual_s"], summary["wall_s"], summary["seed"]) == (60, 12.5, 1)
    assert summary["streams"]["cam1"]["ok"] == 240


def test_the_phases_of_an_event() -> None:
    (event,) = summarise(a_run())["events"]
    assert (event["since_s"], event["t_s"], event["calm_s"], event["until_s"]) == (0, 20, 29, 60)
    assert 80 <= event["before"]["p50"] <= 92
    assert event["during"]["p95"] >= 400
    assert 80 <= event["after"]["p99"] <= 92


def test_a_run_that_never_recovers() -> None:
    summary = summarise(a_run(recovers=False))
    assert summary["sla"]["recovery_s"] is None
    assert summary["sla"]["violated_s"] == 40
    (event,) = summary["events"]
    assert event["calm_s"] == 60
    assert event["after"] == {"sent": 0, "p50": None, "p95": None, "p99": None}
    assert summary["last_30s"]["p95"] >= 400


def test_a_run_that_is_never_disturbed() -> None:
    summary = summarise(a_run(event_s=None))
    assert (summary["sla"]["violated_s"], summary["sla"]["recovery_s"]) == (0, 0)
    (event,) = summary["events"]
    assert (event["text"], event["t_s"], event["calm_s"]) == ("start", 0, 5)


def test_failed_requests_are_infinitely_slow_never_dropped() -> None:
    records = [r for r in a_run(event_s=None) if r["kind"] != "request"]
    answered = [a_request(n, sent_us=n * 100_000) for n in range(90)]
    failed = [a_request(n, sent_us=n * 100_000, took_us=None) for n in range(90, 100)]
    summary = summarise([*records, *answered, *failed])
    assert summary["latency_ms"] == {"p50": 80, "p95": None, "p99": None}
    assert summary["requests"]["failed"] == 10
    assert summary["sla"]["violated_s"] > 0
    assert summary["answers"]["checked"] == 90


def test_late_answers_of_a_failed_request_stay_failures() -> None:
    record = a_request(1, sent_us=0, took_us=50_000, outcome="failed", error="DEADLINE")
    assert windows([record], SLA, SECOND) == [(SECOND, UNANSWERED, True)]


def test_windows_slide_by_a_second_and_an_empty_one_keeps_the_state() -> None:
    slow = a_request(0, sent_us=1_500_000, took_us=200_000)
    fast = a_request(1, sent_us=9_000_000, took_us=10_000)
    found = windows([slow, fast], SLA, 12 * SECOND)
    assert [bad for _, _, bad in found] == [False] + [True] * 8 + [False] * 3
    assert found[0] == (SECOND, None, False)
    assert found[8] == (9 * SECOND, None, True)


def test_three_good_windows_are_a_recovery_two_are_not() -> None:
    def run(sent_bad_s: list[int]) -> dict:
        records = [r for r in a_run(event_s=None, duration_s=30) if r["kind"] != "request"]
        event = {"text": "cut", "what": "link", "target": "radio1", "asked_us": 0, "applied_us": 0}
        records.append({"kind": "event", "t_us": 0, **event})
        records += [a_request(s, sent_us=s * SECOND, took_us=900_000 if s in sent_bad_s else 10_000) for s in range(30)]
        return summarise(records)["sla"]

    assert run([2])["recovery_s"] == 5  # windows ending at 3..7 s violate
    assert run([2, 9])["recovery_s"] == 12  # good at 8 and 9 s only, then again until 14 s
    assert run([2, 10])["recovery_s"] == 5  # three good ones, then a disturbance of its own
    assert run([2, 22])["recovery_s"] == 5
    assert run([23])["recovery_s"] is None  # good only from 29 s on


def test_every_event_has_its_own_recovery_and_the_worst_counts() -> None:
    records = a_run()
    event = next(r for r in records if r["kind"] == "event")
    records.append(event | {"t_us": 40 * SECOND, "asked_us": 40 * SECOND, "text": "load on mec"})
    records.append(event | {"t_us": 40 * SECOND, "asked_us": 40 * SECOND, "text": "cloud down"})
    first, second = summarise(records)["events"]
    assert (first["recovery_s"], first["until_s"]) == (8, 40)
    assert (second["text"], second["recovery_s"], second["since_s"]) == ("load on mec, cloud down", 0, 20)
    assert summarise(records)["sla"]["recovery_s"] == 8


def test_lost_and_duplicated() -> None:
    records = a_run()
    requests = [r for r in records if r["kind"] == "request"]
    requests[0]["duplicates"] = 2
    records.remove(requests[1])
    records.append(dict(requests[2]))
    assert summarise(records)["requests"] == {"sent": 480, "ok": 479, "failed": 0, "lost": 1, "duplicated": 3}


def test_aborted_moves_count_with_their_bytes_and_the_first_placement_does_not() -> None:
    records = [*a_run(), *a_move(3, 50 * SECOND, epoch=3, aborted=True)]
    summary = summarise(records)
    assert summary["moves"] == {"count": 2, "aborted": 1}
    assert summary["bytes"]["moves"] == 56_000_000


@pytest.mark.parametrize("kept", [0, 1, 5, 100])
def test_a_journal_that_stops_anywhere_gives_a_summary_that_says_so(kept: int) -> None:
    summary = summarise(a_run()[:kept])
    assert summary["fidelity"]["verdict"] == "INVALID"
    assert summary["virtual_s"] is None
    json.dumps(summary, allow_nan=False)
