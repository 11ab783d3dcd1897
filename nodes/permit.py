"""What a node may hold: data of a privacy class enters only the zones that are named for it. Pure.

The controller plans by the same rule; a node checks it again, so that no mistake and no stranger's policy gets past it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Zones = Mapping[str, frozenset[str]]  # by class; a class that is absent may go anywhere


def anything(_now_us: int) -> Zones:
    return {}


@dataclass(frozen=True, slots=True)
class Permit:
    """`classes`: by model, the class of what enters each block, and last of the answer; `zones` of a time: by class."""

    zone: str = ""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    zones: Callable[[int], Zones] = anything

    def objection(self, model: str, first: int, last: int, now_us: int) -> str:
        """Why the blocks first..last-1 may not be here; empty when they may. What they take and give is here, too."""
        zones = self.zones(now_us)
        for kind in dict.fromkeys(self.classes.get(model, ())[first : last + 1]):
            if kind in zones and self.zone not in zones[kind]:
                where = ", ".join(sorted(zones[kind])) or "nowhere"
                return f"{kind} data of {model}[{first}:{last}] may not enter zone {self.zone}, only {where}"
        return ""
