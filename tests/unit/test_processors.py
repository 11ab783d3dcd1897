"""Guests that run side by side claim a processor each."""

import os
from contextlib import ExitStack

import pytest

from testbed.kernel import processors
from testbed.kernel.processors import claimed


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests that really run on this machine do not matter here."""
    monkeypatch.setattr(processors, "NAME", f"\0test-{os.getpid()}/")


def test_guests_side_by_side_get_different_processors_and_one_more_gets_any() -> None:
    allowed = os.sched_getaffinity(0)
    with ExitStack() as guests:
        given = [guests.enter_context(claimed()) for _ in allowed]
        one_more = guests.enter_context(claimed())
    assert set(given) == allowed
    assert one_more in allowed


def test_a_claim_ends_with_its_guest() -> None:
    with ExitStack() as guests:
        before = {guests.enter_context(claimed()) for _ in os.sched_getaffinity(0)}
    with ExitStack() as guests:
        assert {guests.enter_context(claimed()) for _ in os.sched_getaffinity(0)} == before
