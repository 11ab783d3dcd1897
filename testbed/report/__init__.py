"""Reports: a run folder -> summary.json, report.md, latency.png. What is written is computed from the journal alone.

summary = write_results(folder)          # after every run, finished or not
Console().print(table({"joint": summary}))
"""

import json
from collections.abc import Mapping
from pathlib import Path

from testbed.compare import comparison
from testbed.journal import MERGED, merge, read, write_atomically
from testbed.report.markdown import comparison_report, report
from testbed.report.table import table
from testbed.summary import Summary, summarise

__all__ = ["SUMMARY", "summary_of", "table", "write_comparison", "write_results"]

SUMMARY = "summary.json"
COMPARISON = "comparison.json"
REPORT = "report.md"
PICTURE = "latency.png"


def write_results(folder: Path) -> Summary:
    """Merge the journal and write summary, picture and report, each whole or not at all. Repeatable.

    JournalError for a journal that cannot be read; OSError when the folder cannot be written.
    """
    summary = summary_of(folder)
    records = list(read(folder / MERGED))
    _write_json(folder / SUMMARY, summary)
    write_atomically(folder / PICTURE, _draw({summary["policy"] or "run": records}))
    write_atomically(folder / REPORT, report(summary, records, PICTURE).encode())
    return summary


def summary_of(folder: Path) -> Summary:
    """Merge the journal and reckon, without writing a report."""
    return summarise(read(merge(folder)))


def write_comparison(folder: Path, runs: Mapping[str, Path]) -> dict[str, dict[str, Summary]]:
    """Write comparison.json, picture and report of finished runs into `folder`. `runs`: policy -> run folder."""
    records = {name: list(read(merge(run))) for name, run in runs.items()}
    summaries = {name: summarise(own) for name, own in records.items()}
    result = comparison(summaries)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / COMPARISON, result)
    write_atomically(folder / PICTURE, _draw(records))
    write_atomically(folder / REPORT, comparison_report(summaries, PICTURE).encode())
    return result


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _draw(records: Mapping[str, list[dict[str, object]]]) -> bytes:
    from testbed.report.picture import draw  # matplotlib costs half a second: only who draws pays it

    return draw(records)
