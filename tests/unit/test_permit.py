"""A node refuses what privacy forbids, whoever asks for it."""

from contextlib import ExitStack

from nodes.permit import Permit
from tests.unit.hosts import BLOCKS, World

CLASSES = {"m": ("raw", "feature", "feature", "public")}  # three blocks


def test_what_a_slice_takes_and_gives_must_be_allowed_where_it_is() -> None:
    permit = Permit("mec", CLASSES, lambda _: {"raw": frozenset({"device"}), "feature": frozenset({"device", "mec"})})
    assert permit.objection("m", 0, 1, 0) == "raw data of m[0:1] may not enter zone mec, only device"
    assert permit.objection("m", 1, 3, 0) == ""
    cloud = Permit("cloud", CLASSES, permit.zones)
    assert "feature data" in cloud.objection("m", 2, 3, 0)
    assert Permit("device", CLASSES, permit.zones).objection("m", 0, 3, 0) == ""


def test_without_rules_everything_may_be_anywhere() -> None:
    assert Permit().objection("m", 0, 3, 0) == ""
    assert Permit("mec", CLASSES).objection("m", 0, 3, 0) == ""


def test_rules_may_change_while_it_runs() -> None:
    permit = Permit("mec", CLASSES, lambda now_us: {"raw": frozenset({"device"})} if now_us >= 5 else {})
    assert permit.objection("m", 0, 1, 4) == ""
    assert permit.objection("m", 0, 1, 5)


def test_an_agent_refuses_to_load_what_may_not_be_there_and_says_why(tmp_path) -> None:
    classes = {"fake": ("raw", *["feature"] * BLOCKS)}
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        world.add("mec", permit=Permit("mec", classes, lambda _: {"raw": frozenset({"device"})}))
        refused, taken = world.prepare("mec", 0, 2), world.prepare("mec", 1, 3)
    assert not refused.ok
    assert refused.why == "mec: raw data of fake[0:2] may not enter zone mec, only device"
    assert taken.ok
