"""What was asked of a link is what it carries, in virtual time: rates, delays, changes, and recordings replayed."""

import json
from typing import Any

import pytest

from benchmarks.links import rate_errors, replay_errors
from benchmarks.recordings import FIVE
from testbed.kernel.guest import CONSOLE, GuestOptions, run_guest, tail
from tests.scenarios.accuracy import DELAYS_US, RATES_BPS

DIRECTIONS = ("up", "down")
MOST_PERCENT = 1.0  # of what a second should carry, for 95 of 100 seconds
MOST_TOTAL_PERCENT = 0.5
MOST_DELAY_US = 100
MOST_LATE_US = 1000
FULL_QUEUE = None


@pytest.fixture(scope="module")
def measured(kernel, new_folder) -> dict[str, Any]:
    folder = new_folder("accuracy")
    run_guest(kernel, folder, "tests.scenarios.accuracy", GuestOptions(wall_limit_s=240))
    result = folder / "accuracy.json"
    assert result.exists(), f"the guest measured nothing; its console:\n{tail(folder / CONSOLE, 40)}"
    return json.loads(result.read_text())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("rate_bps", RATES_BPS)
def test_a_saturated_link_carries_its_rate(measured, direction, rate_bps):
    seconds, _ = rate_errors(measured[direction]["rates"][str(rate_bps)], rate_bps)
    assert seconds <= MOST_PERCENT


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("delay_us", DELAYS_US)
def test_a_packet_takes_the_delay(measured, direction, delay_us):
    """Beside its own serialisation."""
    late_us = measured[direction]["delays"][str(delay_us)]
    assert len(late_us) > 10
    assert max(abs(us - delay_us) for us in late_us) <= MOST_DELAY_US


@pytest.mark.parametrize("what", ["rate", "rate and delay"])
def test_no_change_loses_a_packet(measured, what):
    done = measured["up"]["changes"][what]
    assert done["sent"] == 1000
    assert (done["lost"], done["overtaken"]) == (0, 0)


@pytest.mark.parametrize("number", [*range(len(FIVE)), FULL_QUEUE])
def test_a_recording_is_carried(measured, number):
    """A few packets wait, or two hundred: what waits takes the new rate too."""
    one = measured["full queue"] if number is FULL_QUEUE else measured["replays"][number]
    found = replay_errors(one)
    assert found["1 s p95"] <= MOST_PERCENT, one["name"]
    assert found["total"] <= MOST_TOTAL_PERCENT, one["name"]


@pytest.mark.parametrize("number", range(len(FIVE)))
def test_steps_are_applied_in_time(measured, number):
    one = measured["replays"][number]
    assert len(one["late_us"]) == len(one["steps"]) - 1 > 3
    assert 0 <= min(one["late_us"]) <= max(one["late_us"]) <= MOST_LATE_US
