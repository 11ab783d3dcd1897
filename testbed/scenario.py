"""A finished run as a scenario test sees it: summary, journal, files, and assertions that explain themselves.

Every assertion fails first of all on a run that is INVALID: a world that was not the one asked for proves nothing.
A failure shows the lines of the journal behind it, the seed, and the command that runs it again.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn

from testbed.decisions import above, decisions
from testbed.journal import MERGED, read
from testbed.percentile import UNANSWERED, percentile
from testbed.summary import Record, Summary, first_records, latency_us, real_moves

LINES_SHOWN = 14
LINE_LENGTH = 360


class ScenarioFailed(AssertionError):
    """What was asserted of a run does not hold."""


class ScenarioRun:
    """`folder`: the run folder; `summary`: its summary.json; `again`: the command that repeats the run."""

    def __init__(self, folder: Path, summary: Summary, again: str = "") -> None:
        self.folder, self.summary, self.again = folder, summary, again
        self._records: list[Record] | None = None

    def journal(self, kind: str | None = None) -> list[Record]:
        """The records in order, all or those of one kind."""
        if self._records is None:
            self._records = list(read(self.folder / MERGED))
        return [record for record in self._records if kind is None or record["kind"] == kind]

    def artifact(self, name: str) -> Path:
        """A file of the run folder; fails, naming those there are, when it is not one."""
        __tracebackhide__ = True
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            there = sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file())
            self._fail(f"the run has no file {name!r}; it has {', '.join(there) or 'none'}", ())
        return path

    def assert_valid(self) -> None:
        __tracebackhide__ = True
        fidelity = self.summary["fidelity"]
        if fidelity["verdict"] != "valid":
            reasons = "\n".join(f"  * {reason}" for reason in fidelity["reasons"])
            suspects = [*self.journal("fault"), *self._steps_not_as_asked()]
            self._fail(f"the run is INVALID, so nothing can be said of it:\n{reasons}", suspects)

    def assert_recovers(self, within: str) -> None:
        """After each event the SLA holds again `within` ("10s") of its first violation. An event must have fired."""
        __tracebackhide__ = True
        self.assert_valid()
        limit_s = _duration_us(within) / 1e6
        if not self.journal("event"):
            self._fail("no event fired: there was nothing to recover from", self.journal("run"))
        for event in self.summary["events"]:
            took_s = event["recovery_s"]
            if took_s is None or took_s > limit_s:
                how = "it never did" if took_s is None else f"it took {took_s:g} s"
                what = f"`{event['text']}` at {event['t_s']:g} s"
                self._fail(f"the SLA did not recover within {within} of {what}: {how}", self._around(event))

    def assert_sla(self, *, last: str | None = None, **limits: str) -> None:
        """Percentiles of the latency, failed requests counted as infinite: `assert_sla(p95="150ms", last="30s")`.

        `last`: only requests sent in that time before the end. Without a limit: the experiment's own SLA was never
        violated.
        """
        __tracebackhide__ = True
        self.assert_valid()
        requests = first_records(self.journal("request"))
        if not limits:
            violated_s = self.summary["sla"]["violated_s"]
            if violated_s:
                self._fail(f"the experiment's SLA was violated for {violated_s} s", self._slowest(requests))
            return
        if last is not None:
            begin_us = self.journal("run")[0]["duration_us"] - _duration_us(last)
            requests = [request for request in requests if request["sent_us"] >= begin_us]
            if not requests:
                self._fail(f"no request was sent in the last {last}: no percentile to judge", self.journal("end"))
        for name, limit in limits.items():
            found = percentile([latency_us(request) for request in requests], _percent(name))
            if found is None or found > _duration_us(limit):
                shown = "infinite (failed requests)" if found in (None, UNANSWERED) else f"{found / 1000:.1f} ms"
                where = f" of the last {last}" if last else ""
                self._fail(f"{name}{where} is {shown}, limit {limit}", self._slowest(requests))

    def assert_no_loss(self) -> None:
        """Each request sent has one outcome, ok or failed, and no answer came twice."""
        __tracebackhide__ = True
        self.assert_valid()
        counts = self.summary["requests"]
        if counts["lost"] or counts["duplicated"]:
            told = Counter((r["stream"], r["id"]) for r in self.journal("request"))
            twice = [r for r in self.journal("request") if r["duplicates"] or told[r["stream"], r["id"]] > 1]
            why = f"{counts['lost']} requests were lost and {counts['duplicated']} answers came again"
            self._fail(why, [*twice, *real_moves(self.journal("move")), *self.journal("end")])

    def assert_right(self) -> None:
        """Answers were compared with the unsplit model, and all were equal."""
        __tracebackhide__ = True
        self.assert_valid()
        answers = self.summary["answers"]
        if not answers["checked"] or answers["equal"] != answers["checked"]:
            wrong = [r for r in self.journal("request") if r["checked"] and not r["equal"]]
            self._fail(f"{answers['equal']} of {answers['checked']} checked answers are equal", wrong)

    def assert_optimal(self, within: str = "0%") -> None:
        """Each decision is the optimum of what was known then, or at most that share above it; its bound says so, or
        the proof that was sought when the run had ended. Those without a bound say nothing; there must be one with.
        """
        __tracebackhide__ = True
        self.assert_valid()
        limit = _share(within)
        known = [(found.share, one) for one in decisions(self.journal()) if (found := above(one))]
        if not known:
            self._fail("no decision has a bound: nothing can be said of the optimum", self.journal("run"))
        worse = sorted((one for one in known if one[0] > limit), key=lambda one: -one[0])
        if worse:
            share, worst = worse[0]
            which = f"decision {worst['n']}" + (f", and {len(worse) - 1} more," if len(worse) > 1 else "")
            shown = f"at most {100 * share:.4g} % above the optimum, limit {within}"
            self._fail(f"{which} may not be near enough: {shown}", [dict(one) for _, one in worse])

    def assert_repeats(self) -> None:
        """Carried out once more, the plan of the run gives the same records, to the bit. In virtual time only."""
        __tracebackhide__ = True
        self.assert_valid()
        from testbed.progress import Unwatched  # few tests ask for this, and what runs a guest is long to import
        from testbed.repeat import NotRepeatable, repeat
        from testbed.run import RunFailed, RunOptions

        out = Path(mkdtemp(prefix=f"{self.folder.name}-again-", dir=self.folder.parent))
        try:
            found = repeat(self.folder, RunOptions(out=out), Unwatched()).difference
        except (NotRepeatable, RunFailed) as why:
            self._fail(f"the run cannot be repeated: {why}", ())
        if found is not None:
            self._fail(f"the run does not repeat: {found}; the other run: {out}", ())

    def _steps_not_as_asked(self) -> list[Record]:
        steps = self.journal("step")
        wrong = [step for step in steps if not step["readback_ok"]]
        late = sorted(steps, key=lambda step: step["asked_us"] - step["applied_us"])
        return [*wrong[:5], *late[:5]]

    def _around(self, event: dict[str, Any]) -> list[Record]:
        """The event, what was decided and moved until the next, and the slowest requests of that time."""
        begin_us, end_us = event["t_s"] * 1e6, event["until_s"] * 1e6
        then = [record for record in self.journal() if begin_us <= record["t_us"] < end_us]
        causes = [r for r in then if r["kind"] in ("event", "decision", "move", "fault")]
        sent = [r for r in first_records(self.journal("request")) if begin_us <= r["sent_us"] < end_us]
        return [*causes[: LINES_SHOWN - 5], *self._slowest(sent)]

    @staticmethod
    def _slowest(requests: Sequence[Record]) -> list[Record]:
        return sorted(requests, key=lambda request: (-latency_us(request), request["sent_us"]))[:5]

    def _fail(self, why: str, lines: Iterable[Record]) -> NoReturn:
        __tracebackhide__ = True
        shown = [_line(record) for record in lines]
        text = [why]
        if shown:
            text += ["journal:", *(f"  {line}" for line in shown[:LINES_SHOWN])]
        if len(shown) > LINES_SHOWN:
            text.append(f"  … and {len(shown) - LINES_SHOWN} more lines")
        text.append(f"seed {self.summary['seed']}, run folder {self.folder}")
        if self.again:
            text.append(f"again: {self.again}")
        raise ScenarioFailed("\n".join(text))


def _line(record: Record) -> str:
    """A journal line that fits a terminal: the spans of a request become the time spent a step."""
    whole = dict(record)
    for long in ("spans", "candidates", "state", "versions"):
        whole.pop(long, None)
    spent = [
        f"{span['node']} {span['kind']} {(span['end_us'] - span['start_us']) / 1000:.1f} ms"
        for span in record.get("spans", ())
        if span["end_us"] > span["start_us"]
    ]
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False) + (f"  [{', '.join(spent)}]" if spent else "")
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"


def _percent(name: str) -> float:
    match = re.fullmatch(r"p(\d{1,2}|100)", name)
    if match is None:
        raise TypeError(f"assert_sla() takes percentiles such as p95='150ms', not {name!r}")
    return float(match[1])


def _share(text: str) -> float:
    from testbed.quantity import share_ppm

    return share_ppm(text) / 1e6


def _duration_us(text: str) -> int:
    from testbed.quantity import duration_us

    return int(duration_us(text))
