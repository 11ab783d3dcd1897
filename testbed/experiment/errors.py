"""What is wrong with an experiment: file, line, field, and what would be right."""

from dataclasses import dataclass

SHOWN = 50  # faults printed; the rest is counted


@dataclass(frozen=True, slots=True)
class Fault:
    """`line` is 0 when the whole file is meant, or an option of the command line (then `path` is the option)."""

    path: str
    line: int
    field: str
    why: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        parts = [place, self.field[:120], self.why] if self.field else [place, self.why]
        return "".join(c if c.isprintable() else "?" for c in ": ".join(parts))  # no escapes reach a terminal


class ExperimentError(Exception):
    """The experiment cannot be run: one or several faults, all that were found, in the order of their lines."""

    def __init__(self, path: str, line: int, field: str, why: str, others: tuple[Fault, ...] = ()) -> None:
        self.faults = (Fault(path, line, field, why), *others)
        more = len(self.faults) - SHOWN
        lines = [str(fault) for fault in self.faults[:SHOWN]] + ([f"... and {more} more"] if more > 0 else [])
        super().__init__("\n".join(lines))
        self.path, self.line, self.field, self.why = path, line, field, why

    @classmethod
    def of(cls, faults: list[Fault]) -> "ExperimentError":
        first, *others = faults
        return cls(first.path, first.line, first.field, first.why, tuple(others))
