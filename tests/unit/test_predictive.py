"""`joint` with a look ahead: what it foresees, and that it is `joint` otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from controller.conformance import faults
from controller.model import Block, Host, Model, NodeState, Problem, Sla, Snapshot, Stream, Trigger
from controller.policies.joint import Joint
from controller.policies.predictive import Predictive
from controller.policies.start import BadOption

SECOND_US = 1_000_000
PROBLEM = Problem(
    hosts=(Host("ue", "device", 40 * 10**9, 2 << 30), Host("mec", "mec", 4000 * 10**9, 8 << 30)),
    models={"m": Model("m", tuple(Block(str(n), 4 * 10**9, 1 << 20, 600_000) for n in range(4)), 600_000)},
    streams=(Stream("s", "m", "ue", SECOND_US),),
    sla=Sla(95, 10 * SECOND_US, 5 * SECOND_US),
)


def seen(second: int, rate_mbps: float) -> Snapshot:
    rate = np.full((2, 2), int(rate_mbps * 1e6))
    delay = np.array([[0, 5000], [5000, 0]])
    return Snapshot(second * SECOND_US, (NodeState(True, 0, 0),) * 2, delay, rate)


def first_move(policy, rates: list[float], triggers=()) -> int | None:
    """The second in which it leaves the MEC server; `triggers` is what is measured in every period."""
    placement = policy.start(seen(0, rates[0])).placement
    assert set(placement.nodes["s"]) == {"mec"}
    for second, rate in enumerate(rates[1:], 1):
        decision = policy.decide(seen(second, rate), placement, triggers)
        if decision.action in ("REMAP", "RESPLIT"):
            assert triggers or any("expected" in trigger.subject for trigger in decision.triggers)
            return second
    return None


FALLING = [100.0] * 10 + [100 * 0.75**n for n in range(1, 15)]


def test_a_fall_that_goes_on_is_foreseen_before_it_is_there() -> None:
    foreseen = first_move(Predictive(PROBLEM, {"forecast": "holt"}), FALLING)
    told = first_move(Joint(PROBLEM, {}), FALLING, (Trigger("link_rate", "ue->mec", 0.0, 0.0),))
    assert foreseen is not None
    assert told is not None
    assert foreseen < told
    assert first_move(Joint(PROBLEM, {}), FALLING) is None  # it looks only when something was measured


def test_what_stands_still_is_left_alone() -> None:
    for forecast in ("persistence", "holt", "learned"):
        assert first_move(Predictive(PROBLEM, {"forecast": forecast}), [100.0] * 60) is None


def test_an_oracle_is_believed() -> None:
    truth = {"oracle": lambda now_us, ahead_us: seen(now_us // SECOND_US, 1.0 if now_us >= 7 * SECOND_US else 100.0)}
    assert first_move(Predictive(PROBLEM, truth), [100.0] * 20) == 7


def test_a_path_that_is_gone_is_not_expected_back() -> None:
    policy = Predictive(PROBLEM, {"forecast": "holt"})
    placement = policy.start(seen(0, 100.0)).placement
    for second in range(1, 6):
        policy.decide(seen(second, 100.0), placement, ())
    gone = seen(6, 100.0)
    gone = replace(gone, rate_bps=np.array([[1, 0], [0, 1]]))
    assert policy._expected(gone).rate_bps.tolist()[0][1] == 0


def test_it_conforms() -> None:
    assert faults(Predictive, {"forecast": "learned"}, seeds=range(0, 100, 10)) == []


@pytest.mark.parametrize("options", [{"forecast": "stars"}, {"ahead_s": -1}, {"rise": "much"}])
def test_a_bad_option_is_told(options) -> None:
    with pytest.raises(BadOption, match=next(iter(options))):
        Predictive(PROBLEM, options)
