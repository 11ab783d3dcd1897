"""What blocks need and what a placement costs, in two modes that must never be mixed in one figure.

`paper`     Table I and equations (1)-(7) of arXiv 2505.02533 as written. Each token is computed from all L = L0 +
            lambda tau tokens again although a K/V cache is charged; the cache row is D wide for every head; the
            memory of projection and FFN is their activations; links have no delay.
`physical`  cached decode of one token: 3 D d + 2 L d a head; K and V of d numbers for each token; weights; the delay
            of the links; the answer's way home. Weights are on all devices already, or move too (`weights_move`).
`code`      what the authors' public code computes instead, to reproduce its figures: FFN of 0.8 L D^2, no input, the
            transfers of all devices to the projection summed. Units of its links are the caller's.
In all: blocks that share a device run one after the other, and so do transfers that share a link.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, HeadModel, Ints, Plan, Scene

Mode = Literal["paper", "physical", "code"]


@dataclass(frozen=True, slots=True)
class Demand:
    """Table I: what a head, the projection and the FFN of each layer need in one interval."""

    mode: Mode
    flops: tuple[float, float, float]  # b_i of a head, of proj, of ffn
    resident_bytes: tuple[float, float, float]  # m_i
    moving_bytes: tuple[float, float, float]  # m_i(tau - 1), what a migration carries
    input_bytes: float  # to each device that holds heads of the layer
    head_bytes: float  # out_head, head -> proj
    proj_bytes: float  # out_proj, proj -> ffn
    answer_bytes: float | None  # last ffn -> source; None: not counted
    summed: bool = False  # the transfers of different devices to proj one after the other


def demand(model: HeadModel, mode: Mode, token: int, interval_tokens: int = 1, weights_move: bool = True) -> Demand:
    """The needs in the interval before which `token` = lambda * tau tokens were generated; lambda = interval_tokens."""
    before = max(0, token - interval_tokens)
    if mode == "physical":
        now, then = _physical_bytes(model, token), _physical_bytes(model, before)
        kept = (then[0] - _physical_cache(model, before), then[1], then[2])
        moving = then if weights_move else (then[0] - kept[0], 0.0, 0.0)
        wide, one = float(model.width * model.number_bytes), float(model.head_width * model.number_bytes)
        return Demand(mode, _physical_flops(model, token), now, moving, wide, one, wide, 4.0)
    length, b = model.prompt_tokens + token, model.number_bytes
    wide, one = float(length * model.width * b), float(length * model.head_width * b)
    sizes = _paper_bytes(model, token), _paper_bytes(model, before)
    if mode == "code":
        return Demand(mode, _paper_flops(model, token, 0.8), *sizes, 0.0, one, wide, None, summed=True)
    return Demand(mode, _paper_flops(model, token, model.ffn_factor), *sizes, wide, one, wide, None)


def _paper_bytes(model: HeadModel, token: int) -> tuple[float, float, float]:
    """Table I, memory: 3 L d b + 3 D d b and the cache n D b; L D b; 4 L D b."""
    length, d, wide, b = model.prompt_tokens + token, model.head_width, model.width, model.number_bytes
    head = 3 * length * d * b + 3 * wide * d * b + token * wide * b
    return float(head), float(length * wide * b), float(4 * length * wide * b)


def _paper_flops(model: HeadModel, token: int, ffn_factor: float) -> tuple[float, float, float]:
    """Table I, compute: 3 L D d + L^2 d; L D^2; 8 L D^2."""
    length, d, wide = model.prompt_tokens + token, model.head_width, model.width
    return (
        float(3 * length * wide * d + length * length * d),
        float(length * wide * wide),
        ffn_factor * length * wide * wide,
    )


def _physical_cache(model: HeadModel, token: int) -> float:
    """2 (L0 + tau) d b: K and V of every token so far."""
    return float(2 * (model.prompt_tokens + token) * model.head_width * model.number_bytes)


def _physical_bytes(model: HeadModel, token: int) -> tuple[float, float, float]:
    """Weights 3 D d b with the cache; D^2 b; factor * D^2 b."""
    wide, b = model.width, model.number_bytes
    head = 3 * wide * model.head_width * b + _physical_cache(model, token)
    return head, float(wide * wide * b), model.ffn_factor * wide * wide * b


def _physical_flops(model: HeadModel, token: int) -> tuple[float, float, float]:
    """One token beside a cache: 3 D d + 2 L d; D^2; factor * D^2."""
    length, d, wide = model.prompt_tokens + token, model.head_width, model.width
    return float(3 * wide * d + 2 * length * d), float(wide * wide), model.ffn_factor * wide * wide


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """A demand on a scene, in seconds: never infinite, `UNREACHABLE_S` at most for each part."""

    head: Floats  # (N,) (5) of one head
    proj: Floats  # (N,) (5)
    ffn: Floats  # (N,) (5)
    enter: Floats  # (N, N) [from, to] D_in, the input of a layer
    gather: Floats  # (N, N) [head's, proj's] (3) of one head, without the delay
    delay: Floats  # (N, N)
    onward: Floats  # (N, N) [proj's, ffn's] (4)
    home: Floats  # (N,) [last ffn's] the answer's way
    move_head: Floats  # (N, N) (2)
    move_proj: Floats  # (N, N) (2)
    move_ffn: Floats  # (N, N) (2)


def times(scene: Scene, need: Demand) -> Times:
    size = len(scene.flops_per_s)
    delay = scene.delay_s if need.mode == "physical" else np.zeros((size, size))

    def process(flops: float) -> Floats:
        """(5): b_i / C_j"""
        up = scene.flops_per_s > 0
        spent = flops / np.where(up, scene.flops_per_s, 1.0)
        return np.asarray(np.where(up, np.minimum(spent, UNREACHABLE_S), UNREACHABLE_S), dtype=np.float64)

    def carry(size_bytes: float, late: bool = True) -> Floats:
        """bytes / R_jk, 0 on the diagonal"""
        linked = scene.rate_bytes_per_s > 0
        spent = np.where(linked, size_bytes / np.where(linked, scene.rate_bytes_per_s, 1.0), UNREACHABLE_S)
        spent = np.minimum(spent + delay if late else spent, UNREACHABLE_S)
        np.fill_diagonal(spent, 0.0)
        return np.asarray(spent, dtype=np.float64)

    head, proj, ffn = (process(flops) for flops in need.flops)
    enter = carry(need.input_bytes) if need.mode != "code" else np.zeros((size, size))
    home = np.zeros(size) if need.answer_bytes is None else carry(need.answer_bytes)[:, scene.source]
    moves = (carry(moved) if moved else np.zeros((size, size)) for moved in need.moving_bytes)
    gather, onward = carry(need.head_bytes, late=False), carry(need.proj_bytes)
    return Times(head, proj, ffn, enter, gather, delay * (1 - np.eye(size)), onward, home, *moves)


def counts(layer: Ints, devices: int) -> Ints:
    """(N,) heads of a layer (heads + 2,) on each device."""
    return np.bincount(layer[:-2], minlength=devices)


def head_phase_s(spent: Times, heads: Ints, source: int, proj: int, summed: bool = False) -> float:
    """The first term of (6): the slowest device's input, heads one after the other, and transfers to `proj`."""
    used = heads > 0
    alone = spent.enter[source] + heads * spent.head
    wire = heads * spent.gather[:, proj] + spent.delay[:, proj]
    if summed:
        return float(alone[used].max() + wire[used].sum())
    return float((alone + wire)[used].max())


def latency_s(plan: Plan, spent: Times, source: int, summed: bool = False) -> float:
    """(6) of every layer, each starting where the FFN of the layer before is; then the answer's way home."""
    total, at = 0.0, source
    for layer in plan:
        proj, ffn = int(layer[-2]), int(layer[-1])
        total += head_phase_s(spent, counts(layer, len(spent.head)), at, proj, summed)
        total += float(spent.proj[proj] + spent.onward[proj, ffn] + spent.ffn[ffn])
        at = ffn
    return total + float(spent.home[at])


def migration_s(plan: Plan, before: Plan | None, spent: Times) -> float:
    """(7): the sum of (2) over all blocks that change their device; nothing before the first interval."""
    if before is None:
        return 0.0
    heads = spent.move_head[before[:, :-2], plan[:, :-2]].sum()
    return float(
        heads + spent.move_proj[before[:, -2], plan[:, -2]].sum() + spent.move_ffn[before[:, -1], plan[:, -1]].sum()
    )


def used_of(plan: Plan, each: tuple[float, float, float], devices: int) -> Floats:
    """(N,) what the blocks on each device need together: the left side of (1) for bytes, the load for FLOP."""
    head, proj, ffn = (
        np.bincount(part.ravel(), minlength=devices) for part in (plan[:, :-2], plan[:, -2], plan[:, -1])
    )
    return np.asarray(each[0] * head + each[1] * proj + each[2] * ffn, dtype=np.float64)
