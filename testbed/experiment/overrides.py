"""The values of an experiment before they are checked, and where each came from: a line of the file or an option."""

from dataclasses import dataclass, field
from typing import Any

from testbed.experiment.errors import Fault
from testbed.experiment.reader import Where, resolve

MAX_PARTS = 16


def dotted(where: Where) -> str:
    """("events", 0, "at") -> "events[0].at"."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(slots=True)
class Source:
    path: str
    value: Any
    lines: dict[Where, int]
    options: dict[Where, str] = field(default_factory=dict)  # place -> "--set links.ue1.up.trace=..."
    faults: list[Fault] = field(default_factory=list)

    def option(self, where: Where) -> str | None:
        """The option that set this very value, if one did."""
        return self.options.get(where)

    def fault(self, where: Where, why: str) -> Fault:
        """Placed at the value itself, or at the nearest thing around it that was written."""
        for length in range(len(where), -1, -1):
            around = where[:length]
            if around in self.options:
                return Fault(self.options[around], 0, dotted(where), why)
            if around in self.lines:
                return Fault(self.path, self.lines[around], dotted(where), why)
        return Fault(self.path, 0, dotted(where), why)

    def blame(self, where: Where, why: str) -> None:
        self.faults.append(self.fault(where, why))

    def set_text(self, assignment: str) -> None:
        """Apply "path.to.key=value"; what is wrong with it becomes a fault that names the option."""
        option = f"--set {assignment}"
        path, equals, text = assignment.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts) or len(parts) > MAX_PARTS:
            self.faults.append(Fault(option, 0, "", "write it as path.to.key=value, such as duration=30s"))
            return
        try:
            value = _value(text.strip())
        except ValueError as fault:
            self.faults.append(Fault(option, 0, path, str(fault)))
            return
        self.set(parts, value, option)

    def set(self, parts: list[str], value: Any, option: str) -> None:
        """Mappings on the way are made when missing (the schema has the last word); lists must have the item."""
        where: list[str | int] = []
        holder = self.value
        for depth, part in enumerate(parts):
            last = depth + 1 == len(parts)
            key: str | int = part
            if isinstance(holder, list):
                if not (part.isdecimal() and part.isascii() and len(part) < 6 and int(part) < len(holder)):
                    self.faults.append(Fault(option, 0, dotted(tuple(where)), _no_item(part, len(holder))))
                    return
                key = int(part)
            elif not isinstance(holder, dict):
                why = f"is a single value; it has no '{part}' inside"
                self.faults.append(Fault(option, 0, dotted(tuple(where)), why))
                return
            where.append(key)
            if last:
                holder[key] = value
            elif isinstance(holder, dict) and holder.get(key) is None:
                holder[key] = {}
                self.options[tuple(where)] = option
            if not last:
                holder = holder[key]
        self._forget(tuple(where))
        self.options[tuple(where)] = option

    def _forget(self, where: Where) -> None:
        for place in [place for place in self.lines if place[: len(where)] == where]:
            del self.lines[place]


def _no_item(part: str, count: int) -> str:
    return f"there is no item '{part[:20]}'; the list has {count}, counted from 0"


def _value(text: str) -> Any:
    """A scalar, or a flat list of them such as [ue1, ue2]."""
    if text.startswith("[") and text.endswith("]"):
        inside = text[1:-1].strip()
        return [resolve(item.strip()) for item in inside.split(",")] if inside else []
    return resolve(text)
