"""What a way carries, seen from the acks of what was sent over it. Pure: time is an argument.

Rule: the bytes of the last few tensors over the time that the way was busy with them: from the sending of each, or
the ack before it when that came later, to its own ack. A lone tensor's time holds its round trip too, so that the
figure is never more than the way carries.
"""

from collections import deque

KEPT = 8
JUDGED_BYTES = 16 << 10  # less says nothing of a rate


class Goodput:
    def __init__(self) -> None:
        self._acked_us = -(2**62)
        self._seen: deque[tuple[int, int]] = deque(maxlen=KEPT)  # bytes, microseconds

    @property
    def rate_bps(self) -> int:
        """0: not known."""
        busy_us = sum(took_us for _, took_us in self._seen)
        return sum(size_bytes for size_bytes, _ in self._seen) * 8_000_000 // max(1, busy_us)

    def acked(self, size_bytes: int, sent_us: int, now_us: int) -> None:
        before_us = (
            self._acked_us if self._acked_us <= now_us else sent_us
        )  # the clock goes back once, when time begins
        took_us = now_us - max(sent_us, before_us)
        self._acked_us = now_us
        if size_bytes >= JUDGED_BYTES:
            self._seen.append((size_bytes, max(1, took_us)))

    def broken(self) -> None:
        """What was known is gone: the next stream may take another way."""
        self._seen.clear()
