"""A part of a layer as one function: some heads, the projection, columns of the feed-forward part (models.shares).

Rules: a part holds its own rows and columns and no others, behind one another at a multiple of 64 bytes. Each head is
computed on its own, so it gives the same bits whatever else is on its node. What is added up is added in the order of
the first head or column of each share, not in that of arrival, and a bias once, behind it.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from nodes.models import gpt2, llama
from nodes.models.cache import Cache
from nodes.models.config import config_of
from nodes.models.decoders import GptConfig, LlamaConfig
from nodes.models.layers import Steps
from nodes.models.shapes import Cut, cut_of
from nodes.models.shares import (
    MLP,
    MLP_NORM,
    NORM,
    PROJ,
    Columns,
    Heads,
    Need,
    Share,
    ShareError,
    SplitConfig,
    Whole,
    in_order,
    needs,
    output_width,
    shape_of,
    share_of,
)
from nodes.prepare.tensorfile import ALIGNMENT
from nodes.prepare.weights import digest
from nodes.runtime.slicing import SliceError

Weights = dict[str, torch.Tensor]
Arrived = Mapping[Share, torch.Tensor]  # what the shares of a sum or a projection gave, in any order


class Part:
    """One part of one layer, ready to run."""

    def __init__(self, config: SplitConfig, layer: int, share: Share, pieces: Mapping[Need, torch.Tensor]) -> None:
        """`pieces`: the weights that `needs` names. Raises ShareError, SliceError."""
        self.config, self.layer, self.share = config, layer, share
        wanted = needs(config, layer, share)
        for need in wanted:
            self._check_piece(need, pieces.get(need))
        self._steps = steps_of(config, layer)
        self._heads: dict[int, Weights] = {}
        if isinstance(share, Heads):
            cuts = {i: config.head(layer, i) for i in share.numbers}
            self._heads = {i: laid([at[role] for role in at if role != "o"], pieces) for i, at in cuts.items()}
            wanted = tuple(at["o"] for at in cuts.values()) if share.rows else ()
        self._weights = laid(wanted, pieces)

    def __call__(
        self, x: torch.Tensor, caches: Mapping[int, Cache] | None = None, arrived: Arrived | None = None
    ) -> torch.Tensor:
        """(1, T, D) of the next T tokens -> (1, T, D); heads -> (1, T, the widths of what each gives).

        norm            x: the layer's input
        heads, rows     x: what `norm` gave; `caches`: one of each head (None: there are no other tokens)
        proj, sum       x: the layer's input; `arrived`: what the heads, or rows, gave
        mlp, mlp:norm   x: the attention's result, of proj or sum
        mlp:0-384       x: what `mlp:norm` gave
        mlp:sum         x: the attention's result; `arrived`: what the columns gave
        Raises SliceError if it does not fit.
        """
        self._check(x, self.config.width, "x")
        with torch.inference_mode():
            x = x.clone() if x.data_ptr() % ALIGNMENT else x
            match self.share:
                case Heads(rows=rows):
                    mixed = self._attend(x, caches)
                    return self._steps.project(self._weights, mixed) if rows else mixed
                case Columns():
                    return self._steps.mlp(self._weights, x)
                case Whole():
                    return self._whole(self.share, x, arrived or {})

    def caches(self) -> dict[int, Cache]:
        """Fresh ones for a generation, by head."""
        return {i: Cache() for i in self._heads}

    @property
    def weights(self) -> Weights:
        """All that it holds."""
        return {f"{i} {name}": held for i, one in self._heads.items() for name, held in one.items()} | self._weights

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.weights.values())

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the raw bytes of the weights: the same part has the same on every node."""
        return digest(self.weights)

    def _attend(self, x: torch.Tensor, caches: Mapping[int, Cache] | None) -> torch.Tensor:
        if caches is not None:
            lengths = {i: caches[i].length if i in caches else None for i in self._heads}
            if None in lengths.values() or len(set(lengths.values())) > 1:
                raise SliceError(f"{self}: caches of one length are needed, not {lengths} tokens of its heads")
        try:
            mixes = [self._steps.mix(w, x, caches[i] if caches else None) for i, w in self._heads.items()]
        except RuntimeError as error:
            raise SliceError(f"{self}: these are no caches of its heads: {error}") from error
        return torch.cat(mixes, dim=2)

    def _whole(self, share: Whole, x: torch.Tensor, arrived: Arrived) -> torch.Tensor:
        if share == NORM:
            return self._steps.norm(self._weights, x)
        if share == MLP_NORM:
            return self._steps.mlp_norm(self._weights, x)
        if share == MLP:
            return self._steps.mlp(self._weights, self._steps.mlp_norm(self._weights, x)).add_(x)
        try:
            shares = in_order(self.config, share, frozenset(arrived))
        except ShareError as error:
            raise SliceError(str(error)) from error
        for one in shares:
            self._check(arrived[one], output_width(self.config, one), one, x.shape[1])
        if share == PROJ:
            return self._steps.project(self._weights, joined(self.config, arrived)).add_(x)
        total = arrived[shares[0]]
        for one in shares[1:]:
            total = total + arrived[one]
        for bias in self._weights.values():
            total = total + bias
        return total + x

    def _check(self, x: torch.Tensor, width: int, what: Share | str, tokens: int | None = None) -> None:
        fits = x.dim() == 3 and x.shape[0] == 1 and x.shape[1] > 0 and x.shape[2] == width
        if not fits or tokens not in {None, x.shape[1]} or x.dtype != torch.float32 or not x.is_contiguous():
            takes = f"takes contiguous float32 (1, {tokens or -1}, {width}) as {what}"
            raise SliceError(f"{self} {takes}, not {x.dtype} {tuple(x.shape)}")

    def _check_piece(self, need: Need, piece: torch.Tensor | None) -> None:
        shape = shape_of(self.config, need)
        if piece is None or tuple(piece.shape) != shape or piece.dtype != torch.float32:
            found = "missing" if piece is None else f"{piece.dtype} {tuple(piece.shape)}"
            raise SliceError(f"{self}: {need} is {found}, not torch.float32 {shape}")

    def __str__(self) -> str:
        return f"{self.config.family} layer{self.layer} {self.share}"


def part(family: str, weights: Mapping[str, torch.Tensor], layer: int, text: str) -> Part:
    """The part of that name, cut out of the whole weights. Raises ShareError, SliceError, UnknownFamily."""
    config, share = split_config(family), share_of(text)
    return Part(config, layer, share, pieces(weights, needs(config, layer, share)))


def split_config(family: str) -> SplitConfig:
    """Raises SliceError for a family whose layers have no parts, UnknownFamily."""
    config = config_of(family)
    if not isinstance(config, GptConfig | LlamaConfig):
        raise SliceError(f"the layers of {family} have no parts")
    return config


def pieces(weights: Mapping[str, torch.Tensor], wanted: Iterable[Need]) -> dict[Need, torch.Tensor]:
    """Those rows and columns of whole weights, where they lie. Raises SliceError if a weight is missing."""
    found: dict[Need, torch.Tensor] = {}
    for need in wanted:
        name = need if isinstance(need, str) else need.weight
        if name not in weights:
            raise SliceError(f"weight {name} is missing")
        whole = weights[name]
        found[need] = whole if isinstance(need, str) else whole.narrow(need.dim, need.begin, need.end - need.begin)
    return found


def gathered(wanted: Iterable[Need], found: Mapping[str, torch.Tensor]) -> dict[Need, torch.Tensor]:
    """The same of weights that came cut otherwise, by name (`Cut`). Raises SliceError if something is missing."""
    cuts = sorted((cut for name in found if (cut := cut_of(name))), key=lambda cut: (cut.weight, cut.begin))
    return {need: found[str(need)] if str(need) in found else _filled(need, cuts, found) for need in wanted}


def whole_again(found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by name, those that came in cuts put together. Raises SliceError."""
    names = dict.fromkeys(cut.weight if (cut := cut_of(name)) else name for name in found)
    return {str(name): tensor for name, tensor in gathered(names, found).items()}


def _filled(need: Need, cuts: Iterable[Cut], found: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Out of cuts, in the order in which they lie."""
    name, reached, end = (need, 0, None) if isinstance(need, str) else (need.weight, need.begin, need.end)
    filled: list[torch.Tensor] = []
    for cut in (cut for cut in cuts if cut.weight == name and cut.end > reached):
        upto = cut.end if end is None else min(cut.end, end)
        if cut.begin > reached or upto <= reached:
            break
        filled.append(found[str(cut)].narrow(cut.dim, reached - cut.begin, upto - reached))
        dim, reached = cut.dim, upto
    if not filled or (end is not None and reached < end):
        raise SliceError(f"weight {need} is missing")
    return torch.cat(filled, dim)


def laid(wanted: Iterable[Need], found: Mapping[Need, torch.Tensor]) -> Weights:
    """By the name of the weight: what was cut out of it, behind one another; what is whole stays where it lies."""
    cuts: dict[str, list[Cut]] = {}
    placed: Weights = {}
    for need in wanted:
        if isinstance(need, Cut):
            cuts.setdefault(need.weight, []).append(need)
        else:
            fits = found[need].is_contiguous() and found[need].data_ptr() % ALIGNMENT == 0
            placed[need] = found[need] if fits else found[need].clone(memory_format=torch.contiguous_format)
    return placed | {name: torch.cat([found[cut] for cut in of], of[0].dim) for name, of in cuts.items()}


def joined(config: SplitConfig, arrived: Arrived) -> torch.Tensor:
    """What all heads gave, in the order of the heads: (1, T, D)."""
    single: dict[int, torch.Tensor] = {}
    for share, tensor in arrived.items():
        if isinstance(share, Heads):
            single |= zip(share.numbers, tensor.chunk(len(share.numbers), dim=2), strict=True)
    return torch.cat([single[i] for i in range(config.movable)], dim=2)


def apart(cache: Cache) -> dict[int, Cache]:
    """The cache of a whole layer as those of its heads; what keeps its position only is taken for one head."""
    kept = cache.tensors()
    grows, count = frozenset(kept), next((tensor.shape[1] for tensor in kept.values()), 1)
    cut = [{name: tensor[:, i : i + 1] for name, tensor in kept.items()} for i in range(count)]
    return {i: Cache.of(cache.length, one, grows) for i, one in enumerate(cut)}


def together(caches: Sequence[Cache]) -> Cache:
    """The caches of all heads, in order, as that of the whole layer."""
    kept = [cache.tensors() for cache in caches]
    joint = {name: torch.cat([one[name] for one in kept], dim=1) for name in kept[0]}
    return Cache.of(caches[0].length, joint, grows=frozenset(joint))


def steps_of(config: SplitConfig, layer: int) -> Steps:
    return gpt2.steps(config, layer) if isinstance(config, GptConfig) else llama.steps(config, layer)
