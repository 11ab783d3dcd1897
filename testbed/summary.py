"""Journal records -> the numbers of a run (`summary.json`). Pure; the journal alone decides.

Definitions, on which every figure here rests:

* *Latency* of a request: `done_us - sent_us`. One that failed or was never answered has infinite latency and counts
  in every percentile as such, never dropped; an infinite percentile is written as null. Percentiles are nearest rank.
* *Window*: the requests sent in [end - window, end), with `end` stepped by 1 s from 1 s to the end of the run. It
  violates when its SLA percentile exceeds the SLA latency. A window in which nothing was sent says nothing and keeps
  the state of the one before. `violated_s` is the number of violating steps, each worth its second.
* *Recovery* after an event: from the end of the first violating window (after the event, before the next) to the end
  of the first of 3 consecutive good ones, looked for until the run ends. 0: never violated; null: never recovered.
  Of the whole run: null if an event was never recovered from, else the largest. Without events, the start is the event.
* *Phases* of an event, by time of sending: before = since the last event; during = from the event to the end of the
  recovery (one window if nothing was violated, the next event at the latest); after = from there to the next event.
* *lost*: sent, by the `end` record, and in no `request` record. *duplicated*: further answers to a request.
* `bytes.data`: what network spans carried, of ok and failed requests, and `part` records within layers by parts.
  `bytes.moves`: what the prepare phases of moves carried, aborted ones included: those bytes crossed the network too,
  and the keys and values that were pulled after a switch. The first placement (epoch 1) is not a move.
* *sessions*, when there are any: each round is a request, of one token. *first token*: from the arrival to the first
  answer; *tokens a second*: of one session, behind its first token. *replays*: lives that a lost one was followed by.
* *groups*, with `compute: cgroup`: what the kernel held each host to, and what it counted of it.
* *handovers*: each as it was asked for and as the phone's own probes measured it; null where no answer came again.
* *cache*, where a model has one: requests that a phone looked up among the answers it keeps, and those that it found.
* *optimised*, where a model is: how, and how far the unsplit optimised model is off the plain one (worst input).
* *fingerprint*: of all that repeats (testbed/fingerprint.py); null on the real clock, or where a run has not ended.
* *decision_gap*: how far decisions are above the optimum, at most, by their own bound or by the proof that there is of
  it since; *certain*: of how many that is exact.
* *answers*: ok requests compared with the unsplit model, and how many were equal, to the bit; `relative_error` is
  |answer - right| / |right|, mean and worst of the answers it can be told of. *wire*: what travelled with fewer bits,
  by how: so many hops of ok and failed requests, and the relative error of the tensors they carried.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.decisions import above, decisions
from testbed.fidelity import assess
from testbed.fingerprint import fingerprint
from testbed.percentile import UNANSWERED, percentile

Record = dict[str, Any]
Summary = dict[str, Any]

STEP_US = 1_000_000
GOOD_WINDOWS = 3
LAST_US = 30_000_000
PERCENTS = (50, 95, 99)


def summarise(records: Iterable[Record]) -> Summary:
    """Never fails on a journal that the testbed wrote, however early it stops: what is not known is null or 0."""
    everything = list(records)
    kinds: dict[str, list[Record]] = defaultdict(list)
    for record in everything:
        kinds[record["kind"]].append(record)
    run = kinds["run"][0] if kinds["run"] else {}
    end = kinds["end"][-1] if kinds["end"] else {}
    requests = first_records(kinds["request"])
    duration_us = run.get("duration_us", 0)
    steps = windows(requests, run["sla"], duration_us) if run else []
    happened = disturbances(kinds["event"], steps, run["sla"]["window_us"], duration_us) if run else []
    fidelity = assess(everything)
    return {
        "name": run.get("name"),
        "policy": run.get("policy"),
        "seed": run.get("seed"),
        "clock": run.get("clock"),
        "kernel": run.get("kernel"),
        "fingerprint": fingerprint(everything),
        "fidelity": {
            "verdict": fidelity.verdict,
            "reasons": list(fidelity.reasons),
            "figures": fidelity.figures,
            "limits": fidelity.limits,
            "worst": fidelity.worst,
        },
        "requests": _requests(kinds["request"], requests, end),
        "latency_ms": percentiles_ms(requests),
        "last_30s": _sent([r for r in requests if r["sent_us"] >= duration_us - LAST_US]),
        "sla": {
            "percentile": run["sla"]["percentile"] if run else None,
            "latency_ms": run["sla"]["latency_us"] / 1000 if run else None,
            "window_s": run["sla"]["window_us"] / 1e6 if run else None,
            "violated_s": sum(bad for _, _, bad in steps),
            "recovery_s": _recovery([event["recovery_s"] for event in happened]),
        },
        "bytes": {"data": _data_bytes(requests, kinds["part"]), "moves": _moved_bytes(kinds["move"], kinds["kv"])},
        **({"sessions": _sessions(kinds["session"])} if kinds["session"] else {}),
        "moves": _moves(kinds["move"]),
        "decision_ms": _decisions(kinds["decision"]),
        "decision_gap": _gaps(decisions(everything)),
        "answers": {
            "checked": sum(r["outcome"] == "ok" and bool(r["checked"]) for r in requests),
            "equal": sum(r["outcome"] == "ok" and bool(r["checked"]) and bool(r["equal"]) for r in requests),
            "relative_error": _errors([e for r in requests if (e := r.get("relative_error")) is not None]),
        },
        **({"cache": _cache(looked)} if (looked := [r for r in requests if "cached" in r]) else {}),
        **({"optimised": run["optimised"]} if run.get("optimised") else {}),
        "wire": _wire(requests, kinds["part"]),
        "events": [event | _phases(requests, event) for event in happened],
        "handovers": _handovers(kinds["handover"]),
        "streams": _streams(run.get("streams", ()), requests),
        "links": _links(kinds["traffic"]),
        **({"groups": _groups(kinds["group"])} if kinds["group"] else {}),
        "wall_s": end.get("wall_s"),
        "virtual_s": end["virtual_us"] / 1e6 if end else None,
        "versions": run.get("versions", {}),
    }


def latency_us(request: Record) -> float:
    if request["outcome"] != "ok" or request["done_us"] is None:
        return UNANSWERED
    return float(request["done_us"] - request["sent_us"])


def first_records(requests: Iterable[Record]) -> list[Record]:
    """One record for each (stream, id), the first; ordered by time of sending."""
    first: dict[tuple[str, int], Record] = {}
    for request in requests:
        first.setdefault((request["stream"], request["id"]), request)
    return sorted(first.values(), key=lambda r: (r["sent_us"], r["stream"], r["id"]))


def windows(requests: Sequence[Record], sla: Record, duration_us: int) -> list[tuple[int, float | None, bool]]:
    """(end of the window in us, its SLA percentile in us, violating) for every step; `requests` ordered by sending."""
    found: list[tuple[int, float | None, bool]] = []
    first = last = 0
    violating = False
    for end_us in range(STEP_US, duration_us + STEP_US, STEP_US):
        while last < len(requests) and requests[last]["sent_us"] < end_us:
            last += 1
        while first < last and requests[first]["sent_us"] < end_us - sla["window_us"]:
            first += 1
        level = percentile([latency_us(r) for r in requests[first:last]], sla["percentile"])
        if level is not None:
            violating = level > sla["latency_us"]
        found.append((end_us, level, violating))
    return found


def disturbances(
    events: Iterable[Record], steps: Sequence[tuple[int, float | None, bool]], window_us: int, duration_us: int
) -> list[dict[str, Any]]:
    """Each event (those of one instant are one) with its recovery and the borders of its phases."""
    texts: dict[int, list[str]] = defaultdict(list)
    for event in events:
        texts[event["asked_us"]].append(event["text"])
    if not texts:
        texts[0] = ["start"]
    times = sorted(texts)
    found = []
    for place, at_us in enumerate(times):
        next_us = times[place + 1] if place + 1 < len(times) else duration_us
        recovery_us, good_us = _recover(steps, at_us, next_us)
        calm_us = at_us + window_us if recovery_us == 0 else next_us if good_us is None else good_us
        found.append(
            {
                "text": ", ".join(dict.fromkeys(texts[at_us])),
                "t_s": at_us / 1e6,
                "since_s": times[place - 1] / 1e6 if place else 0.0,
                "calm_s": min(calm_us, next_us) / 1e6,
                "until_s": next_us / 1e6,
                "recovery_s": None if recovery_us is None else recovery_us / 1e6,
            }
        )
    return found


def _recover(
    steps: Sequence[tuple[int, float | None, bool]], at_us: int, next_us: int
) -> tuple[int | None, int | None]:
    """(recovery time, end of the first good window): (0, None) never violated, (None, None) never recovered."""
    after = [(end_us, bad) for end_us, _, bad in steps if end_us > at_us]
    broken = next((place for place, (end_us, bad) in enumerate(after) if bad and end_us <= next_us), None)
    if broken is None:
        return 0, None
    for place in range(broken, len(after) - GOOD_WINDOWS + 1):
        if not any(bad for _, bad in after[place : place + GOOD_WINDOWS]):
            return after[place][0] - after[broken][0], after[place][0]
    return None, None


def _recovery(each: Sequence[float | None]) -> float | None:
    known = [seconds for seconds in each if seconds is not None]
    return max(known) if each and len(known) == len(each) else None


def _phases(requests: Sequence[Record], event: dict[str, Any]) -> dict[str, Any]:
    borders = {"before": ("since_s", "t_s"), "during": ("t_s", "calm_s"), "after": ("calm_s", "until_s")}
    return {
        phase: _sent([r for r in requests if event[begin] * 1e6 <= r["sent_us"] < event[end] * 1e6])
        for phase, (begin, end) in borders.items()
    }


def percentiles_ms(requests: Sequence[Record]) -> dict[str, float | None]:
    """{"p50": ms, "p95": ms, "p99": ms}; null where it is infinite, or where there was no request."""
    latencies = [latency_us(r) for r in requests]
    return {f"p{percent}": _ms(percentile(latencies, percent)) for percent in PERCENTS}


def _sent(requests: Sequence[Record]) -> dict[str, float | None]:
    return {"sent": len(requests), **percentiles_ms(requests)}


def _ms(us: float | None) -> float | None:
    return None if us is None or us == UNANSWERED else round(us / 1000, 3)


def _requests(records: Sequence[Record], requests: Sequence[Record], end: Record) -> dict[str, int]:
    sent = end.get("sent", len(requests))
    ok = sum(r["outcome"] == "ok" for r in requests)
    again = len(records) - len(requests)  # a second record of the same request is a second answer
    return {
        "sent": sent,
        "ok": ok,
        "failed": len(requests) - ok,
        "lost": max(0, sent - len(requests)),
        "duplicated": again + sum(r["duplicates"] for r in records),
    }


def _data_bytes(requests: Iterable[Record], parts: Iterable[Record]) -> int:
    carried = (int(span["size_bytes"]) for r in requests for span in r["spans"] if span["kind"] == "network")
    return sum(carried) + sum(int(part["sent_bytes"]) for part in parts)


def _wire(requests: Iterable[Record], parts: Iterable[Record]) -> dict[str, Any]:
    """Between layers and within them."""
    found: dict[str, list[float]] = defaultdict(list)
    spans = (span for request in requests for span in request["spans"])
    for carried in (*spans, *(one for part in parts for one in part.get("rounded", ()))):
        if wire := carried.get("wire"):
            found[wire].append(carried["relative_error"])
    return {wire: {"hops": len(errors), "relative_error": _errors(errors)} for wire, errors in sorted(found.items())}


def _cache(looked: Sequence[Record]) -> dict[str, float | int]:
    hits = sum(bool(request["cached"]) for request in looked)
    return {"hits": hits, "lookups": len(looked), "ratio": hits / len(looked)}


def _errors(values: Sequence[float]) -> dict[str, float] | None:
    """None: there were none."""
    return {"mean": sum(values) / len(values), "worst": max(values)} if values else None


def real_moves(moves: Iterable[Record]) -> list[Record]:
    return [move for move in moves if move["epoch"] > 1]


def _moved_bytes(moves: Iterable[Record], pulls: Iterable[Record]) -> int:
    carried: list[int] = [move["bytes"] or 0 for move in real_moves(moves) if move["phase"] == "prepare"]
    return sum([*carried, *(pull["bytes"] for pull in pulls if pull["phase"] == "switch")])


def _sessions(records: Sequence[Record]) -> dict[str, Any]:
    done = [r for r in records if r["outcome"] == "ok"]
    first = [UNANSWERED if r["first_us"] is None else float(r["first_us"] - r["begun_us"]) for r in records]
    spoken = [r for r in records if len(r["tokens"]) > 1 and r["done_us"] > r["first_us"]]
    rates = sorted((len(r["tokens"]) - 1) * 1e6 / (r["done_us"] - r["first_us"]) for r in spoken)
    return {
        "started": len(records),
        "finished": len(done),
        "failed": len(records) - len(done),
        "tokens": sum(len(r["tokens"]) for r in records),
        "replays": sum(r["replays"] for r in records),
        "first_token_ms": {f"p{percent}": _ms(percentile(first, percent)) for percent in PERCENTS},
        "tokens_per_s": {
            "median": round(rates[len(rates) // 2], 3) if rates else None,
            "slowest": round(rates[0], 3) if rates else None,
        },
    }


def _moves(records: Iterable[Record]) -> dict[str, int]:
    moves = real_moves(records)
    return {
        "count": len({move["move"] for move in moves}),
        "aborted": len({move["move"] for move in moves if move["phase"] == "abort"}),
    }


def _decisions(decisions: Sequence[Record]) -> dict[str, float | int | None]:
    took = [decision["duration_us"] for decision in decisions]
    return {"count": len(took), "p50": _ms(percentile(took, 50)), "p99": _ms(percentile(took, 99))}


def _gaps(made: Iterable[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Of the decisions whose bound is known: how far the worst is above it at most; of how many that is certain."""
    known = [one for decision in made if (one := above(decision))]
    return {
        "count": len(known),
        "certain": sum(one.certain for one in known),
        "largest": max((one.share for one in known), default=None),
    }


def _handovers(records: Sequence[Record]) -> dict[str, Any]:
    """`asked_ms` is the interruption of the experiment, `measured_ms` what the phone's own packets say of it."""
    return {
        "count": len(records),
        "each": [
            {
                **{"t_s": r["asked_us"] / 1e6, "phone": r["phone"], "from": r["from"], "to": r["to"]},
                **{"asked_ms": _ms(r["interruption_us"]), "measured_ms": _ms(r["measured_us"])},
                **{"silent_ms": _ms(r["silent_us"]), "lost_probes": r["lost_probes"]},
            }
            for r in sorted(records, key=lambda r: (r["asked_us"], r["phone"]))
        ],
    }


def _streams(streams: Iterable[Record], requests: Sequence[Record]) -> dict[str, Any]:
    found = {}
    for stream in streams:
        own = [r for r in requests if r["stream"] == stream["name"]]
        ok = sum(r["outcome"] == "ok" for r in own)
        counts = {"sent": len(own), "ok": ok, "failed": len(own) - ok}
        found[stream["name"]] = {"model": stream["model"], "source": stream["source"], **counts, **percentiles_ms(own)}
    return found


def _links(traffic: Iterable[Record]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for record in traffic:
        fields = ("tx_bytes", "tx_packets", "dropped")
        found[record["link"]][record["direction"]] = {name: record[name] for name in fields}
    return dict(found)


def _groups(records: Iterable[Record]) -> dict[str, dict[str, int | None]]:
    return {r["node"]: {name: r[name] for name in r if name not in ("kind", "t_us", "node")} for r in records}
