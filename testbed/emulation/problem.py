"""Plan -> the controller's decision problem. Pure."""

from controller.model import Block, Host, Model, Problem, Sla, Stream
from nodes.profile import profile
from testbed.plan import ModelPlan, Plan, StreamPlan


def problem_of(plan: Plan) -> Problem:
    return Problem(
        hosts=tuple(Host(h.name, h.zone, h.flops_per_s, h.memory_bytes) for h in plan.hosts),
        models={model.name: _model(model) for model in plan.models},
        streams=tuple(
            Stream(stream.name, stream.model, stream.phone, _period_us(stream, plan.duration_us))
            for stream in plan.streams
        ),
        sla=Sla(plan.sla.percentile, plan.sla.latency_us, plan.sla.window_us),
        zones={kind: frozenset(zones) for kind, zones in plan.zones.items()},  # type: ignore[misc]
        weights=plan.weights,
        seed=plan.seed,
    )


def _model(plan: ModelPlan) -> Model:
    costs = profile(plan.family)
    blocks = tuple(
        Block(unit.name, unit.flops, unit.weight_bytes, unit.output_bytes, unit.working_bytes, unit.output_class)
        for unit in costs.units
    )
    return Model(plan.name, blocks, costs.input_bytes, costs.input_class)


def _period_us(stream: StreamPlan, duration_us: int) -> int:
    """The mean time between two requests."""
    return duration_us // max(1, len(stream.arrivals_us))
