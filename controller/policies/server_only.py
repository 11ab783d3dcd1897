"""Everything on one server: full offloading, to the server that is best for the stream now, or to the option `server`.

A server is a node that is no stream's phone.
"""

from collections.abc import Mapping
from typing import Any

from controller.model import Problem
from controller.policies.neurosurgeon import server_of
from controller.policies.rival import Rival, Scene
from controller.table import Row


class ServerOnly(Rival):
    rule = "all on one server"

    def __init__(self, problem: Problem, options: Mapping[str, Any]) -> None:
        super().__init__(problem, options)
        server, phones = server_of(problem, options), {stream.source for stream in problem.streams}
        servers = [n for n, host in enumerate(problem.hosts) if host.name not in phones]
        self._servers = servers if server is None else [server]

    def row(self, scene: Scene) -> Row | None:
        rows = [(n,) * scene.blocks for n in self._servers]
        worth, row = min(((scene.worth_us(row), row) for row in rows), default=(float("inf"), ()))
        return row if worth < float("inf") else None
