"""Every link behaves as written, and one that does not is found and named."""

from pathlib import Path
from typing import Any

import pytest

from testbed.calibrate import calibrate
from testbed.progress import Unwatched
from testbed.run import RunOptions

LINKS = Path(__file__).parent / "experiments" / "links.yaml"
BY_CHANCE = ("ue2", "down")


@pytest.fixture(scope="module")
def right(new_folder) -> dict[str, Any]:
    return calibrate(LINKS, RunOptions(out=new_folder("calibrate")), Unwatched()).summary


@pytest.fixture(scope="module")
def spoiled(new_folder) -> dict[str, Any]:
    options = RunOptions(out=new_folder("spoiled"))
    return calibrate(LINKS, options, Unwatched(), "tests.scenarios.spoiling").summary


def test_every_direction_keeps_its_rate_alone_and_together(right):
    assert (right["verdict"], right["reasons"]) == ("valid", [])
    for directions in right["phases"].values():
        assert len(directions) == 6
        assert all(one["windows"] and one["rate_error"]["p95"] <= 0.01 for one in directions)


def test_every_delay_is_exact_where_no_chance_plays_a_part(right):
    for directions in right["phases"].values():
        for one in directions:
            if (one["link"], one["direction"]) == BY_CHANCE:
                assert (one["probes"], one["unprobed"]) == (0, "chance")
            else:
                assert one["probes"] == 20
                assert one["delay_error_us"]["p100"] <= 100


def test_a_link_that_is_not_what_was_asked_is_named(spoiled):
    assert spoiled["verdict"] == "INVALID"
    named = {tuple(reason.split()[1:3]) for reason in spoiled["reasons"]}
    assert named == {("ue1", "up"), ("edge1", "down")}
    (slow,) = [one for one in spoiled["phases"]["alone"] if (one["link"], one["direction"]) == ("ue1", "up")]
    assert slow["rate_error"]["p50"] == pytest.approx(0.03, abs=0.002)
    (late,) = [one for one in spoiled["phases"]["alone"] if (one["link"], one["direction"]) == ("edge1", "down")]
    assert late["delay_error_us"]["p50"] == pytest.approx(300, abs=5)
