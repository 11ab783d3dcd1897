"""What the tables say: summaries -> sections of rows, one column a run. The terminal and `report.md` print the same.

Pure. An infinite latency is ∞, what is unknown or of nothing a dash; what spoils a run is marked as bad.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Summary = Mapping[str, Any]
NONE = "—"
UNITS = ("B", "kB", "MB", "GB", "TB")
TITLE = "Overall; latencies are p50 / p95 / p99"


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    mood: Literal["", "good", "bad"] = ""


@dataclass(frozen=True, slots=True)
class Section:
    """`rows`: what a row is about, and its cell in each run."""

    title: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def sections(summaries: Mapping[str, Summary]) -> tuple[Section, ...]:
    """The whole table: overall figures, phases of each event, streams, links. Every row has one cell a run."""
    runs = list(summaries.values())
    found = (_overall(runs), *_events(runs), _handovers(runs), _streams(runs), _links(runs))
    return tuple(section for section in found if section.rows)


def _overall(runs: list[Summary]) -> Section:
    lines: list[tuple[str, Callable[[Summary], Cell]]] = [
        ("fidelity", _fidelity),
        ("requests ok / sent", lambda s: Cell(f"{s['requests']['ok']} / {s['requests']['sent']}")),
        ("failed · lost · twice", _unhappy),
        ("latency (ms)", lambda s: Cell(latencies({"sent": s["requests"]["sent"], **s["latency_ms"]}))),
        ("last 30 s (ms)", lambda s: Cell(latencies(s["last_30s"]))),
        ("SLA violated", _violated),
        ("recovery", recovery),
        ("data", lambda s: Cell(size(s["bytes"]["data"]))),
        ("moves", _moves),
        ("decisions, ms", _decisions),
        ("gap to the optimum", _gap),
        ("answers equal / checked", _answers),
        ("time virtual / wall", lambda s: Cell(f"{seconds(s['virtual_s'])} / {seconds(s['wall_s'])}")),
    ]
    return Section(TITLE, tuple((label, tuple(cell(run) for run in runs)) for label, cell in lines))


def _events(runs: list[Summary]) -> list[Section]:
    """One section an event; runs of one experiment have the same events, others show a dash."""
    keys = dict.fromkeys((event["t_s"], event["text"]) for run in runs for event in run["events"])
    found = []
    for t_s, text in sorted(keys):
        own = [next((e for e in run["events"] if (e["t_s"], e["text"]) == (t_s, text)), None) for run in runs]
        rows = [
            (f"{phase} (ms)", tuple(Cell(latencies(event[phase]) if event else NONE) for event in own))
            for phase in ("before", "during", "after")
        ]
        rows.append(("recovery", tuple(_recovered(event["recovery_s"]) if event else Cell(NONE) for event in own)))
        found.append(Section(f"{t_s:g} s: {text}", tuple(rows)))
    return found


def _handovers(runs: list[Summary]) -> Section:
    """What a handover cost, asked and measured, and how long the phone heard nothing."""
    own = [{(h["t_s"], h["phone"], h["from"], h["to"]): h for h in run["handovers"]["each"]} for run in runs]
    rows = []
    for key in sorted({key for run in own for key in run}):
        t_s, phone, source, target = key
        rows.append((f"{t_s:g} s: {phone} {source} to {target}", tuple(_handover(run.get(key)) for run in own)))
    return Section("Handovers (ms): asked / measured / silent", tuple(rows))


def _handover(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return Cell(NONE)
    figures = [found[name] for name in ("asked_ms", "measured_ms", "silent_ms")]
    return Cell(" / ".join(map(number, figures)), "bad" if None in figures else "")


def _streams(runs: list[Summary]) -> Section:
    names = dict.fromkeys(name for run in runs for name in run["streams"])
    rows = []
    for name in names:
        own = [run["streams"].get(name) for run in runs]
        rows.append((name, tuple(Cell(latencies(stream) if stream else NONE) for stream in own)))
    return Section("Streams (ms)", tuple(rows))


def _links(runs: list[Summary]) -> Section:
    rows = []
    for name in sorted({name for run in runs for name in run["links"]}):
        own = [run["links"].get(name, {}) for run in runs]
        rows.append((name, tuple(Cell(f"{_sent(link, 'up')} / {_sent(link, 'down')}") for link in own)))
    return Section("Links, up / down", tuple(rows))


def _fidelity(summary: Summary) -> Cell:
    verdict = summary["fidelity"]["verdict"]
    return Cell(verdict, "good" if verdict == "valid" else "bad")


def _unhappy(summary: Summary) -> Cell:
    counts = [summary["requests"][name] for name in ("failed", "lost", "duplicated")]
    return Cell(" · ".join(map(str, counts)), "bad" if any(counts) else "")


def _violated(summary: Summary) -> Cell:
    violated_s = summary["sla"]["violated_s"]
    return Cell(seconds(violated_s), "bad" if violated_s else "good")


def recovery(summary: Summary) -> Cell:
    return _recovered(summary["sla"]["recovery_s"])


def _recovered(recovery_s: float | None) -> Cell:
    if recovery_s is None:
        return Cell("never", "bad")
    return Cell(seconds(recovery_s) if recovery_s else "not needed", "good")


def _moves(summary: Summary) -> Cell:
    count, aborted = summary["moves"]["count"], summary["moves"]["aborted"]
    text = f"{count}, {size(summary['bytes']['moves'])}" + (f", {aborted} aborted" if aborted else "")
    return Cell(text if count else "0", "bad" if aborted else "")


def _decisions(summary: Summary) -> Cell:
    took = summary["decision_ms"]
    return Cell(f"{took['count']}: {number(took['p50'])} / {number(took['p99'])}" if took["count"] else "0")


def _gap(summary: Summary) -> Cell:
    gap = summary["decision_gap"]
    if not gap["count"]:
        return Cell(NONE)
    most = "≤ " if gap["certain"] < gap["count"] else ""
    return Cell(f"{most}{number(100 * gap['largest'])} %, {gap['certain']} of {gap['count']} certain")


def _answers(summary: Summary) -> Cell:
    answers = summary["answers"]
    if not answers["checked"]:  # nothing was computed, or nothing came back
        return Cell(NONE)
    wrong = answers["equal"] != answers["checked"]
    return Cell(f"{answers['equal']} / {answers['checked']}", "bad" if wrong else "")


def _sent(link: Mapping[str, Any], direction: str) -> str:
    return size(link[direction]["tx_bytes"]) if direction in link else NONE


def latencies(figures: Mapping[str, float | None]) -> str:
    """ "80.5 / 91 / ∞"; a dash when nothing was sent."""
    if not figures["sent"]:
        return NONE
    return " / ".join("∞" if figures[name] is None else number(figures[name]) for name in ("p50", "p95", "p99"))


def number(value: float | None) -> str:
    """Three digits that matter; a whole number from 100 on."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g} s"


def size(size_bytes: float) -> str:
    """Decimal units, as rates have."""
    unit = 0
    while size_bytes >= 1000 and unit < len(UNITS) - 1:
        size_bytes, unit = size_bytes / 1000, unit + 1
    return f"{number(size_bytes)} {UNITS[unit]}"
