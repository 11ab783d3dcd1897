"""Parts of a layer one by one: their names, what they hold and cost, what they take and give."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nodes.costing.profile import profile
from nodes.inlayer.parts import Part, part, pieces, split_config
from nodes.models import shares
from nodes.models.cache import Cache
from nodes.models.config import CONFIGS
from nodes.models.shares import Columns, Heads, Share, ShareError, needs, share_of
from nodes.prepare.tensorfile import ALIGNMENT
from nodes.runtime.slicing import SliceError, cut, one_thread
from tests.unit.placements import FIFTY, SMALL, weights_of
from tests.unit.test_slicing import at_odd_address

PARTS = ["norm", "heads:0,2", "rows:0,2", "proj", "sum", "mlp", "mlp:norm", "mlp:40-100", "mlp:sum"]
SPLIT = ["gpt2", "gpt2_tiny", "llama_tiny", "smollm2"]


@pytest.fixture(autouse=True)
def single() -> None:
    one_thread()


def run(held: Part, tokens: int, before: int = 0) -> torch.Tensor:
    return held(*given_to(held, tokens, before))


def given_to(
    held: Part, tokens: int, before: int
) -> tuple[torch.Tensor, dict[int, Cache] | None, dict[Share, torch.Tensor]]:
    """Drawn tensors and, after `before` other tokens, caches."""
    config, generator = held.config, torch.Generator().manual_seed(0)
    caches = held.caches()
    if before and caches:
        held(torch.randn(1, before, config.width, generator=generator), caches)
    arrived: dict[Share, torch.Tensor] = {}
    for share in taken_by(held):
        arrived[share] = torch.randn(1, tokens, shares.output_width(config, share), generator=generator)
    return torch.randn(1, tokens, config.width, generator=generator), caches or None, arrived


def taken_by(held: Part) -> list[Share]:
    """Three uneven shares of all heads, or two of all columns, if it takes any."""
    rest = tuple(i for i in range(held.config.movable) if i != 1)
    if held.share in {shares.PROJ, shares.SUM}:
        rows = held.share == shares.SUM
        return [Heads((1,), rows), Heads(rest, rows)]
    return [Columns(0, 40), Columns(40, 41), Columns(41, held.config.hidden)] if held.share == shares.MLP_SUM else []


@FIFTY
@given(st.sets(st.integers(0, 99), min_size=1), st.booleans(), st.integers(0, 999), st.integers(1, 999))
def test_every_part_has_one_name(numbers: set[int], rows: bool, begin: int, count: int) -> None:
    for share in (Heads(tuple(sorted(numbers)), rows), Columns(begin, begin + count), *shares.WHOLES.values()):
        assert share_of(str(share)) == share


@pytest.mark.parametrize(
    "text", ["", "head:0", "heads", "heads:", "heads:0,", "heads:0 ,1", "mlp:", "mlp:-4", "Proj", "norm\n"]
)
def test_parts_that_are_unknown(text: str) -> None:
    with pytest.raises(ShareError, match=r"no part .*: there are norm, proj, sum"):
        share_of(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("heads:3,0", "heads:3,0: heads are named in ascending order"),
        ("rows:1,1", "rows:1,1: heads are named in ascending order, each once"),
        ("heads:01", "'heads:01' is written 'heads:1'"),
        ("mlp:00-4", "'mlp:00-4' is written 'mlp:0-4'"),
        ("mlp:5-5", "mlp:5-5: has no columns"),
        ("mlp:8-4", "mlp:8-4: has no columns"),
    ],
)
def test_other_spellings_are_told(text: str, told: str) -> None:
    with pytest.raises(ShareError, match=told):
        share_of(text)


def test_parts_that_a_family_does_not_have() -> None:
    held = weights_of("llama_tiny")
    for text, told in {
        "heads:0,3": r"heads:0,3: llama_tiny has heads 0\.\.2",
        "rows:7": r"rows:7: llama_tiny has heads 0\.\.2",
        "mlp:200-257": "mlp:200-257: llama_tiny has columns 0-256",
    }.items():
        with pytest.raises(ShareError, match=told):
            part("llama_tiny", held, 0, text)
        with pytest.raises(ShareError, match=told):
            shares.output_bytes_per_token(split_config("llama_tiny"), share_of(text))
    with pytest.raises(ShareError, match=r"layer 3: llama_tiny has layers 0\.\.2"):
        part("llama_tiny", held, 3, "norm")


@pytest.mark.parametrize("family", SPLIT)
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("columns", [True, False])
def test_parts_hold_every_weight_of_a_layer_once(family: str, rows: bool, columns: bool) -> None:
    config, layer = split_config(family), 2
    first = [Heads((1,), rows), Heads(tuple(i for i in range(config.movable) if i != 1), rows)]
    ends = [0, 1, 100, config.hidden]
    second = [Columns(a, b) for a, b in itertools.pairwise(ends)] if columns else []
    closing = [shares.SUM if rows else shares.PROJ, *([shares.MLP_NORM, shares.MLP_SUM] if columns else [shares.MLP])]
    covered = {name: np.zeros(shape, np.int8) for name, shape in config.units()[1 + layer].weights.items()}
    total = 0
    for share in (shares.NORM, *first, *second, *closing):
        total += shares.weight_bytes(config, share)
        for need in needs(config, layer, share):
            if isinstance(need, str):
                covered[need] += 1
            else:
                covered[need.weight][(slice(None),) * need.dim + (slice(need.begin, need.end),)] += 1
    assert all((count == 1).all() for count in covered.values())
    assert total == sum(4 * count.size for count in covered.values()) == profile(family).units[1 + layer].weight_bytes


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("text", PARTS)
def test_a_part_holds_what_it_declares(family: str, text: str) -> None:
    config, whole = split_config(family), weights_of(family)
    held = part(family, whole, 1, text)
    assert held.weight_bytes == shares.weight_bytes(config, held.share)
    assert all(tensor.is_contiguous() and tensor.data_ptr() % ALIGNMENT == 0 for tensor in held.weights.values())
    sizes = {name: tensor.untyped_storage().nbytes() for name, tensor in held.weights.items()}
    assert sum(sizes.values()) == held.weight_bytes  # no view into more
    enough = {
        name: whole[name] for name in {n if isinstance(n, str) else n.weight for n in needs(config, 1, held.share)}
    }
    assert part(family, enough, 1, text).digest == held.digest
    if held.weights:
        assert part(family, whole, 2, text).digest != held.digest


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("text", PARTS)
def test_a_part_whose_weights_were_sent_is_the_same(family: str, text: str) -> None:
    config, here = split_config(family), part(family, weights_of(family), 1, text)
    sent = {
        need: at_odd_address(piece) for need, piece in pieces(weights_of(family), needs(config, 1, here.share)).items()
    }
    there = Part(config, 1, here.share, sent)
    assert there.digest == here.digest
    assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in there.weights.values())
    assert torch.equal(run(there, 3, 4), run(here, 3, 4))


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("text", PARTS)
@pytest.mark.parametrize(("tokens", "before"), [(1, 7), (5, 7), (9, 0)])
def test_costs_and_sizes_are_those_of_the_real_thing(family: str, text: str, tokens: int, before: int) -> None:
    config, held = split_config(family), part(family, weights_of(family), 1, text)
    x, caches, arrived = given_to(held, tokens, before)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        y = held(x, caches, arrived)
    assert counted.get_total_flops() == shares.flops(config, held.share, tokens, before)
    assert y.shape[:2] == (1, tokens)
    assert y.nbytes == tokens * shares.output_bytes_per_token(config, held.share)
    kept = sum(tensor.nbytes for cache in (caches or {}).values() for tensor in cache.tensors().values())
    assert kept == (tokens + before) * shares.cache_bytes_per_token(config, held.share)


@pytest.mark.parametrize("family", SPLIT)
def test_parts_cost_together_what_the_layer_costs(family: str) -> None:
    config, tokens = split_config(family), 64
    rows = [Heads((1,), True), Heads(tuple(i for i in range(config.movable) if i != 1), True)]
    columns = [Columns(0, 40), Columns(40, config.hidden)]
    heads = [Heads(share.numbers) for share in rows]
    layer = profile(family, tokens).units[1].flops
    for together in ((*rows, shares.SUM, *columns, shares.MLP_SUM), (*heads, shares.PROJ, shares.MLP)):
        assert sum(shares.flops(config, share, tokens) for share in together) == layer
    assert (
        sum(shares.cache_bytes_per_token(config, share) for share in rows) == 2 * 4 * config.movable * config.head_width
    )


def test_known_sizes_of_gpt2() -> None:
    """Of one head of GPT-2 small: three matrices 768 x 64 and their biases; 512 bytes a token, keys and values."""
    config, head = split_config("gpt2"), Heads((5,))
    assert shares.weight_bytes(config, head) == 4 * 3 * (768 * 64 + 64)
    assert shares.cache_bytes_per_token(config, head) == 512
    assert shares.output_bytes_per_token(config, head) == 256
    assert shares.flops(config, head, tokens=1, before=99) == 2 * 3 * 768 * 64 + 2 * 2 * 100 * 64


def test_known_sizes_of_smollm2() -> None:
    """A group with its rows is a third of the attention, which is a quarter of the layer."""
    config, group = split_config("smollm2"), Heads((1,), rows=True)
    assert 3 * shares.weight_bytes(config, group) == 4 * (2 * 576 * 576 + 2 * 576 * 192)
    assert 12 * shares.weight_bytes(config, group) == 4 * 4 * 884_736
    assert shares.cache_bytes_per_token(config, group) == 512


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("text", ["proj", "sum", "mlp:sum"])
def test_sums_do_not_depend_on_the_order_of_arrival(family: str, text: str) -> None:
    held, generator = part(family, weights_of(family), 1, text), torch.Generator().manual_seed(0)
    config = held.config
    parts: list[Share] = [Columns(a, b) for a, b in itertools.pairwise([0, 3, 90, 200, config.hidden])]
    if text != "mlp:sum":
        parts = [Heads((i,), rows=text == "sum") for i in range(config.movable)]
    widths = {share: shares.output_width(config, share) for share in parts}
    arrived = {share: torch.randn(1, 3, width, generator=generator) for share, width in widths.items()}
    x = torch.randn(1, 3, config.width, generator=generator)
    first = held(x, arrived=arrived)
    for order in itertools.permutations(parts):
        assert torch.equal(held(x, arrived={share: arrived[share] for share in order}), first)
    other = sum(reversed(arrived.values())) if text != "proj" else None  # what an order of arrival could have given
    assert other is None or not torch.equal(other, sum(arrived.values()))


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize(("tokens", "before"), [(9, 0), (1, 7), (4, 7)])
def test_a_head_gives_the_same_bits_whatever_else_is_on_its_node(family: str, tokens: int, before: int) -> None:
    config, held = split_config(family), weights_of(family)
    together = run(part(family, held, 1, "heads:0,1,2"), tokens, before)
    width = config.width // config.movable
    for i in range(3):
        alone = run(part(family, held, 1, f"heads:{i}"), tokens, before)
        assert torch.equal(alone, together[:, :, i * width : (i + 1) * width])


@pytest.mark.parametrize("family", SMALL)
def test_a_part_never_writes_into_what_it_is_given(family: str) -> None:
    for text in PARTS:
        held = part(family, weights_of(family), 1, text)
        assert torch.equal(run(held, 3), run(held, 3))
        x = torch.randn(1, 3, held.config.width)
        arrived = {share: torch.randn(1, 3, shares.output_width(held.config, share)) for share in taken_by(held)}
        before = [tensor.clone() for tensor in (x, *arrived.values())]
        held(x, arrived=arrived)
        assert all(map(torch.equal, before, (x, *arrived.values())))


def test_pieces_that_do_not_fit() -> None:
    config, whole = split_config("gpt2_tiny"), weights_of("gpt2_tiny")
    share = share_of("rows:1")
    found = pieces(whole, needs(config, 1, share))
    need = next(iter(found))
    with pytest.raises(SliceError, match=r"gpt2_tiny layer1 rows:1: .*c_proj.* is missing"):
        Part(config, 1, share, {other: found[other] for other in found if other != need})
    with pytest.raises(SliceError, match=r"is torch\.float32 \(64, 16\), not torch\.float32 \(16, 64\)"):
        Part(config, 1, share, {**found, need: found[need].T})
    with pytest.raises(SliceError, match=r"weight transformer\.h\.1\.attn\.c_proj\.weight is missing"):
        part("gpt2_tiny", {}, 1, "rows:1")
    with pytest.raises(SliceError, match="the layers of vit_tiny have no parts"):
        part("vit_tiny", whole, 1, "rows:1")


def test_tensors_that_do_not_fit() -> None:
    heads, close, x = (
        *(part("gpt2_tiny", weights_of("gpt2_tiny"), 0, text) for text in ("heads:1,2", "sum")),
        torch.zeros(1, 2, 64),
    )
    for wrong in (
        torch.zeros(1, 2, 63),
        torch.zeros(1, 0, 64),
        torch.zeros(2, 64),
        x.double(),
        torch.zeros(1, 64, 2).mT,
    ):
        with pytest.raises(
            SliceError, match=r"gpt2_tiny layer0 heads:1,2 takes contiguous float32 \(1, -1, 64\) as x, not"
        ):
            heads(wrong)
    with pytest.raises(SliceError, match=r"caches of one length are needed, not \{1: 0, 2: None\}"):
        heads(x, {1: Cache()})
    caches = heads.caches()
    heads(x, caches)
    with pytest.raises(SliceError, match=r"caches of one length are needed, not \{1: 0, 2: 2\}"):
        heads(x, {1: Cache(), 2: caches[2]})
    narrow = {name: torch.zeros(1, 1, 2, 8) for name in ("keys", "values")}
    with pytest.raises(SliceError, match="gpt2_tiny layer0 heads:1,2: these are no caches of its heads"):
        heads(x, {i: Cache.of(2, narrow, frozenset(narrow)) for i in (1, 2)})
    three, one = Heads((0, 1, 2), rows=True), Heads((3,), rows=True)
    for arrived in ({three: x}, {three: x, Heads((2, 3), rows=True): x}, {three: x, Heads((3,)): x}, {}):
        with pytest.raises(SliceError, match="sum takes each of the 4 heads of gpt2_tiny once, not"):
            close(x, arrived=arrived)
    with pytest.raises(
        SliceError, match=r"takes contiguous float32 \(1, 2, 64\) as rows:3, not torch\.float32 \(1, 3, 64\)"
    ):
        close(x, arrived={three: x, one: torch.zeros(1, 3, 64)})
    columns = part("gpt2_tiny", weights_of("gpt2_tiny"), 0, "mlp:sum")
    with pytest.raises(SliceError, match="mlp:sum takes each of the 256 columns of gpt2_tiny once, not mlp:0-255"):
        columns(x, arrived={Columns(0, 255): x})


def test_whole_layers_and_parts_agree() -> None:
    """A layer of parts on the input of the whole one: the same but for rounding, and no bias twice."""
    for family in SMALL:
        held = weights_of(family)
        x = torch.randn(1, 9, split_config(family).width, generator=torch.Generator().manual_seed(1))
        steps = {text: part(family, held, 1, text) for text in ("norm", "rows:0,2", "rows:1", "sum", "mlp")}
        rows = [text for text in steps if text.startswith("rows")]
        if family == "gpt2_tiny":
            steps["rows:3"] = part(family, held, 1, "rows:3")
            rows.append("rows:3")
        y = steps["norm"](x)
        between = steps["sum"](x, arrived={share_of(text): steps[text](y) for text in rows})
        whole = cut(family, held, 2, 3)(x)
        assert torch.allclose(steps["mlp"](between), whole, atol=1e-5)


def test_only_decoders_have_parts() -> None:
    for family in CONFIGS:
        if family not in SPLIT:
            with pytest.raises(SliceError, match="have no parts"):
                split_config(family)
    assert math.prod(len(split_config(family).units()) > 3 for family in SPLIT)


def test_torch_stays_out() -> None:
    code = "import sys, nodes.models.splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
