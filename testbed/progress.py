"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere. Never on standard output.

with shown(to=sys.stderr) as progress:
    progress.phase("boot")
    progress.live(Live(...))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live as Screen

LINE_EVERY_US = 10_000_000  # of the experiment's time, between two plain lines


@dataclass(frozen=True, slots=True)
class Live:
    """A run, now. `run` is its part's name when several go on side by side."""

    phase: str
    virtual_us: int
    total_us: int
    sent: int
    ok: int
    p95_us: int | None
    placement: str
    last_event: str
    run: str = ""


class Watcher(Protocol):
    def phase(self, text: str) -> None:
        """What begins now."""

    def live(self, live: Live) -> None:
        """Said as often as one likes; what is shown is the last."""


class Progress(Watcher, Protocol):
    def note(self, text: str) -> None:
        """What is right but worth knowing, before anything starts."""

    def part(self, name: str) -> "Progress":
        """The progress of one of several runs, which may say so from a thread of its own."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of several runs that are shown together."""

    whole: "Progress"
    name: str

    def note(self, text: str) -> None:
        self.whole.note(f"{self.name}: {text}")

    def phase(self, text: str) -> None:
        self.whole.phase(f"{self.name}: {text}")

    def live(self, live: Live) -> None:
        self.whole.live(replace(live, run=self.name))

    def part(self, name: str) -> "Part":
        return Part(self.whole, f"{self.name} {name}")


class Unwatched:
    """Progress that nobody looks at."""

    def note(self, text: str) -> None: ...

    def phase(self, text: str) -> None: ...

    def live(self, live: Live) -> None: ...

    def part(self, _name: str) -> "Unwatched":
        return self


@dataclass(slots=True)
class Lines:
    """A line for each phase, each event and every ten seconds of the experiment."""

    say: Callable[[str], None]
    _phase: str = ""
    _said: dict[str, tuple[int, str]] = field(default_factory=dict)  # run -> time and event of its last line

    def note(self, text: str) -> None:
        self.say(f"note: {text}")

    def phase(self, text: str) -> None:
        if text != self._phase:
            self._phase = text
            self.say(text)

    def live(self, live: Live) -> None:
        said_us, event = self._said.get(live.run, (-LINE_EVERY_US, ""))
        if live.virtual_us >= said_us + LINE_EVERY_US or live.last_event != event:
            self._said[live.run] = (live.virtual_us, live.last_event)
            self.say(line(live))

    def part(self, name: str) -> Part:
        return Part(self, name)


def line(live: Live) -> str:
    """One run in one line of text."""
    name = f"{live.run}: " if live.run else ""
    parts = [
        f"{name}{live.phase} {live.virtual_us / 1e6:.0f}/{live.total_us / 1e6:.0f} s",
        f"{live.ok}/{live.sent} answered",
        f"p95 {milliseconds(live.p95_us)}",
        live.placement,
        live.last_event,
    ]
    return " · ".join(part for part in parts if part)


def milliseconds(value_us: int | None) -> str:
    return "-" if value_us is None else f"{value_us / 1000:.0f} ms"


@dataclass(slots=True)
class Panel:
    """A block of lines that is drawn anew in place: one row a run."""

    screen: "Screen"
    _phase: str = ""
    _runs: dict[str, Live] = field(default_factory=dict)

    def note(self, text: str) -> None:
        self.screen.console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)

    def phase(self, text: str) -> None:
        self._phase = text
        self.screen.update(self._drawn())

    def live(self, live: Live) -> None:
        self._runs[live.run] = live
        self.screen.update(self._drawn())

    def part(self, name: str) -> Part:
        return Part(self, name)

    def _drawn(self) -> "RenderableType":
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        return Group(Spinner("dots", Text(self._phase)), *(_row(live) for live in self._runs.values()))


def _row(live: Live) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2))
    head = f"{live.run or live.phase} {live.virtual_us / 1e6:.0f}/{live.total_us / 1e6:.0f} s"
    figures = f"{live.ok}/{live.sent} answered, p95 {milliseconds(live.p95_us)}"
    row.add_row(Text(head, "bold"), ProgressBar(max(live.total_us, 1), live.virtual_us, width=30), Text(figures))
    rest = (Text(f"  {text}", "dim") for text in (live.placement, live.last_event) if text)
    return Group(row, *rest)


@contextmanager
def shown(to: TextIO) -> Iterator[Progress]:
    """A panel when `to` is a terminal, else lines."""
    from rich.console import Console
    from rich.live import Live as Screen

    console = Console(file=to)
    if not console.is_terminal:
        yield Lines(lambda text: print(text, file=to, flush=True))
        return
    with Screen(console=console, refresh_per_second=8, transient=True) as screen:
        yield Panel(screen)
