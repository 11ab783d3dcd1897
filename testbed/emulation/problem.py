"""Plan -> the controller's decision problem. Pure."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from controller.model import Block, Host, Model, Problem, Sla, Stream
from controller.parts import HEADS
from nodes.costing.costs import costs
from nodes.costing.layercost import formula_costs
from nodes.costing.profile import profile, step_profile
from nodes.models.config import config_of
from nodes.permit import Zones
from nodes.slices import rows_bytes
from testbed.emulation.headblocks import by_heads
from testbed.emulation.sessions import Sessions, sessions_of
from testbed.plan import ModelPlan, Plan, StreamPlan


def problem_of(plan: Plan) -> Problem:
    return Problem(
        hosts=tuple(Host(h.name, h.zone, h.flops_per_s, h.memory_bytes, h.memory_bytes_per_s) for h in plan.hosts),
        models={
            model.name: _keeping(
                _model(model, _generated(plan, model.name)), model.family, sessions_of(plan, model.name)
            )
            for model in plan.models
        },
        streams=tuple(
            Stream(stream.name, stream.model, stream.phone, _period_us(stream, plan.duration_us))
            for stream in plan.streams
        ),
        sla=Sla(plan.sla.percentile, plan.sla.latency_us, plan.sla.window_us),
        zones={kind: frozenset(zones) for kind, zones in plan.zones.items()},  # type: ignore[misc]
        weights=plan.weights,
        seed=plan.seed,
    )


def _generated(plan: Plan, model: str) -> int:
    """The tokens of a session of a model; 0: requests give one answer."""
    return max((s.generate.tokens for s in plan.streams if s.model == model and s.generate), default=0)


def zones_over(plan: Plan) -> Callable[[int], Zones]:
    """The zones that hold at a time: what the experiment begins with, and its privacy events up to then."""
    held: list[Zones] = [{kind: frozenset(zones) for kind, zones in plan.zones.items()}]
    since = list[int]()
    for change in sorted((c for c in plan.changes if c.what == "privacy"), key=lambda c: c.t_us):
        since.append(change.t_us)
        held.append({**held[-1], change.target: frozenset(change.place.split(","))})
    return lambda t_us: held[bisect_right(since, t_us)]


def classes_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """By model, the privacy class of what enters each unit, and last of the answer."""
    profiles = {model.name: profile(model.family) for model in plan.models}
    return {name: (p.input_class, *(unit.output_class for unit in p.units)) for name, p in profiles.items()}


def _model(plan: ModelPlan, tokens: int) -> Model:
    """Of a generation, its mean round: one brings the input, the others a token each."""
    costs = profile(plan.family)
    units, reads = costs.units, [unit.work.read_bytes for unit in costs.units]
    if tokens > 1:
        length = config_of(plan.family).tokens + tokens // 2
        steps = step_profile(plan.family, length).units
        units = tuple(
            replace(
                unit,
                flops=(unit.flops + (tokens - 1) * step.flops) // tokens,
                output_bytes=(unit.output_bytes + (tokens - 1) * step.output_bytes) // tokens,
            )
            for unit, step in zip(units, steps, strict=True)
        )
        reads = [(all_ + (tokens - 1) * step.read_bytes) // tokens for all_, step in zip(reads, steps, strict=True)]
    blocks = tuple(
        Block(
            unit.name,
            unit.flops,
            unit.weight_bytes,
            unit.output_bytes,
            unit.working_bytes * plan.batch,
            unit.output_class,
            formula,
            read_bytes=read_bytes,
        )
        for unit, formula, read_bytes in zip(units, formula_costs(plan.family), reads, strict=True)
    )
    if plan.grain == "heads":
        blocks = by_heads(plan.family, blocks, max(1, tokens), plan.batch, plan.ffn_parts, plan.proj_rows)
    return Model(plan.name, blocks, costs.input_bytes, costs.input_class)


def _keeping(model: Model, family: str, sessions: Sessions) -> Model:
    """With the memory that sessions take: what they keep, and the input of a round of each, which may wait."""
    if not sessions.at_once:
        return model
    held, units, entering, blocks = costs(family), profile(family).units, model.input_bytes, []
    for i, block in enumerate(model.blocks):
        unit, kept = block.unit or i, 0
        if not block.part or block.part.startswith(HEADS):
            kept = rows_bytes(held[unit], 0, sessions.tokens, heads=1 if block.part else 0)
        working = block.working_bytes + sessions.at_once * entering
        blocks.append(replace(block, kept_bytes=sessions.at_once * kept, working_bytes=working))
        entering = units[unit].output_bytes
    return replace(model, blocks=tuple(blocks))


def _period_us(stream: StreamPlan, duration_us: int) -> int:
    """The mean time between two requests; of sessions each token is one."""
    rounds = stream.generate.tokens if stream.generate else 1
    return max(1, duration_us // max(1, len(stream.arrivals_us) * rounds))
