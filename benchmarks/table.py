"""A table of what was measured here beside plain Mininet, and the same as JSON in benchmarks/results/."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    unit: str
    ours: float
    plain: float

    @property
    def ratio(self) -> float | None:
        """Of plain Mininet's to ours: how many times smaller ours is; None where ours is nothing."""
        return self.plain / self.ours if self.ours else None


def show(name: str, rows: Sequence[Row], measured: Mapping[str, Any]) -> None:
    """Print the table and save it with what it was computed from."""
    table = Table("what", "unit", "ours", "plain Mininet", "ratio", title=name, width=WIDTH)
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        table.add_row(row.what, row.unit, f"{row.ours:.4g}", f"{row.plain:.4g}", ratio)
    Console(width=WIDTH).print(table)
    RESULTS.mkdir(exist_ok=True)
    saved = [dataclasses.asdict(row) | {"ratio": row.ratio} for row in rows]
    path = RESULTS / f"{name.replace(' ', '-')}.json"
    path.write_text(json.dumps({"rows": saved, "measured": measured}, indent=1))
