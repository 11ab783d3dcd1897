"""Journal records -> `valid` or `INVALID`, with every reason and the figures behind it. Pure.

A run is INVALID when the emulated world was not the one that was asked for, or when the record of it has holes.
It does not judge the system under test: requests that failed, or an SLA that broke, are results, not reasons.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from testbed.fidelity.limits import (
    EVENT_LATE_US,
    HANDOVER_OFF,
    OVERRUN_PART,
    OVERRUN_SHARE,
    OVERRUN_US,
    STEP_LATE_P99_US,
    limits_of,
)
from testbed.fidelity.measured import measured
from testbed.percentile import percentile

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fidelity:
    verdict: Literal["valid", "INVALID"]
    reasons: tuple[str, ...]
    figures: dict[str, float | int | None]
    limits: dict[str, float | int | None] = field(default_factory=dict)
    worst: dict[str, Record] = field(default_factory=dict)  # "step", "rate", "delay": the one that is furthest off


def assess(records: Iterable[Record]) -> Fidelity:
    """The verdict over a whole journal. An empty journal is INVALID: nothing was shown."""
    kinds: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        kinds[record["kind"]].append(record)
    figures: dict[str, float | int | None] = {}
    worst: dict[str, Record] = {}
    limits = limits_of(kinds["run"][0].get("clock", "virtual") if kinds["run"] else "virtual")
    reasons = [
        *_unfinished(kinds),
        *_faults(kinds),
        *_steps(kinds, figures, worst),
        *_events(kinds, figures),
        *_handovers(kinds, figures),
        *_states(kinds, figures),
        *_requests(kinds, figures),
        *_overruns(kinds, figures),
        *_answers(kinds, figures),
        *measured(kinds, limits, figures, worst),
    ]
    known = {"step_late_p99_us": STEP_LATE_P99_US, "event_late_us": EVENT_LATE_US, "overrun_share": OVERRUN_SHARE}
    return Fidelity("INVALID" if reasons else "valid", tuple(reasons), figures, known | asdict(limits), worst)


def _unfinished(kinds: dict[str, list[Record]]) -> Iterable[str]:
    run, end = kinds["run"], kinds["end"]
    if not run:
        yield "the journal has no `run` record: the run never started"
    elif not end:
        yield "the run did not finish: the journal has no `end` record"
    elif end[-1]["virtual_us"] < run[0]["duration_us"]:
        yield f"the run ended at {_seconds(end[-1]['virtual_us'])} of {_seconds(run[0]['duration_us'])}"


def _faults(kinds: dict[str, list[Record]]) -> Iterable[str]:
    for fault in kinds["fault"]:
        yield f"fault at {_seconds(fault['t_us'])}: {fault['what']}: {fault['why']}"


def _steps(
    kinds: dict[str, list[Record]], figures: dict[str, float | int | None], worst: dict[str, Record]
) -> Iterable[str]:
    steps = kinds["step"]
    if steps:
        latest = max(steps, key=lambda step: int(step["applied_us"] - step["asked_us"]))
        named = {name: latest[name] for name in ("link", "direction", "asked_us")}
        worst["step"] = named | {"late_us": latest["applied_us"] - latest["asked_us"]}
    late = [step["applied_us"] - step["asked_us"] for step in steps]
    figures["steps"] = len(steps)
    figures["step_late_p99_us"] = p99 = percentile(late, 99)
    figures["step_late_max_us"] = max(late, default=None)
    figures["steps_not_read_back"] = wrong = sum(not step["readback_ok"] for step in steps)
    if p99 is not None and p99 > STEP_LATE_P99_US:
        yield f"link steps were late: p99 {p99 / 1000:.1f} ms, limit {STEP_LATE_P99_US / 1000:.0f} ms"
    if wrong:
        first = next(step for step in steps if not step["readback_ok"])
        where = f"{first['link']} {first['direction']} at {_seconds(first['t_us'])}"
        yield f"{wrong} link steps read back differently than asked, first {where}"
    asked = kinds["run"][0].get("steps") if kinds["run"] else None
    if asked is not None and len(steps) < asked:
        yield f"only {len(steps)} of {asked} link steps fired"


def _events(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    late = [event["applied_us"] - event["asked_us"] for event in kinds["event"]]
    figures["events"] = len(late)
    figures["event_late_max_us"] = max(late, default=None)
    for event, late_us in zip(kinds["event"], late, strict=True):
        if late_us > EVENT_LATE_US:
            yield f"event `{event['text']}` was {late_us / 1000:.0f} ms late, limit {EVENT_LATE_US / 1000:.0f} ms"
    fired = Counter(event["text"] for event in kinds["event"])
    expected = Counter(event["text"] for run in kinds["run"][:1] for event in run["events"])
    for text, count in (expected - fired).items():
        yield f"event `{text}` never fired" if count == 1 else f"event `{text}` did not fire {count} times"


def _handovers(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    """How long phones were really off the network; what their packets say of it is a result."""
    figures["handovers"] = len(kinds["handover"])
    for one in kinds["handover"]:
        if one["detached_us"] is None or one["attached_us"] is None:
            continue  # a fault already
        lasted_us, asked_us = one["attached_us"] - one["detached_us"], one["interruption_us"]
        if abs(lasted_us - asked_us) > HANDOVER_OFF * asked_us:
            what = f"the handover of {one['phone']} at {_seconds(one['asked_us'])}"
            yield f"{what} took {lasted_us / 1000:.1f} ms instead of {asked_us / 1000:.1f} ms, limit {HANDOVER_OFF:.0%}"


def _states(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    """Links and switches that went down or up; one that did not read back is a fault already."""
    states = kinds["state"]
    figures["states"] = len(states)
    for state in states:
        late_us = state["applied_us"] - state["asked_us"]
        if late_us > EVENT_LATE_US:
            where = f"{state['what']} {state['target']} {'up' if state['up'] else 'down'}"
            yield f"{where} was {late_us / 1000:.0f} ms late, limit {EVENT_LATE_US / 1000:.0f} ms"
    asked = kinds["run"][0].get("states", 0) if kinds["run"] else 0
    if len(states) < asked:
        yield f"only {len(states)} of {asked} links and switches went down or up"


def _requests(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    told = len({(request["stream"], request["id"]) for request in kinds["request"]})
    sent = kinds["end"][-1]["sent"] if kinds["end"] else told
    figures["requests_sent"] = sent
    figures["requests_lost"] = max(0, sent - told)
    if not sent:
        yield "no request was sent: nothing was measured"
    if sent > told:
        yield f"{sent - told} of {sent} requests were sent and never accounted for"
    if told > sent:
        yield f"{told} requests are accounted for, but only {sent} were sent"


def _overruns(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    late_us: Counter[str] = Counter()
    for overrun in kinds["overrun"]:
        late_us[str(overrun["request"])] += overrun["late_us"]
    took_us = {str(r["id"]): r["done_us"] - r["sent_us"] for r in kinds["request"] if r["done_us"] is not None}
    slow = [id for id, late in late_us.items() if late > max(OVERRUN_US, OVERRUN_PART * took_us.get(id, 0))]
    requests = max(1, len(kinds["request"]))
    figures["overruns"] = len(kinds["overrun"])
    figures["overrun_share"] = share = round(len(slow) / requests, 6)
    figures["overrun_max_us"] = max((overrun["late_us"] for overrun in kinds["overrun"]), default=None)
    if share > OVERRUN_SHARE:
        felt = f"by more than {OVERRUN_US} us and {OVERRUN_PART:.0%} of their latency, limit {OVERRUN_SHARE:.0%}"
        yield f"the computation of {share:.1%} of the requests took longer than modelled {felt}"


def _answers(kinds: dict[str, list[Record]], figures: dict[str, float | int | None]) -> Iterable[str]:
    ok = [request for request in kinds["request"] if request["outcome"] == "ok"]
    figures["answers_unchecked"] = unchecked = sum(not request["checked"] for request in ok)
    if unchecked and kinds["run"] and kinds["run"][0]["numerics"]:
        yield f"{unchecked} of {len(ok)} answers were not compared with the unsplit model, although numerics are on"


def _seconds(t_us: int) -> str:
    return f"{t_us / 1e6:.3f} s"
