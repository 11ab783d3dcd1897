"""Random problems with privacy rules, and what a policy's answers break of them: by name, not by the shared arrays."""

import dataclasses

from controller import instances
from controller.instances import NOTHING
from controller.plugins import find

POLICIES = (
    *("static", "joint", "greedy", "round_robin", "dynamic", "edgeshard", "neurosurgeon", "random", "exact"),
    *("device_only", "server_only"),
)


def problem(seed):
    """Always with a rule."""
    made = instances.problem(seed)
    return dataclasses.replace(made, zones=made.zones or {"raw": frozenset({"home", "site"})})


def broken(made, nodes):
    """(stream, block, node) of each block that data may not be at: what enters it and what it gives count."""
    zone = {host.name: host.zone for host in made.hosts}
    kinds = [made.models["m"].input_class, *(block.output_class for block in made.models["m"].blocks)]
    return [
        (stream, block, node)
        for stream, row in nodes.items()
        for block, node in enumerate(row)
        if any(zone[node] not in made.zones.get(kind, {zone[node]}) for kind in kinds[block : block + 2])
    ]


def answers(name, seed, periods=2):
    """(problem, what was placed) at the start and at each move of some periods, in the last with stricter zones."""
    made = problem(seed)
    policy, current = find(name)(made, {"cooldown_s": 0}), NOTHING
    decision = policy.start(instances.scene(made, seed))
    if decision.action == "INFEASIBLE":
        return
    current = decision.placement
    yield made, current.nodes
    strict = dataclasses.replace(made, zones={**made.zones, "feature": frozenset({"home", "site"})})
    for period, (snapshot, triggers) in enumerate(instances.steps(made, seed, periods), 1):
        if period == periods and hasattr(policy, "rezone"):
            made = strict
            policy.rezone(made)
        decision = policy.decide(snapshot, current, triggers)
        if decision.action in ("REMAP", "RESPLIT"):
            nodes, current = current.nodes, decision.placement
            # what cannot go anywhere stays and is not served: the coordinator's business
            yield made, {s: row for s, row in current.nodes.items() if row != nodes[s]}
