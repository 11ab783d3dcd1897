"""What can be read on the links: pictures inside their zone when nothing is encrypted, and nowhere when all is.

Every packet of every link is listened to, and searched for the bytes of the pictures and of the answers.
"""

import json

import pytest

import testbed.run
from testbed.scenario import ScenarioRun

INSIDE, OUTSIDE = {"ue1", "edge1"}, {"bs1agg", "mec"}
LINKS = INSIDE | OUTSIDE
PICTURE_BYTES = 3 * 32 * 32


@pytest.fixture(scope="module")
def heard(emulate):
    """The run with this encryption, and what was heard; the experiment runs once for each."""
    done: dict[tuple[str, ...], tuple[ScenarioRun, dict]] = {}

    def one(*sets: str) -> tuple[ScenarioRun, dict]:
        if sets not in done:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(testbed.run, "DIRECTOR", "tests.scenarios.listening")
                run = emulate("zones.yaml", f"zones-{len(done)}", sets=sets)
            run.assert_valid()
            run.assert_no_loss()
            assert run.summary["requests"]["ok"] == run.summary["requests"]["sent"] > 20
            done[sets] = run, json.loads((run.folder / "heard.json").read_text())
        return done[sets]

    return one


def where(found: dict, what: str) -> set[str]:
    return {link for link in LINKS if found[link][what]}


def everything_was_heard(run: ScenarioRun, found: dict) -> None:
    """The ear missed no more than the frames' own headers."""
    for link in LINKS:
        sent = sum(run.summary["links"][link][direction]["tx_bytes"] for direction in ("up", "down"))
        assert found[link]["tcp_bytes"] > 0.5 * sent


def test_unencrypted_pictures_are_read_inside_their_zone_only(heard):
    run, found = heard("encrypt=none")
    everything_was_heard(run, found)
    run.assert_right()
    assert where(found, "input") == INSIDE
    assert all(found[link]["input"] == found["sought"]["input"] for link in INSIDE)  # every window of every picture
    assert where(found, "answer") == {"ue1", "bs1agg", "mec"}


def test_encrypted_nothing_is_read_anywhere(heard):
    run, found = heard("encrypt=all", "wire=fp16")
    everything_was_heard(run, found)
    assert where(found, "input") == where(found, "answer") == set()


def test_fewer_bits_change_answers_a_little_and_the_run_says_how_much(heard):
    run, _ = heard("encrypt=all", "wire=fp16")
    answers, wire = run.summary["answers"], run.summary["wire"]["fp16"]
    assert answers["checked"] == run.summary["requests"]["ok"]
    assert 0 < answers["relative_error"]["mean"] <= answers["relative_error"]["worst"] < 0.01
    assert wire["hops"] == 2 * answers["checked"]  # the pictures are bytes already
    assert 0 < wire["relative_error"]["mean"] <= wire["relative_error"]["worst"] < 0.001
    plain, _ = heard("encrypt=none")
    pictures = PICTURE_BYTES * answers["checked"]
    assert 2 * (run.summary["bytes"]["data"] - pictures) == plain.summary["bytes"]["data"] - pictures


def test_what_is_sensitive_is_encrypted_and_public_answers_are_not(heard):
    run, found = heard("encrypt=sensitive")
    everything_was_heard(run, found)
    run.assert_right()
    assert where(found, "input") == set()
    assert where(found, "answer") == {"ue1", "bs1agg", "mec"}


def test_the_keys_of_a_run_are_for_its_owner_alone(heard):
    run, _ = heard("encrypt=all", "wire=fp16")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (run.folder / "certificates").iterdir()}
    assert set(modes) == {"ca.pem", *(f"{host}.{end}" for host in ("ue1", "edge1", "mec") for end in ("pem", "key"))}
    assert set(modes.values()) == {0o600}
