"""`wire` within a layer by parts: what travels has fewer bits, what stays does not, and the error is told."""

import pytest
import torch

from nodes.inlayer import assembly
from nodes.inlayer.assembly import Assembly
from nodes.inlayer.parts import split_config
from nodes.models.splits import Split
from nodes.prepare import inputs
from nodes.runtime.rawtensors import raw, view
from nodes.wire.quantise import quantise, restore
from testbed.summary import summarise
from tests.unit.apart import three
from tests.unit.journal_factory import a_run
from tests.unit.oracles import lively
from tests.unit.test_generation import is_whole

COUNT = 6
plain = assembly.carried


def hosts(apart_of, family, wire):
    """They send as `wire` says."""
    chat = apart_of(family, count=COUNT)
    add = chat.add
    chat.add = lambda name, **more: add(name, wire=wire, **more)
    return chat


def rounding(wire, monkeypatch):
    """In an assembly each tensor is rounded that goes from node to node."""

    def carried(x, begin=None, end=None):
        if begin is None or begin == end or x.dtype != torch.float32:
            return plain(x, begin, end)
        return plain(view(restore(quantise(raw(x.contiguous()), wire).tensor)))

    monkeypatch.setattr(assembly, "carried", carried)


def expected(chat, placement, wire, monkeypatch):
    """The tokens of the same placement in one process."""
    rounding(wire, monkeypatch)
    whole = Assembly(chat.family, lively(chat.family), placement)
    return list(whole.tokens(torch.from_numpy(inputs.make(chat.family, 0, 0)), COUNT))


@pytest.mark.parametrize(
    ("family", "wire", "most", "share"), [("llama_tiny", "fp16", 1e-3, 2), ("gpt2_tiny", "int8", 3e-2, 4)]
)
def test_what_travels_within_a_layer_has_fewer_bits_and_says_what_that_costs(
    apart_of, family, wire, most, share, monkeypatch
):
    """Gathered heads, rows and columns: what adds up is rounded once on its way."""
    chat = hosts(apart_of, family, wire)
    placement = three(chat)
    chat.right = expected(chat, placement, wire, monkeypatch)
    chat.phone()
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    [session] = chat.sessions()
    rounds = is_whole(chat, session)
    assert session["replays"] == 0 and len(rounds) == COUNT
    sends = [part for part in chat.of("part") if part["sent_bytes"]]
    assert {part["part"].split(":")[0] for part in sends} >= {"norm", "heads", "rows", "mlp"}
    rounded = [(one["wire"], one["relative_error"]) for part in sends for one in part["rounded"]]
    assert {name for name, _ in rounded} == {wire} and most / 10 < max(error for _, error in rounded) < most
    exact = sum(error == 0 for _, error in rounded)  # the layer's input, where it had been rounded on its way there
    assert 0 < exact < len(rounded) / 4
    assert not any("rounded" in part for part in chat.of("part") if not part["sent_bytes"])
    width, scale = chat.config.width, 4 * (wire == "int8")
    columns = [part for part in sends if part["position"] and part["part"].startswith("mlp:0-")]
    assert columns and {part["sent_bytes"] for part in columns} == {4 * width // share + scale}


@pytest.mark.parametrize("family", ["llama_tiny", "gpt2_tiny"])
@pytest.mark.parametrize(("wire", "most"), [("fp16", 1e-3), ("int8", 3e-2)])
def test_scores_suffer_no_more_from_rounded_partial_sums_than_from_rounded_heads(family, wire, most, monkeypatch):
    """Each layer on three nodes: heads gathered, or rows and columns added up."""
    config, x = split_config(family), torch.from_numpy(inputs.make(family, 0, 0))
    heads, third = ["abc"[i % 3] for i in range(config.movable)], config.hidden // 3
    gathered = Split.assigned("a", heads, "b", "c")
    summed = Split.assigned("a", heads, None, [("a", third), ("b", third), ("c", config.hidden - 2 * third)])
    assemblies = [Assembly(family, lively(family), ["a", *[s] * config.layers, "a"]) for s in (gathered, summed)]
    exact = [one.begin(x) for one in assemblies]
    rounding(wire, monkeypatch)
    errors = [float((one.begin(x) - right).norm() / right.norm()) for one, right in zip(assemblies, exact, strict=True)]
    assert 0 < errors[1] < 1.1 * errors[0] < most


def test_without_fewer_bits_nothing_is_rounded(apart_of):
    chat = hosts(apart_of, "llama_tiny", "fp32")
    chat.phone()
    heads = ["a", *["b"] * (chat.split.movable - 1)]
    placement = ["a", Split.assigned("a", heads, "b", "a"), *["a"] * (chat.units - 2)]
    chat.lay(placement)
    chat.take(placement)
    chat.start()
    chat.sessions()
    assert sum(part["sent_bytes"] for part in chat.of("part")) and not any("rounded" in p for p in chat.of("part"))


def test_the_summary_counts_what_was_rounded_within_layers():
    run = a_run()
    before = summarise(run)["wire"].get("fp16", {"hops": 0})["hops"]
    rounded = [{"wire": "fp16", "relative_error": 0.25}, {"wire": "int8", "relative_error": 0.5}]
    part = {"kind": "part", "t_us": 1, "node": "mec", "request": 1, "part": "proj", "sent_bytes": 7, "rounded": rounded}
    wire = summarise([*run, part])["wire"]
    assert wire["fp16"]["hops"] == before + 1
    assert wire["int8"] == {"hops": 1, "relative_error": {"mean": 0.5, "worst": 0.5}}
