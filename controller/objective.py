"""What a placement is judged by beside its latency, all in microseconds of latency that it is worth. Pure.

The weighted objective of joint placement (arXiv 2512.01039, in words): latency, utilisation, privacy risk, the cost of
changing. Its symbols are not in the text; here
  utilisation  `utilisation_us` for the sum of the squared utilisations of the nodes, so that even loads are cheapest
  privacy      `privacy_us` times the risk (raw 1, feature 1/2, public 0) of each hop into a zone not the phone's
  changing     `reconfigure_us` for each block that is not where it is now
and as limits: no node is utilised more than `max_utilisation`, no path more than `max_link_share`, by what we place.
All are off by default, then the objective is the weighted sum of latencies.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

from controller.cost import NOBODY, Forecast, Load
from controller.table import REMEMBERED, Row, Rows, Table

SLIGHT = 1e-9  # of utilisation: so little over a limit is not over


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

    @property
    def asked(self) -> dict[str, float]:
        """What is not as by default, by name."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def beside_us(
        self, table: Table, forecast: Forecast, rows: Rows, current: Rows, under: Load | None = None
    ) -> dict[str, float]:
        """What `rows` add to the objective beside latency, by name; `under`: the load of those that stay."""
        found, there = dict[str, float](), (under or Load()).nodes
        if self.utilisation_us:
            load = forecast.load(rows, {}).nodes
            squares = [rho * (rho + 2 * there.get(n, NOBODY)[0]) for n, (rho, _, _) in load.items()]
            found["utilisation"] = self.utilisation_us * sum(squares)
        if self.privacy_us:
            found["privacy"] = self.privacy_us * sum(table.risk(stream, row) for stream, row in rows.items())
        if self.reconfigure_us:
            found["changing"] = self.reconfigure_us * changed(rows, current)
        return found

    def kept(self, forecast: Forecast, rows: Rows, under: Load | None = None) -> bool:
        """Whether the limits hold where `rows` are, beside the load of those that stay."""
        stay, load = under or Load(), forecast.load(rows, {})
        nodes = max((rho + stay.nodes.get(n, NOBODY)[0] for n, (rho, _, _) in load.nodes.items()), default=0.0)
        paths = max((rho + stay.paths.get(way, NOBODY)[0] for way, (rho, _, _) in load.paths.items()), default=0.0)
        return nodes <= self.max_utilisation + SLIGHT and paths <= self.max_link_share + SLIGHT

    def broken_by(self, forecast: Forecast, rows: Rows) -> set[str]:
        """The streams that use what is over its limit."""
        load = forecast.load(rows, {})
        nodes = {n for n, parts in load.nodes.items() if parts[0] > self.max_utilisation + SLIGHT}
        paths = {path for path, parts in load.paths.items() if parts[0] > self.max_link_share + SLIGHT}
        uses = {stream: forecast.use(stream, row) for stream, row in rows.items()}
        return {
            s for s, use in uses.items() if nodes & {n for n, *_ in use.nodes} or paths & {p for p, *_ in use.paths}
        }


PLAIN = Objective()


def changed(rows: Rows, current: Rows) -> int:
    """How many blocks are not where they are in `current`; a stream that is new there changes nothing."""
    return sum(_unlike(current.get(stream, row), row) for stream, row in rows.items())


@lru_cache(REMEMBERED)
def _unlike(a: Row, b: Row) -> int:
    return sum(one != other for one, other in zip(a, b, strict=True))
