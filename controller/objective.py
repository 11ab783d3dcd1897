"""What a placement is judged by beside its latency, all in microseconds of latency that it is worth. Pure.

The weighted objective of joint placement (arXiv 2512.01039, in words): latency, utilisation, privacy risk, the cost of
changing. Its symbols are not in the text; here
  utilisation  `utilisation_us` for the sum of the squared utilisations of the nodes, so that even loads are cheapest
  privacy      `privacy_us` times the risk (raw 1, feature 1/2, public 0) of each hop into a zone not the phone's
  changing     `reconfigure_us` for each block that is not where it is now
and as limits: no node is utilised more than `max_utilisation`, no path more than `max_link_share`, by what we place.
All are off by default, then the objective is the weighted sum of latencies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.cost import Forecast, Load
from controller.table import Rows, Table, runs


@dataclass(frozen=True, slots=True)
class Objective:
    utilisation_us: float = 0.0
    privacy_us: float = 0.0
    reconfigure_us: float = 0.0
    max_utilisation: float = float("inf")
    max_link_share: float = float("inf")

    @property
    def latency_alone(self) -> bool:
        return not (self.utilisation_us or self.privacy_us or self.reconfigure_us)

    @property
    def limited(self) -> bool:
        return min(self.max_utilisation, self.max_link_share) < float("inf")

    def total_us(
        self, table: Table, forecast: Forecast, rows: Rows, weights: Mapping[str, float], current: Rows
    ) -> float:
        total = forecast.total_us(rows, weights)
        if self.latency_alone:
            return total
        if self.utilisation_us:
            load = forecast.load(rows, {})
            total += self.utilisation_us * sum(rho * rho for rho, _, _ in load.nodes.values())
        for stream, row in rows.items():
            if self.privacy_us:
                total += self.privacy_us * risk_of(table, stream, row)
            before = current.get(stream, row)
            total += self.reconfigure_us * sum(a != b for a, b in zip(before, row, strict=True))
        return total

    def kept(self, load: Load) -> bool:
        """Whether the limits hold for what is placed. A rounding error over is not over."""
        nodes = max((rho for rho, _, _ in load.nodes.values()), default=0.0)
        paths = max((rho for rho, _, _ in load.paths.values()), default=0.0)
        return nodes <= self.max_utilisation + 1e-9 and paths <= self.max_link_share + 1e-9

    def broken_by(self, forecast: Forecast, rows: Rows) -> set[str]:
        """The streams that use what is over its limit."""
        load = forecast.load(rows, {})
        nodes = {n for n, parts in load.nodes.items() if parts[0] > self.max_utilisation + 1e-9}
        paths = {path for path, parts in load.paths.items() if parts[0] > self.max_link_share + 1e-9}
        uses = {stream: forecast.use(stream, row) for stream, row in rows.items()}
        return {
            s for s, use in uses.items() if nodes & {n for n, *_ in use.nodes} or paths & {p for p, *_ in use.paths}
        }


def risk_of(table: Table, stream: str, row: tuple[int, ...]) -> float:
    """The summed risk of the hops into foreign zones; the answer goes home, which is none."""
    hosts, chain, source = table.problem.hosts, table.chain(stream), table.source(stream)
    cuts = [0, *(first for first, _, _ in runs(row)[1:])]
    entered = [n for _, _, n in runs(row)]
    before = [source, *entered[:-1]]
    return sum(
        float(chain.risk[cut])
        for cut, a, b in zip(cuts, before, entered, strict=True)
        if a != b and hosts[b].zone != hosts[source].zone
    )
