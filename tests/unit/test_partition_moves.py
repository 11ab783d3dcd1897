"""A partition while phones move: a radio link is held for as long as the phone's base station is on the other side."""

from pathlib import Path

from testbed.compile import ModelFiles, compile_plan
from testbed.experiment import load_experiment

DRIVING = Path(__file__).resolve().parents[2] / "topologies" / "driving.yaml"
ATTACHED_S = (5.41, 10.41)  # ue1 at bs2, at bs3


def changes(tmp_path, group, begin_s, for_s=None):
    ending = "" if for_s is None else f", for: {for_s}s"
    file = tmp_path / "driving.yaml"
    file.write_text(f"{DRIVING.read_text()}\nevents: [{{at: {begin_s}s, partition: [{group}]{ending}}}]\n")
    experiment = load_experiment(file)
    return compile_plan(experiment, {name: ModelFiles("w", "a", 8) for name in experiment.models}).changes


def held(found, link):
    return [(c.t_us / 1e6, c.what) for c in found if c.target == link and c.what in ("link_down", "link_up")]


def told(found):
    return [(c.t_us / 1e6, c.text) for c in found if "partition" in c.text or "healed" in c.text]


def test_a_phone_that_leaves_the_partition_loses_its_link_when_it_arrives_outside(tmp_path):
    found = changes(tmp_path, "bs1, ue1", 4, 3)
    assert held(found, "ue1") == [(ATTACHED_S[0], "link_down"), (7, "link_up")]
    assert held(found, "xn12") == held(found, "aggbs1") == [(4, "link_down"), (7, "link_up")]
    assert told(found) == [(4, "bs1, ue1: partition"), (7, "bs1, ue1: healed")]


def test_a_phone_that_comes_in_gets_its_link_back(tmp_path):
    found = changes(tmp_path, "ue1, bs2", 4)
    assert held(found, "ue1") == [(4, "link_down"), (ATTACHED_S[0], "link_up"), (ATTACHED_S[1], "link_down")]
    assert told(found) == [(4, "ue1, bs2: partition")]


def test_a_phone_that_stays_outside_is_held_without_a_break(tmp_path):
    found = changes(tmp_path, "ue1", 4, 4)
    assert held(found, "ue1") == [(4, "link_down"), (8, "link_up")]


def test_where_a_phone_is_at_the_start_of_the_partition_counts(tmp_path):
    found = changes(tmp_path, "bs1", 6, 2)
    assert held(found, "ue1") == []
    assert held(found, "xn12") == [(6, "link_down"), (8, "link_up")]
