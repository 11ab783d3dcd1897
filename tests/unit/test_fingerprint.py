"""What two runs are compared by: all that repeats, and nothing else."""

import json

import pytest

from testbed.fingerprint import DIGITS, fingerprint, first_difference
from testbed.report.markdown import report
from testbed.summary import summarise
from tests.unit.journal_factory import a_run


@pytest.fixture
def records():
    return a_run()


def changed(records, kind, **fields):
    """The journal with other values in the first record of a kind."""
    place = next(number for number, record in enumerate(records) if record["kind"] == kind)
    return [*records[:place], records[place] | fields, *records[place + 1 :]]


def test_the_same_records_have_the_same_fingerprint_whatever_the_order_of_their_fields(records):
    turned = [dict(reversed(record.items())) for record in records]
    assert fingerprint(turned) == fingerprint(records)
    assert len(fingerprint(records)) == DIGITS
    assert first_difference(records, turned) is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("decision", {"duration_us": 999}), ("end", {"wall_s": 0.5}), ("run", {"versions": {"python": "4"}})],
)
def test_real_time_and_the_machine_count_for_nothing(records, kind, fields):
    other = changed(records, kind, **fields)
    assert other != records
    assert fingerprint(other) == fingerprint(records)
    assert first_difference(records, other) is None


def test_a_proof_that_is_sought_later_changes_nothing(records):
    assert fingerprint([*records, {"kind": "proof", "t_us": 0, "n": 1}]) == fingerprint(records)


@pytest.mark.parametrize("kind", ["request", "step", "move", "traffic", "decision", "run", "end"])
def test_one_microsecond_anywhere_is_another_run(records, kind):
    other = changed(records, kind, t_us=next(r["t_us"] for r in records if r["kind"] == kind) + 1)
    assert fingerprint(other) != fingerprint(records)
    assert first_difference(records, other)


def test_there_is_none_on_the_real_clock_or_without_an_end(records):
    assert fingerprint(changed(records, "run", clock="real")) is None
    assert fingerprint([record for record in records if record["kind"] != "end"]) is None
    assert fingerprint([]) is None


def test_a_difference_is_named_by_its_first_field_with_both_values(records):
    request = next(record for record in records if record["kind"] == "request")
    spans = [request["spans"][0] | {"end_us": 7}, *request["spans"][1:]]
    found = first_difference(records, changed(records, "request", spans=spans))
    was = request["spans"][0]["end_us"]
    assert (found.t_us, found.what) == (request["t_us"], f"request.spans[0].end_us was {was} and is 7")
    assert (found.records, found.of) == (1, len(records))


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"sent_us": 0.0}, "request.sent_us was 0 and is 0.0"), ({"more": None}, "request.more was nothing and is null")],
)
def test_what_python_holds_equal_is_a_difference_too(records, fields, said):
    other = changed(records, "request", **fields)
    assert fingerprint(other) != fingerprint(records)
    assert first_difference(records, other).what == said


def test_a_record_too_many_is_named_with_its_time(records):
    more = [*records, {"kind": "fault", "t_us": 61_000_000}]
    assert "nothing was, and a record `fault` at 61.000000 s is" in first_difference(records, more).what
    assert "a record `fault` at 61.000000 s was, and nothing is" in first_difference(more, records).what


def test_another_kind_of_record_is_named(records):
    found = first_difference(records, [{"kind": "fault", "t_us": records[0]["t_us"] - 5}, *records[1:]])
    assert found.t_us == records[0]["t_us"] - 5
    assert "a record `fault`" in found.what and f"`{records[0]['kind']}`" in found.what


def test_a_list_of_another_length_is_not_printed_whole(records):
    found = first_difference(records, changed(records, "request", spans=[]))
    assert found.what.endswith("and is a list of 0")


def test_summary_and_report_say_it(records):
    summary = summarise(records)
    assert summary["fingerprint"] == fingerprint(records)
    assert f"| fingerprint | {fingerprint(records)} |" in report(summary, records)
    assert json.loads(json.dumps(summary))["fingerprint"] == fingerprint(records)
