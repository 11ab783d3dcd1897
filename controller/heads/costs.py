"""What blocks need and what a placement costs, in two modes that must never be mixed in one figure.

`paper`     Table I and equations (1)-(7) of arXiv 2505.02533 as written. Each token is computed from all L = L0 +
            lambda tau tokens again although a K/V cache is charged; the cache row is D wide for every head; the
            memory of projection and FFN is their activations; links have no delay.
`physical`  cached decode of one token: 3 D d + 2 L d a head; K and V of d numbers for each token; weights; the delay
            of the links; the answer's way home. Weights are on all devices already, or move too (`weights_move`).
`code`      what the authors' public code computes instead, to reproduce its figures: FFN of 0.8 L D^2, no input, the
            transfers of all devices to the projection summed. Units of its links are the caller's.
In all: blocks that share a device run one after the other, and so do transfers that share a link.

A FFN in F blocks of columns (in no table of the paper) follows from the same rows: each block 1/F of its bytes and
FLOP; what the projection sends to a FFN goes to every device with columns, and each of them sends as much back, its
sum of all columns there. On one device it is the FFN of one block, and nothing goes back.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from controller.heads.model import UNREACHABLE_S, Floats, HeadModel, Ints, Plan, Scene

Mode = Literal["paper", "physical", "code"]


class Each(NamedTuple):
    """Of each block of a layer."""

    head: float
    proj: float
    end: float  # the whole FFN; 0 where it is in columns
    column: float = 0.0

    def layer(self, model: HeadModel) -> float:
        return model.heads * self.head + model.columns * self.column + self.proj + self.end


@dataclass(frozen=True, slots=True)
class Demand:
    """Table I: what each block needs in one interval."""

    mode: Mode
    flops: Each  # b_i
    resident_bytes: Each  # m_i
    moving_bytes: Each  # m_i(tau - 1), what a migration carries
    input_bytes: float  # to each device that holds heads of the layer
    head_bytes: float  # out_head, head -> proj
    proj_bytes: float  # out_proj, proj -> ffn, and of columns -> end
    answer_bytes: float | None  # last ffn -> source; None: not counted
    summed: bool = False  # the transfers of different devices to proj one after the other


def demand(model: HeadModel, mode: Mode, token: int, interval_tokens: int = 1, weights_move: bool = True) -> Demand:
    """The needs in the interval before which `token` = lambda * tau tokens were generated; lambda = interval_tokens."""
    before = max(0, token - interval_tokens)
    sizes = _physical_bytes if mode == "physical" else _paper_bytes
    now, then = (_in_columns(sizes(model, at), model) for at in (token, before))
    if mode == "physical":
        moving = then if weights_move else Each(_physical_cache(model, before), 0.0, 0.0)
        wide, one = float(model.width * model.number_bytes), float(model.head_width * model.number_bytes)
        return Demand(mode, _in_columns(_physical_flops(model, token), model), now, moving, wide, one, wide, 4.0)
    length, b = model.prompt_tokens + token, model.number_bytes
    wide, one = float(length * model.width * b), float(length * model.head_width * b)
    flops = _in_columns(_paper_flops(model, token, 0.8 if mode == "code" else model.ffn_factor), model)
    if mode == "code":
        return Demand(mode, flops, now, then, 0.0, one, wide, None, summed=True)
    return Demand(mode, flops, now, then, wide, one, wide, None)


def _in_columns(row: tuple[float, float, float], model: HeadModel) -> Each:
    """A head, the projection, the FFN -> the blocks."""
    head, proj, ffn = row
    return Each(head, proj, 0.0, ffn / model.columns) if model.columns else Each(head, proj, ffn)


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
    ffn: Floats  # (N,) (5) of what is at the end
    column: Floats  # (N,) (5) of one block of columns
    enter: Floats  # (N, N) [from, to] D_in, the input of a layer
    gather: Floats  # (N, N) [head's, proj's] (3) of one head, without the delay
    delay: Floats  # (N, N)
    onward: Floats  # (N, N) [proj's, ffn's] (4), and back
    home: Floats  # (N,) [last end's] the answer's way
    move_head: Floats  # (N, N) (2)
    move_proj: Floats  # (N, N) (2)
    move_ffn: Floats  # (N, N) (2) of what is at the end
    move_column: Floats  # (N, N) (2)
    columns: int = 0  # blocks of columns in a layer


def times(scene: Scene, need: Demand, columns: int = 0) -> Times:
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

    head, proj, ffn, column = (process(flops) if flops else np.zeros(size) for flops in need.flops)
    enter = carry(need.input_bytes) if need.mode != "code" else np.zeros((size, size))
    home = np.zeros(size) if need.answer_bytes is None else carry(need.answer_bytes)[:, scene.source]
    move_head, move_proj, move_ffn, move_column = (
        carry(moved) if moved else np.zeros((size, size)) for moved in need.moving_bytes
    )
    return Times(
        head=head,
        proj=proj,
        ffn=ffn,
        column=column,
        enter=enter,
        gather=carry(need.head_bytes, late=False),
        delay=delay * (1 - np.eye(size)),
        onward=carry(need.proj_bytes),
        home=home,
        move_head=move_head,
        move_proj=move_proj,
        move_ffn=move_ffn,
        move_column=move_column,
        columns=columns,
    )


def counts(blocks: Ints, devices: int) -> Ints:
    """(..., N) how many of the blocks (..., B) are on each device."""
    if blocks.ndim == 1:
        return np.bincount(blocks, minlength=devices)
    rows = blocks.reshape(math.prod(blocks.shape[:-1]), blocks.shape[-1])
    at = rows + devices * np.arange(len(rows))[:, None]
    found = np.bincount(at.ravel(), minlength=devices * len(rows))
    return np.asarray(found.reshape(*blocks.shape[:-1], devices), dtype=np.intp)


def head_phase_s(spent: Times, heads: Ints, source: int | Ints, proj: int | Ints, summed: bool = False) -> Floats:
    """(...) the first term of (6): the slowest device's input, heads one after the other, transfers to `proj` (...)."""
    used = heads > 0
    alone = spent.enter[source] + heads * spent.head
    wire = heads * spent.gather.T[proj] + spent.delay.T[proj]
    if summed:
        return np.asarray(np.where(used, alone, 0.0).max(axis=-1) + np.where(used, wire, 0.0).sum(axis=-1))
    return np.asarray(np.where(used, alone + wire, 0.0).max(axis=-1))


def ffn_phase_s(spent: Times, columns: Ints, proj: int | Ints, end: int | Ints) -> Floats:
    """(...) from the projection to the layer's end; `columns` (..., N) of the blocks, none where the FFN is whole.

    Unreachable where a layer cannot end: columns on one device end there, on several at the projection.
    """
    if not spent.columns:
        return np.asarray(spent.onward[proj, end] + spent.ffn[end])
    ends = spent.onward[proj] + columns * spent.column + spent.onward.T[end]
    phase = np.where(columns > 0, ends, 0.0).max(axis=-1)
    whole = columns.max(axis=-1) == spent.columns
    right = np.where(whole, columns.argmax(axis=-1) == end, np.equal(proj, end))
    return np.asarray(np.where(right, phase, UNREACHABLE_S))


def latencies_s(plans: Ints, spent: Times, source: int, summed: bool = False) -> Floats:
    """(M,) (6) of plans (M, layers, blocks), each layer starting where the one before ends; then the way home."""
    heads, devices = plans.shape[-1] - 2 - spent.columns, len(spent.head)
    proj, end = plans[..., -2], plans[..., -1]
    start = np.concatenate((np.full((len(plans), 1), source), end[:, :-1]), axis=1)
    phases = head_phase_s(spent, counts(plans[..., :heads], devices), start, proj, summed) + spent.proj[proj]
    phases += ffn_phase_s(spent, counts(plans[..., heads:-2], devices), proj, end)
    return np.asarray(phases.sum(axis=1) + spent.home[end[:, -1]])


def latency_s(plan: Plan, spent: Times, source: int, summed: bool = False) -> float:
    """The same of one plan."""
    return float(latencies_s(plan[None], spent, source, summed)[0])


def migrations_s(plans: Ints, before: Plan | None, spent: Times) -> Floats:
    """(M,) (7): the sum of (2) over all blocks that change their device; nothing before the first interval."""
    if before is None:
        return np.zeros(len(plans))
    heads = plans.shape[-1] - 2 - spent.columns
    moved = spent.move_head[before[:, :heads], plans[..., :heads]].sum(axis=(1, 2))
    moved += spent.move_column[before[:, heads:-2], plans[..., heads:-2]].sum(axis=(1, 2))
    moved += spent.move_proj[before[:, -2], plans[..., -2]].sum(axis=1)
    return np.asarray(moved + spent.move_ffn[before[:, -1], plans[..., -1]].sum(axis=1))


def migration_s(plan: Plan, before: Plan | None, spent: Times) -> float:
    return float(migrations_s(plan[None], before, spent)[0])


def used_of(plans: Ints, each: Each, devices: int, columns: int = 0) -> Floats:
    """(..., N) what the blocks of (..., layers, blocks) need: the left side of (1) for bytes, load for FLOP."""
    heads = plans.shape[-1] - 2 - columns
    parts = (plans[..., :heads], plans[..., -2:-1], plans[..., -1:], plans[..., heads:-2])
    held = [size * counts(part, devices).sum(axis=-2) for size, part in zip(each, parts, strict=True) if size]
    return np.asarray(sum(held, np.zeros((*plans.shape[:-2], devices))), dtype=np.float64)
