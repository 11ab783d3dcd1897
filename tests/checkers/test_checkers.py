"""The oracles accept a good history and reject each planted violation.

An oracle takes the records of a run and returns what is wrong with it, nothing when all is well. They are pure, and
independent of the code they judge; scenario tests use them.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.checkers import answered, once, owners, right
from tests.unit.journal_factory import a_run, a_span

LIMIT_US = 2_000_000
CHECKERS: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "answered": lambda records: answered.violations(records, LIMIT_US),
    "right": right.violations,
    "once": once.violations,
    "owners": owners.violations,
}


@pytest.mark.parametrize("name", CHECKERS)
def test_a_good_history_is_accepted(name: str) -> None:
    assert CHECKERS[name](a_run()) == []


def change_request(**changes: Any) -> list[dict[str, Any]]:
    records = a_run()
    next(r for r in records if r["kind"] == "request").update(changes)
    return records


def repeated(kind: str, **changes: Any) -> list[dict[str, Any]]:
    records = a_run()
    return [*records, next(r for r in records if r["kind"] == kind) | changes]


def computed_on(node: str, step: int) -> list[dict[str, Any]]:
    records = a_run()
    next(r for r in records if r["kind"] == "request")["spans"].append(a_span(node, step, "compute", 1, 2, 0))
    return records


BAD = [
    ("answered", [r for r in a_run() if r["kind"] != "end"], "no end"),
    ("answered", [r for r in a_run() if not (r["kind"] == "request" and r["id"] == 3)], "480 requests were sent, 478"),
    ("answered", change_request(done_us=None), "ok without an answer"),
    ("answered", change_request(done_us=-1), "before it was sent"),
    ("answered", change_request(outcome="failed", error=""), "without a named error"),
    ("answered", change_request(outcome="unknown"), "outcome 'unknown'"),
    ("answered", change_request(done_us=LIMIT_US + 1), "limit 2000000 us"),
    ("right", change_request(equal=False), "cam1/0 (epoch 1) differs"),
    ("right", change_request(checked=False), "was not compared"),
    ("right", [r for r in a_run() if r["kind"] != "request"], "no request was answered"),
    ("once", repeated("request"), "cam1/0 ended 2 times"),
    ("once", change_request(duplicates=1), "answered 1 times more"),
    ("once", computed_on("edge1", 1), "computed step 1 2 times"),
    ("owners", computed_on("mec", 1), "step 1 of cam1 ran on edge1, mec"),
    ("owners", change_request(epoch=9), "never committed"),
    ("owners", change_request(epoch=2), "epoch 2 before it was committed"),
    ("owners", change_request(sent_us=59_900_000, done_us=59_950_000), "went back to epoch 1"),
    ("owners", repeated("move", phase="commit", epoch=1), "epoch 1 was committed after 2"),
]


@pytest.mark.parametrize(("name", "records", "told"), BAD, ids=[f"{name}: {told}" for name, _, told in BAD])
def test_a_bad_history_is_rejected(name: str, records: list[dict[str, Any]], told: str) -> None:
    assert any(told in violation for violation in CHECKERS[name](records))
