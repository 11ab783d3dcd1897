"""Journals of runs that never were: a whole, plausible one to start from, and small changes to it.

records = a_run(recovers=False)          # the list of records, ordered
folder = written(tmp_path, records)      # as a run folder with parts/
"""

from pathlib import Path
from typing import Any

from testbed.journal import Journal

Record = dict[str, Any]
SECOND = 1_000_000


def a_run(
    *,
    policy: str = "joint",
    recovers: bool = True,
    duration_s: int = 60,
    event_s: int | None = 20,
    period_us: int = 250_000,
    good_us: int = 80_000,
    bad_us: int = 400_000,
    streams: tuple[str, ...] = ("cam1", "cam2"),
    seed: int = 1,
) -> list[Record]:
    """A valid run: calm, then `event_s` makes the uplink bad; with `recovers` a move 4 s later makes it good again."""
    moved_s = event_s + 4 if event_s is not None and recovers else None
    records = [_run(policy, duration_s, event_s, streams, seed), _decision(1, -300_000, "REMAP", 1, "first placement")]
    records.extend(a_move(1, -200_000, epoch=1, moved_bytes=0))
    for at_s in range(0, duration_s):
        rate = 100_000_000 if event_s is None or at_s < event_s else 8_000_000
        for direction, factor in (("up", 1), ("down", 4)):
            records.append(
                a_step(at_s * SECOND, direction=direction, rate_bps=factor * rate + 700_000 * (at_s * 7 % 11))
            )
    if event_s is not None:
        at_us = event_s * SECOND
        event = {"text": "uplink gets worse", "what": "link", "target": "radio1"}
        records.append({"kind": "event", "t_us": at_us, "asked_us": at_us, "applied_us": at_us + 200, **event})
    if moved_s is not None:
        records.append(_decision(2, moved_s * SECOND - 100_000, "REMAP", 2, "gain exceeds cost"))
        records.extend(a_move(2, moved_s * SECOND - 100_000, epoch=2))
    for number, stream in enumerate(streams):
        for place in range(duration_s * SECOND // period_us):
            sent_us = place * period_us + number * 7_000
            in_event = event_s is not None and sent_us >= event_s * SECOND
            healed = moved_s is not None and sent_us >= moved_s * SECOND
            base = bad_us if in_event and not healed else good_us
            wiggle = (place * 37 + number * 11) % 23 * 500
            records.append(a_request(place, stream, sent_us, base + wiggle, epoch=2 if healed else 1))
    sent = sum(record["kind"] == "request" for record in records)
    for direction in ("up", "down"):
        traffic = {"link": "radio1", "direction": direction, "tx_bytes": 150_000 * sent, "tx_packets": 100 * sent}
        records.append({"kind": "traffic", "t_us": duration_s * SECOND, **traffic, "dropped": 3})
    records.append(
        {"kind": "end", "t_us": duration_s * SECOND, "virtual_us": duration_s * SECOND, "wall_s": 12.5, "sent": sent}
    )
    return sorted(records, key=lambda record: record["t_us"])


def a_request(
    number: int, stream: str = "cam1", sent_us: int = 0, took_us: int | None = 80_000, *, epoch: int = 1, **changes: Any
) -> Record:
    """An ok request with its spans over two hops; `took_us` None: never answered."""
    done_us = None if took_us is None else sent_us + took_us
    end_us = sent_us + (took_us or 0)
    middle_us = (sent_us + end_us) // 2
    spans = [
        a_span("phone", 0, "network", sent_us, middle_us, 150_528),
        a_span("edge1", 1, "queue", middle_us, middle_us, 0),
        a_span("edge1", 1, "compute", middle_us, end_us - 1000, 0),
        a_span("edge1", 1, "network", end_us - 1000, end_us, 4_000),
    ]
    return {
        "kind": "request",
        "t_us": end_us,
        "id": number,
        "stream": stream,
        "epoch": epoch,
        "sent_us": sent_us,
        "done_us": done_us,
        "outcome": "failed" if done_us is None else "ok",
        "error": "DEADLINE" if done_us is None else "",
        "checked": done_us is not None,
        "equal": done_us is not None,
        "duplicates": 0,
        "spans": spans if done_us is not None else spans[:1],
        **changes,
    }


def a_span(node: str, step: int, kind: str, start_us: int, end_us: int, size_bytes: int) -> Record:
    return {"node": node, "step": step, "kind": kind, "start_us": start_us, "end_us": end_us, "size_bytes": size_bytes}


def a_step(
    t_us: int, *, direction: str = "up", rate_bps: int = 50_000_000, late_us: int = 150, **changes: Any
) -> Record:
    return {
        "kind": "step",
        "t_us": t_us,
        "link": "radio1",
        "direction": direction,
        "asked_us": t_us,
        "applied_us": t_us + late_us,
        "rate_bps": rate_bps,
        "delay_us": 5_000,
        "jitter_us": 0,
        "loss_ppm": 0,
        "queue_packets": 1000,
        "readback_ok": True,
        **changes,
    }


def a_move(
    number: int, t_us: int, *, epoch: int = 2, moved_bytes: int = 28_000_000, aborted: bool = False
) -> list[Record]:
    piece = {"node": "mec", "model": "vit", "first": 4, "last": 14}
    phases = ["prepare", "abort"] if aborted else ["prepare", "commit", "switch", "drain", "release", "done"]
    return [
        {
            "kind": "move",
            "t_us": t_us + 20_000 * place,
            "move": number,
            "epoch": epoch,
            "phase": phase,
            "slice": piece if phase in ("prepare", "release") else None,
            "bytes": moved_bytes if phase == "prepare" else 0,
            "why": "the node is full" if phase == "abort" else "",
        }
        for place, phase in enumerate(phases)
    ]


def a_proof(number: int, *, gap: float | None = 0.0, **changes: Any) -> Record:
    """That a decision is the optimum, or by how much it is not."""
    record = {"kind": "proof", "t_us": 0, "n": number, "bound_us": 100_000.0, "found_us": 100_000.0, "gap": gap}
    return record | {"better": {}, "open": "", "attempts": 1} | changes


def written(folder: Path, records: list[Record]) -> Path:
    """A run folder with the records as two parts, as the processes of a run would have left them."""
    with Journal(folder, "coordinator") as coordinator, Journal(folder, "phones") as phones:
        for record in records:
            fields = {key: value for key, value in record.items() if key not in ("kind", "t_us")}
            part = phones if record["kind"] == "request" else coordinator
            part.record(record["kind"], record["t_us"], **fields)
    return folder


def _run(policy: str, duration_s: int, event_s: int | None, streams: tuple[str, ...], seed: int) -> Record:
    events = [] if event_s is None else [{"t_us": event_s * SECOND, "text": "uplink gets worse"}]
    return {
        "kind": "run",
        "t_us": 0,
        "name": "urban-mec",
        "seed": seed,
        "policy": policy,
        "clock": "virtual",
        "kernel": "guest",
        "numerics": True,
        "duration_us": duration_s * SECOND,
        "versions": {"testbed": "0.1.0", "torch": "2.13.0"},
        "streams": [{"name": name, "model": "vit", "source": f"ue{n}"} for n, name in enumerate(streams, start=1)],
        "sla": {"percentile": 95, "latency_us": 150_000, "window_us": 5 * SECOND},
        "events": events,
        "links": ["radio1"],
    }


def _decision(number: int, t_us: int, action: str, epoch: int, reason: str) -> Record:
    return {
        "kind": "decision",
        "t_us": t_us,
        "n": number,
        "action": action,
        "reason": reason,
        "triggers": [{"kind": "end_to_end", "subject": "cam1", "now": 4.0e5, "baseline": 8.0e4}],
        "candidates": [],
        "epoch": epoch,
        "duration_us": 900 * number,
        "lower_bound_us": 70_000,
        "gap": 0.0,
    }
