"""`report.md`: a run, or several side by side, for people who read later. Pure: summaries and records -> text."""

from collections.abc import Iterable, Mapping, Sequence

from testbed.report.rows import NONE, number, sections, size
from testbed.report.trust import HEAD, fidelity_rows
from testbed.summary import Record, Summary, real_moves

DECISIONS_SHOWN = 40


def report(summary: Summary, records: Sequence[Record], picture: str = "latency.png") -> str:
    """The report of one run. `picture`: the file beside it that shows the latencies."""
    name = summary["policy"] or "run"
    parts = [
        f"# {_text(summary['name'] or 'a run that never started')}, policy {_text(name)}",
        _verdict(summary),
        f"![Latency of each request over time]({picture})",
        _tables({name: summary}),
        _what_happened(records),
        _fidelity(summary),
        _setting(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_report(summaries: Mapping[str, Summary], picture: str = "latency.png") -> str:
    """The report of the same experiment under several policies."""
    first = next(iter(summaries.values()))
    parts = [
        f"# {_text(first['name'] or 'runs that never started')}: {_text(', '.join(summaries))}",
        *(_verdict(summary, f"{name}: ") for name, summary in summaries.items()),
        f"![Latency of each request over time, one panel a policy]({picture})",
        _tables(summaries),
        _setting(first),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(summary: Summary, whose: str = "") -> str:
    fidelity = summary["fidelity"]
    if fidelity["verdict"] == "valid":
        late = fidelity["figures"].get("step_late_p99_us")
        steps = fidelity["figures"].get("steps")
        shown = f" {steps} link steps read back, p99 of their lateness {number(late / 1000)} ms." if steps else ""
        return f"{_text(whose)}**Fidelity: valid.**{shown}"
    reasons = "\n".join(f"* {_text(reason)}" for reason in fidelity["reasons"])
    return f"{_text(whose)}**Fidelity: INVALID.** The figures below are not to be believed, because:\n\n{reasons}"


def _tables(summaries: Mapping[str, Summary]) -> str:
    parts = []
    for section in sections(summaries):
        rows = [[label.strip(), *(cell.text for cell in cells)] for label, cells in section.rows]
        parts.append(f"## {_text(section.title)}\n\n{grid(['', *summaries], rows)}")
    return "\n\n".join(parts)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is what a row is about, the others are figures."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _what_happened(records: Sequence[Record]) -> str:
    """Events, decisions that changed something, moves and faults in order of time."""
    rows = sorted((*_events(records), *_decisions(records), *_moves(records)), key=lambda row: row[0])
    if not rows:
        return ""
    shown = [[f"{t_us / 1e6:.3f} s", what, text] for t_us, what, text in rows[:DECISIONS_SHOWN]]
    more = len(rows) - len(shown)
    rest = f"\n\n… and {more} more in journal.jsonl." if more else ""
    table = "\n".join("| " + " | ".join(map(_text, row)) + " |" for row in shown)
    return f"## What happened\n\n| time | | |\n|--:|---|---|\n{table}{rest}"


def _events(records: Sequence[Record]) -> list[tuple[int, str, str]]:
    events = [(r["t_us"], "event", r["text"]) for r in records if r["kind"] == "event"]
    return events + [(r["t_us"], "**fault**", f"{r['what']}: {r['why']}") for r in records if r["kind"] == "fault"]


def _decisions(records: Sequence[Record]) -> list[tuple[int, str, str]]:
    found = []
    for record in records:
        if record["kind"] != "decision" or record["action"] == "KEEP":
            continue
        causes = ", ".join(f"{t['kind']} {t['subject']}" for t in record["triggers"])
        text = f"{record['action']}: {record['reason']}" + (f" (because of {causes})" if causes else "")
        found.append((record["t_us"], "decision", text))
    return found


def _moves(records: Sequence[Record]) -> list[tuple[int, str, str]]:
    found = []
    for record in real_moves(r for r in records if r["kind"] == "move"):
        name = f"move {record['move']} to epoch {record['epoch']}"
        if record["phase"] == "abort" and record["slice"] is None:
            found.append((record["t_us"], "**aborted**", f"{name}: {record['why']}"))
        elif record["phase"] == "switch":
            found.append((record["t_us"], "switch", f"{name}: new requests take the new route"))
        elif record["phase"] == "prepare" and record["slice"]:
            piece = record["slice"]
            blocks = f"blocks {piece['first']} to {piece['last'] - 1} of {piece['model']} on {piece['node']}"
            found.append((record["t_us"], "prepare", f"{name}: {blocks}, {size(record['bytes'] or 0)} carried"))
    return found


def _fidelity(summary: Summary) -> str:
    rows = fidelity_rows(summary["fidelity"])
    return f"## Fidelity\n\n{grid(HEAD, rows)}" if rows else ""


def _setting(summary: Summary) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    rows = [
        ["seed", str(summary["seed"])],
        ["clock, kernel", f"{summary['clock']}, {summary['kernel']}"],
        ["fingerprint", summary["fingerprint"] or NONE],
        ["versions", versions or NONE],
    ]
    return f"## Setting\n\n{grid(['', 'value'], rows)}"


def _text(value: str) -> str:
    """Names and reasons come from outside: no line breaks, no table borders, no markup of their own."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
