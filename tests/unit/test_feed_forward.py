"""`ffn_parts`: the feed-forward part over several nodes where pins want it, from the blocks placed to the tokens."""

from dataclasses import replace

import numpy as np
import pytest

from controller import parts
from controller.model import Host, NodeState, Problem, Sla, Snapshot, Stream
from controller.moves import route, slices
from controller.plugins import build
from nodes.models.shares import share_of
from nodes.models.splits import Split
from testbed.emulation.problem import _model
from testbed.plan import ModelPlan
from tests.unit.apart import everything
from tests.unit.test_generation import is_whole

UP = NodeState(True, 0, 0)
SCENE = Snapshot(0, (UP,) * 3, np.full((3, 3), 1000, dtype=np.int64), np.full((3, 3), 10**8))


def placed(family, ffn_parts, pins):
    """What `static` places where the pins of an experiment want it: the problem, and the node of each block."""
    model = _model(ModelPlan("chat", family, "", "", 8, grain="heads", ffn_parts=ffn_parts), 8)
    hosts = tuple(Host(name, "site", 10**9, 10**9) for name in "abc")
    streams = (Stream("cam", "chat", "a", 10**6),)
    problem = Problem(hosts, {"chat": replace(model, name="chat")}, streams, Sla(95, 10**6, 10**6))
    problem, policy = build("static", problem, {"pin": {f"chat/{unit}": node for unit, node in pins.items()}})
    return problem, policy.start(SCENE).placement.nodes["cam"]


def as_nodes_see_it(stops):
    """The node or the split of each unit."""
    found = []
    for stop in stops:
        split = Split(stop.node, tuple((node, share_of(part)) for node, part in stop.parts))
        found += [split] if stop.parts else [stop.node] * (stop.last - stop.first)
    return found


@pytest.mark.parametrize(
    ("family", "count", "at"),
    [
        pytest.param("gpt2_tiny", 3, "abc", id="gpt2, one on each"),
        pytest.param("llama_tiny", 4, "bbca", id="llama, neighbours together"),
        pytest.param("gpt2_tiny", 4, "cbcb", id="gpt2, in turn"),
    ],
)
def test_a_feed_forward_part_runs_where_pins_want_its_columns(apart_of, family, count, at):
    chat = apart_of(family, count=8)
    blocks = _model(ModelPlan("chat", family, "", "", 8, grain="heads", ffn_parts=count), 8).blocks
    columns = [block for block in blocks if block.part.startswith(parts.COLUMNS)]
    pins = {block.name: at[i % count] for i, block in enumerate(columns)} | {"layer1/proj": "c"}
    problem, nodes = placed(family, count, pins)
    assert [nodes[blocks.index(block)] for block in columns] == list(at) * chat.config.layers
    stops = route(problem, "cam", nodes)
    placement = as_nodes_see_it(stops)
    assert all(isinstance(place, Split) and place.columns for place in placement[1:-1])
    loaded = {(piece.node, piece.first, piece.last, piece.part) for piece in slices(problem, {"cam": nodes})}
    assert loaded == set(everything(placement))
    chat.phone()
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    [session] = chat.sessions()
    is_whole(chat, session)
    assert session["replays"] == 0
    sums = lambda: [part for part in chat.of("part") if part["part"] == "mlp:sum"]  # noqa: E731
    chat.until(lambda: len(sums()) >= chat.config.layers * chat.count)  # a node tells of a part when it has sent it
    assert len(sums()) == chat.config.layers * chat.count
    assert {part["node"] for part in sums() if part["layer"] == 2} == {"c"}
    ran = {(part["node"], part["layer"], part["part"]) for part in chat.of("part")}
    assert ran == {(node, first, part) for node, first, _, part in loaded if part}
