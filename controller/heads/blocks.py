"""A task as a list of blocks in model order, for the rules that place block after block."""

import numpy as np

from controller.heads.algorithm1 import Algorithm1, Blocks, Bounds, Devices
from controller.heads.costs import Each
from controller.heads.model import UNREACHABLE_S, Floats, Infeasible, Plan
from controller.heads.packing import pack
from controller.heads.task import Task

PAPER = Bounds()


def blocks_of(asked: Task) -> Blocks:
    """Every head, projection and FFN of every layer; the heads of a layer feed on the FFN before."""
    layers, heads = asked.model.layers, asked.model.heads
    if asked.model.columns:
        raise ValueError("the paper's rules place the FFN as one block")
    memory, flops = (_each(sizes, asked) for sizes in (asked.need.resident_bytes, asked.need.flops))
    sends = np.zeros((len(memory),) * 2)
    for layer in range(layers):
        first = layer * (heads + 2)
        last = first + heads
        sends[first:last, last] = asked.need.head_bytes
        sends[last, last + 1] = asked.need.proj_bytes
        if layer:
            sends[first - 1, first:last] = asked.need.input_bytes
    before = None if asked.before is None else asked.before.ravel()
    return Blocks(memory, flops, sends, np.ones((len(memory), asked.devices), dtype=bool), before)


def whole_layers(asked: Task) -> Blocks:
    """Each layer as one block."""
    layers = asked.model.layers
    memory, flops = (np.full(layers, each.layer(asked.model)) for each in (asked.need.resident_bytes, asked.need.flops))
    sends = np.diag(np.full(layers - 1, asked.need.input_bytes), k=1) if layers > 1 else np.zeros((1, 1))
    before = None if asked.before is None else asked.before[:, -1]
    return Blocks(memory, flops, sends, np.ones((layers, asked.devices), dtype=bool), before)


def devices_of(asked: Task) -> Devices:
    linked = asked.rate > 0
    slow = np.where(linked, 1.0 / np.where(linked, asked.rate, 1.0), UNREACHABLE_S)
    np.fill_diagonal(slow, 0.0)
    with np.errstate(divide="ignore"):
        speed = np.where(asked.spent.head < UNREACHABLE_S, asked.need.flops.head / asked.spent.head, 0.0)
    return Devices(asked.memory, asked.work, speed, slow)


def heads(asked: Task, bounds: Bounds = PAPER) -> Plan | Infeasible:
    """Algorithm 1 at head level, layers extended to many as the paper's remark has it."""
    found = Algorithm1(blocks_of(asked), devices_of(asked), bounds).assign()
    if isinstance(found, Infeasible):
        return Infeasible(found.reason, proven=isinstance(pack(asked), Infeasible))
    return found.reshape(asked.model.layers, -1)


def dynamic(asked: Task, bounds: Bounds = PAPER) -> Plan | Infeasible:
    """As Algorithm 1, "but treat each layer as one block"."""
    found = Algorithm1(whole_layers(asked), devices_of(asked), bounds).assign()
    if isinstance(found, Infeasible):
        return found
    return np.repeat(found[:, None], asked.model.blocks, axis=1)


def _each(sizes: Each, asked: Task) -> Floats:
    return np.tile(np.repeat(sizes[:3], (asked.model.heads, 1, 1)), asked.model.layers)
