"""The best single cut between the phone and one server: Neurosurgeon (ASPLOS 2017), latency mode.

Blocks before the cut stay on the phone, the rest runs on the server; both ends of the scan, all on the phone and all on
the server, are cuts too. The paper has one given server: here the scan is over every node, or over the option `server`
alone. It predicts with the present load and rate, as the paper does; waiting and delay, which it leaves out, count.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.model import Problem
from controller.policies.rival import Rival, Scene
from controller.policies.start import BadOption
from controller.table import Row


class Neurosurgeon(Rival):
    rule = "the best single cut"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        self._server = server_of(problem, options)

    def row(self, scene: Scene) -> Row | None:
        cost, blocks, phone = scene.cost, scene.blocks, scene.source
        worth = np.full((blocks + 1, len(cost.enter)), np.inf)  # (cut, server)
        worth[0] = cost.enter + cost.run[0, blocks] + cost.leave
        for cut in range(1, blocks):
            here = cost.enter[phone] + cost.run[0, cut, phone]
            worth[cut] = here + cost.hop[cut][phone] + cost.run[cut, blocks] + cost.leave
        if self._server is not None:
            worth[:, np.arange(len(cost.enter)) != self._server] = np.inf
        worth[blocks, phone] = cost.enter[phone] + cost.run[0, blocks, phone] + cost.leave[phone]
        cut, server = divmod(int(worth.argmin()), len(cost.enter))
        return (phone,) * cut + (server,) * (blocks - cut) if np.isfinite(worth[cut, server]) else None


def server_of(problem: Problem, options: Mapping[str, Any]) -> int | None:
    """The position of the node that the option `server` names, None when there is no such option."""
    name, names = options.get("server"), [host.name for host in problem.hosts]
    if name is not None and name not in names:
        raise BadOption(f"policy option server: no node {name!r}; there are {', '.join(names)}")
    return None if name is None else names.index(name)
