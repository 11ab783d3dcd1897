"""What a proof minimises: latencies by weight, what those that stay wait longer, and what counts beside. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.cost import Forecast, Load
from controller.objective import PLAIN, Objective
from controller.table import Rows, Table


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """The objective, and from where blocks change. Proofs do not know what utilisation costs."""

    objective: Objective = PLAIN
    current: Rows = field(default_factory=dict)

    def scaled(self, by: float) -> "Sought":
        """In microseconds that are `by` times as many of the old ones."""
        one = self.objective
        priced = replace(one, privacy_us=one.privacy_us / by, reconfigure_us=one.reconfigure_us / by)
        return replace(self, objective=priced)

    def total_us(self, table: Table, forecast: Forecast, rows: Rows, weights: Mapping[str, float], stay: Load) -> float:
        """Of some streams, what those that stay wait longer counted; endless over a limit."""
        if self.objective.limited and not self.objective.kept(forecast, rows, stay):
            return float("inf")
        total = forecast.total_us(rows, weights, stay)
        return total + sum(self.objective.beside_us(table, forecast, rows, self.current, stay).values())


PLAINLY = Sought()
