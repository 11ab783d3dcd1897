"""Reports: what is written into a run folder, what the tables say, and that no journal is too short to draw."""

import json
import struct
from pathlib import Path

import pytest
from rich.console import Console

from testbed.compare import NotComparable, comparison
from testbed.report import table, write_comparison, write_results
from testbed.report.markdown import report
from testbed.report.rows import sections, size
from testbed.summary import summarise
from tests.unit.journal_factory import SECOND, Record, a_move, a_proof, a_run, written


def picture_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def shown(summaries: dict, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(table(summaries))
    return capture.get()


def test_answers_that_nobody_computes_are_not_called_wrong() -> None:
    records = [r | {"checked": False, "equal": False} if r["kind"] == "request" else r for r in a_run()]
    assert "480 / 480" in shown({"joint": summarise(a_run())})
    assert "0 / 0" not in shown({"joint": summarise(records)})


def test_results_of_a_run(tmp_path: Path) -> None:
    summary = write_results(written(tmp_path, a_run()))
    assert {p.name for p in tmp_path.iterdir()} == {
        "parts",
        "journal.jsonl",
        "summary.json",
        "report.md",
        "latency.png",
    }
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    width, height = picture_size(tmp_path / "latency.png")
    assert width > height > 600
    text = (tmp_path / "report.md").read_text()
    assert "**Fidelity: valid.** 120 link steps read back" in text
    assert "uplink gets worse" in text
    assert "move 2 to epoch 2: blocks 4 to 13 of vit on mec, 28 MB carried" in text


def test_results_are_the_same_when_written_again(tmp_path: Path) -> None:
    write_results(written(tmp_path, a_run(duration_s=30)))
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.*")}
    write_results(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize("kept", [0, 1, 6])
def test_a_run_that_stopped_early_still_has_results(tmp_path: Path, kept: int) -> None:
    summary = write_results(written(tmp_path, a_run()[:kept]))
    assert summary["fidelity"]["verdict"] == "INVALID"
    assert "not to be believed" in (tmp_path / "report.md").read_text()
    picture_size(tmp_path / "latency.png")
    assert "INVALID" in shown({"joint": summary})


def test_a_comparison(tmp_path: Path) -> None:
    runs = {
        "static": written(tmp_path / "static", a_run(policy="static", recovers=False)),
        "joint": written(tmp_path / "joint", a_run()),
    }
    result = write_comparison(tmp_path / "both", runs)
    assert list(result["policies"]) == ["static", "joint"]
    assert json.loads((tmp_path / "both" / "comparison.json").read_text()) == result
    assert picture_size(tmp_path / "both" / "latency.png")[1] > 800
    assert "| recovery | never | 8 s |" in (tmp_path / "both" / "report.md").read_text()


def test_runs_that_differ_in_more_than_policy_are_not_comparable() -> None:
    with pytest.raises(NotComparable, match="differ in `seed`"):
        comparison({"a": summarise(a_run(seed=1)), "b": summarise(a_run(seed=2))})
    assert set(comparison({"a": summarise(a_run()), "b": summarise([])})["policies"]) == {"a", "b"}


def test_the_table_puts_runs_side_by_side_within_80_columns() -> None:
    text = shown({"static": summarise(a_run(policy="static", recovers=False)), "joint": summarise(a_run())})
    assert max(map(len, text.splitlines())) <= 80
    line = next(line for line in text.splitlines() if "recovery" in line)
    assert line.index("never") < line.index("8 s")
    assert "20 s: uplink gets worse" in text
    assert "radio1" in text


def test_the_table_tells_why_a_run_is_invalid_and_takes_names_literally() -> None:
    records = [r for r in a_run() if r["kind"] != "event"]
    text = shown({"[red]odd[/red]": summarise(records)})
    assert "never fired" in text
    assert "[red]odd[/red]" in text


def test_an_infinite_percentile_is_shown_as_such_and_nothing_as_a_dash() -> None:
    records = a_run(recovers=False)
    for record in records:
        if record["kind"] == "request" and record["sent_us"] > 50 * SECOND:
            record.update(outcome="failed", done_us=None, checked=False, equal=False)
    overall, event, *_ = sections({"static": summarise(records)})
    rows = {label: cells[0].text for label, cells in (*overall.rows, *event.rows)}
    assert rows["latency (ms)"].endswith("/ ∞ / ∞")
    assert rows["after (ms)"] == "—"
    assert rows["recovery"] == "never"


@pytest.mark.parametrize(
    ("gaps", "proofs", "text"),
    [
        ((0.0, 0.0), (), "0 %, 2 of 2 certain"),
        ((0.00123, None), (), "≤ 0.123 %, 0 of 1 certain"),
        ((4.786, 0.0), (), "≤ 479 %, 1 of 2 certain"),
        ((None, None), (), "—"),
        ((0.00123, 0.1), (a_proof(1), a_proof(2, gap=0.05)), "5 %, 2 of 2 certain"),
        ((0.00123, 0.1), (a_proof(2), a_proof(2, gap=0.02, open="why")), "≤ 2 %, 0 of 2 certain"),
        ((0.5, 0.1), (a_proof(1, gap=None, open="why"), a_proof(2)), "≤ 50 %, 1 of 2 certain"),
    ],
)
def test_the_table_says_how_far_decisions_are_above_the_optimum_at_most(
    gaps: tuple[float | None, ...], proofs: tuple[Record, ...], text: str
) -> None:
    records = a_run()
    for record, gap in zip((r for r in records if r["kind"] == "decision"), gaps, strict=True):
        record["gap"] = gap
    records += proofs
    (overall, *_) = sections({"joint": summarise(records)})
    assert dict(overall.rows)["gap to the optimum"][0].text == text


def test_a_report_escapes_what_comes_from_outside() -> None:
    records = a_run()
    event = next(r for r in records if r["kind"] == "event")
    event["text"] = "bad | <script>\n# title"
    text = report(summarise(records), records)
    assert "bad \\| &lt;script> # title" in text
    assert "\n# title" not in text


def test_an_aborted_move_is_told_once() -> None:
    move = a_move(3, 50 * SECOND, epoch=3, aborted=True)
    records = [*a_run(), *move, move[0] | {"phase": "abort", "t_us": 50 * SECOND + 10}]
    assert report(summarise(records), records).count("**aborted**") == 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (28_000_000, "28 MB"), (2e15, "2000 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
