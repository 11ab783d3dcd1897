"""One stream to an edge that sends on it."""

from collections.abc import Iterator
from typing import Protocol

from nodes.wire.codec import Key


class Line(Protocol):
    """What a stream is to whoever sends on it."""

    def send(self, frame: bytes) -> object:
        """One at a time. Never blocks."""
        ...


class Sending:
    """What one stream is given to send, by one thread at a time: `busy` is the right to, and goes with the frame.

    `resting`: nobody waits for the events, and who sends collects them. `expected`: answers that were offered it.
    """

    __slots__ = (
        "acks",
        "asked_us",
        "asking",
        "busy",
        "due",
        "expected",
        "frames",
        "line",
        "offered",
        "over",
        "resting",
        "unasked",
    )

    def __init__(self, line: Line, *, busy: bool) -> None:
        self.line = line
        self.busy = busy
        self.resting = False
        self.offered = False
        self.expected = 0
        self.over = False
        self.frames: Iterator[bytes] = iter(())  # of what was taken last
        self.due: list[Key] = []  # acks for what came on it
        self.acks = 0  # that came
        self.asked_us = -(2**62)
        self.unasked = False  # something on its way has not asked for its ack, and an alarm is set
        self.asking = False
