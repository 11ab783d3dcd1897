"""Real recordings of networks as input: in formats of others, named on the command line, found by their content."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.scenario import ScenarioRun

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path("../shared/traces")  # as a user of this checkout would write it
MAHIMAHI = SHARED / "mahimahi" / "traces_TMobile-LTE-short.up"
SECONDS = SHARED / "lumos5g" / "Lumous5G_5G_5g_trace_2_driving"


@pytest.fixture(autouse=True, scope="module")
def recordings() -> None:
    missing = [str(path) for path in (MAHIMAHI, SECONDS) if not (ROOT / path).exists()]
    if missing:
        pytest.skip(f"no recordings beside the checkout: {', '.join(missing)}")


@pytest.mark.parametrize("recording", [MAHIMAHI, SECONDS], ids=lambda path: path.name)
@pytest.mark.parametrize("key", ["links.ue1.up.trace", "links.ue2.down.trace"])
def test_the_default_experiment_takes(recording, key, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["validate", "topologies/urban-mec.yaml", "--set", f"{key}={recording}"])
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def replayed(emulate) -> ScenarioRun:
    """One short run with a recording in each format."""
    sets = (
        f"links.ue1.up.trace={ROOT / MAHIMAHI}",
        f"links.ue2.down.trace={ROOT / SECONDS}",
        "duration=10s",
    )
    return emulate("plain.yaml", "recordings", sets=sets)


@pytest.mark.parametrize(("link", "direction"), [("ue1", "up"), ("ue2", "down")])
def test_a_run_replays(replayed, link, direction):
    replayed.assert_valid()
    steps = [s for s in replayed.journal("step") if (s["link"], s["direction"]) == (link, direction)]
    assert len({step["rate_bps"] for step in steps}) > 3
    assert all(step["readback_ok"] for step in steps)


def test_its_requests_are_answered(replayed, history_is_right):
    history_is_right(replayed)
    replayed.assert_no_loss()
    assert replayed.summary["requests"]["ok"] == replayed.summary["requests"]["sent"] > 0
