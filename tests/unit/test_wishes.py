"""Pins and vetoes: obeyed by every policy, or refused with the reason."""

import dataclasses

import pytest

from controller.plugins import find, installed
from controller.policies.start import BadOption
from controller.policies.wishes import wished
from controller.validity import objection
from tests.unit.test_joint import scene_of, street


@pytest.mark.parametrize("name", installed())
def test_every_policy_obeys_or_says_no(name):
    problem = wished(street(), {"pin": {"s1/b3": "mec"}, "veto": ["edge"]})
    decision = find(name)(problem, {}).start(scene_of())
    nodes = decision.placement.nodes
    if name == "device_only":
        assert decision.action == "INFEASIBLE" and "s1" in decision.reason
        return
    assert nodes["s1"][3] == "mec" and all("edge" not in row for row in nodes.values())


def test_the_narrower_pin_goes_first():
    pins = wished(street(), {"pin": {"s0/b1": "ue", "m": "edge", "m/b0": "mec", "s1": "mec"}}).pins
    assert [pins["s0", block] for block in range(4)] == ["mec", "ue", "edge", "edge"]
    assert [pins["s1", block] for block in range(4)] == ["mec", "mec", "mec", "mec"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pin": {"s0": "moon"}}, "pin.s0: no node 'moon'; there are ue, edge, mec"),
        ({"pin": {"s9": "mec"}}, "no stream or model 's9'; there are s0, s1, m"),
        ({"pin": {"m/b9": "mec"}}, "no unit 'b9'; there are b0, b1, b2, b3"),
        ({"pin": ["mec"]}, "a map of"),
        ({"pin": {"s0": "mec"}, "veto": ["mec"]}, "the option veto forbids mec"),
        ({"pin": {"s0": "mec"}}, "its raw data may not enter zone site, only home"),
        ({"veto": "mec"}, "a list of nodes"),
        ({"veto": ["moon"]}, "no node 'moon'"),
        ({"veto": ["ue", "edge", "mec"]}, "no node is left"),
    ],
)
def test_what_can_never_be_is_refused(options, said):
    with pytest.raises(BadOption, match=said):
        wished(street(zones={"raw": frozenset({"home"})}), options)
    tiny = street(hosts=tuple(dataclasses.replace(host, memory_bytes=10) for host in street().hosts))
    with pytest.raises(BadOption, match="needs 10000000 bytes, the node has 10"):
        wished(tiny, {"pin": {"s0": "ue"}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"veto": ["edge"]}, "s0/b0 on edge: the experiment's veto"),
        ({"pin": {"s1": "mec"}}, "s1/b0 on edge: the experiment pins it to mec"),
    ],
)
def test_an_answer_that_does_not_obey_is_refused(options, said):
    free = street()
    decision = find("static")(free, {}).start(scene_of())
    asked = wished(free, options)
    table = find("static")(asked, {})._planner.table
    assert said in objection(table, scene_of(), dataclasses.replace(decision.placement, epoch=0, nodes={}), decision)
