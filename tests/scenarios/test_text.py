"""Sentences to MiniLM with its real weights, over the smallest network there is."""

import pytest

MINIMAL = pytest.mark.experiment("topologies/minimal.yaml")


@MINIMAL
def test_every_answer_is_that_of_the_unsplit_model(testbed, history_is_right):
    history_is_right(testbed)
    testbed.assert_no_loss()
    counts = testbed.summary["requests"]
    assert counts["sent"] == counts["ok"] == 40
    answers = testbed.summary["answers"]
    assert (answers["checked"], answers["equal"], answers["relative_error"]["worst"]) == (40, 40, 0)


@MINIMAL
def test_requests_cross_the_network(testbed):
    testbed.assert_valid()
    links = testbed.summary["links"]
    for request in testbed.journal("request"):
        ways = [(span["node"], span["size_bytes"]) for span in request["spans"] if span["kind"] == "network"]
        assert [node for node, _ in ways] == ["ue1", "edge1"]  # there and back
        assert all(size > 0 for _, size in ways)
    carried = testbed.summary["bytes"]["data"]
    assert links["radio"]["up"]["tx_bytes"] + links["radio"]["down"]["tx_bytes"] > carried
    assert links["site"]["up"]["tx_bytes"] + links["site"]["down"]["tx_bytes"] > carried


@MINIMAL
def test_the_service_level_holds(testbed):
    testbed.assert_sla()
    testbed.assert_recovers(within="10s")


@MINIMAL
@pytest.mark.parametrize("name", ["summary.json", "report.md", "journal.jsonl", "latency.png", "plan.json"])
def test_the_run_folder_has(testbed, name):
    assert testbed.artifact(name).stat().st_size > 0
