"""The way to one peer: what waits, what is on its way, what was acked, and the stream that it goes over.

Who sends puts the first frame on the stream himself; the frames behind it follow as there is room, by the edge's own
thread, which opens the stream and reads its events. Nothing is handed from thread to thread on a small tensor's way.

An ack costs as much as a small tensor. So of small ones that come close behind each other only one in `ASK_EVERY_US`
asks for its ack, and the acks of those before it come along; when no other follows, the edge asks at the end of that
time. Until then the edge's thread rests, since it would be woken only to hear that a frame has left: who sends the next
one sees that himself. What rests is woken when an ack was asked for, when a frame has not left at once, and at the end.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

import grpc

from nodes.clock import Alarm, Clock, Timer
from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.call import SENT, Call, Ended
from nodes.wire.codec import FrameError, Tensor
from nodes.wire.goodput import JUDGED_BYTES, Goodput
from nodes.wire.tls import Identity, told
from nodes.wire.transport import ACK, ASK, DELIVER, Busy, Key, key_of, open_channel

BACKOFF_US = (100_000, 200_000, 400_000, 800_000, 1_600_000, 2_000_000)
EDGE_MAX_BYTES = 64 << 20
ASK_EVERY_US = 10_000
HASTE_US = 1_000_000  # what has to be acked so soon asks for it


class Parcel:
    """One tensor (or error) on its way over an edge."""

    __slots__ = ("acks_before", "alarm", "deadline_us", "header", "key", "live", "size_bytes", "taken_us", "tensor")

    def __init__(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        self.header = header
        self.key = key_of(header)
        self.tensor = tensor
        self.deadline_us = deadline_us
        self.size_bytes = header.ByteSize() + (0 if tensor is None else tensor.size_bytes)
        self.live = True
        self.alarm: Alarm | None = None
        self.acks_before = 0
        self.taken_us = 0


class Sending:
    """What one stream is given to send, by one thread at a time: `busy` is the right to, and goes with the frame.

    `resting`: nobody waits for the stream's events, and who sends collects them.
    """

    __slots__ = ("busy", "call", "frames", "resting")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.busy = True
        self.resting = False
        self.frames: Iterator[bytes] = iter(())  # of the parcel that was taken last


class Edge:
    """An ordered queue and the thread that keeps its stream open.

    `lost(header, why)` is called for every tensor that was not acked, from any thread. With an identity: encrypted.
    """

    def __init__(
        self,
        address: str,
        clock: Clock,
        timer: Timer,
        lost: Callable[[Header, str], None],
        *,
        identity: Identity | None = None,
        limit_bytes: int = EDGE_MAX_BYTES,
    ) -> None:
        self.address = address
        self._identity = identity
        self._limit_bytes = limit_bytes
        self._held_bytes = 0  # waiting or not acked
        self._goodput = Goodput()
        self._clock = clock
        self._timer = timer
        self._lost = lost
        self._lock = threading.RLock()
        # more than one, so that an ack wakes nobody who waits for work
        self._work, self._ends, self._events = (threading.Condition(self._lock) for _ in range(3))
        self._waiting: deque[Parcel] = deque()
        self._unacked: dict[Key, Parcel] = {}
        self._acks = 0
        self._failures = 0  # in a row
        self._sending: Sending | None = None
        self._asked_us = -(2**62)
        self._unasked = False  # something on its way has not asked for its ack, and an alarm is set
        self._asking = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"edge {address}", daemon=True)
        self._thread.start()

    def send(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        """Returns at once; the edge owns both arguments from here on.

        Raises `Busy`; an idle edge takes any size, and every edge an error: it is small, and the phone waits for it.
        """
        parcel = Parcel(header, tensor, deadline_us)
        with self._lock:
            if tensor and self._held_bytes and self._held_bytes + parcel.size_bytes > self._limit_bytes:
                raise Busy(f"{self.address}: {self._held_bytes} bytes are on their way, at most {self._limit_bytes}")
            self._held_bytes += parcel.size_bytes
            self._waiting.append(parcel)
            parcel.alarm = self._timer.at(deadline_us, lambda: self._expire(parcel))
            sending = self._sending
            if sending is None:
                self._work.notify_all()
            if sending is None or sending.busy:
                return
            sending.busy = True
        self._push(sending)

    @property
    def rate_bps(self) -> int:
        """What the way to the peer was last seen to carry; 0: not known."""
        with self._lock:
            return self._goodput.rate_bps

    def await_end(self, header: Header, limit_us: int) -> None:
        """Waits until what was sent with this header was acked or lost."""
        key = key_of(header)
        with self._lock:
            self._ends.wait_for(
                lambda: key not in self._unacked and all(parcel.key != key for parcel in self._waiting), limit_us / 1e6
            )

    def drain(self, limit_us: int) -> None:
        """Waits until everything was acked or lost."""
        self._ask()
        with self._lock:
            self._ends.wait_for(lambda: not self._waiting and not self._unacked, limit_us / 1e6)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._hang_up()
        self._thread.join()

    def _run(self) -> None:
        while self._await_work():
            # a channel of its own for each stream: a kept one would be in a backoff that hides that the peer is back
            with open_channel(self.address, self._identity) as channel:
                why = self._stream_over(channel)
            self._break(why)
        self._break("this node ends")

    def _await_work(self) -> bool:
        """Waits until there is something to send and the backoff is over; False: closed."""
        with self._lock:
            if self._failures:
                pause_us = BACKOFF_US[min(self._failures, len(BACKOFF_US)) - 1]
                self._work.wait_for(lambda: self._closed, pause_us / 1e6)
            self._work.wait_for(lambda: self._closed or self._waiting)
            return not self._closed

    def _stream_over(self, channel: grpc.Channel) -> str:
        """Sends and takes acks until the stream ends; why it did."""
        call = Call(channel, DELIVER)
        sending = Sending(call)
        with self._lock:
            self._sending = sending
            if self._closed:
                self._hang_up()
        self._push(sending)
        try:
            for event in call:
                if event is SENT:
                    self._push(sending)
                else:
                    self._answered(call, event)
                self._rest(sending)
        except Ended as end:
            return f"{end.code.name}: {told(end.details, self._identity)}"
        return "the peer ended the stream"

    def _hang_up(self) -> None:
        """Nothing more is taken for the stream of now, and it ends. The lock is held."""
        if self._sending is not None:
            self._attend()
            self._sending.call.cancel()
            self._sending = None

    def _rest(self, sending: Sending) -> None:
        with self._lock:
            sending.resting = self._unasked and not sending.busy and self._sending is sending
            self._events.wait_for(lambda: not sending.resting)

    def _attend(self) -> None:
        """The stream's events are waited for again. The lock is held."""
        if self._sending is not None and self._sending.resting:
            self._sending.resting = False
            self._events.notify_all()

    def _push(self, sending: Sending) -> None:
        """Gives the stream its next frame, if there is one; who calls has the right to send."""
        while (frame := self._next(sending)) is not None:
            sending.call.send(frame)
            if not self._left(sending):
                return

    def _next(self, sending: Sending) -> bytes | None:
        while (frame := next(sending.frames, None)) is None:
            with self._lock:
                if self._sending is sending and self._waiting:
                    parcel = self._waiting.popleft()
                    self._taken(parcel)
                    sending.frames = self._frames(parcel)
                elif self._sending is sending and self._asking:
                    self._asked(self._clock.now_us())
                    sending.frames = iter((ASK,))
                else:
                    sending.busy = False
                    return None
        return frame

    def _left(self, sending: Sending) -> bool:
        """Whether the frame is seen to have left; if not, who waits for the events will see it."""
        with self._lock:
            if not sending.resting:
                return False
            events = sending.call.collect()
            for event in events:
                if event is not SENT:
                    self._answered(sending.call, event)
            left = SENT in events
            if not left or sending.call.ended:
                self._attend()
            return left

    def _answered(self, call: Call, message: bytes) -> None:
        if len(message) % ACK.size:
            call.cancel()
        else:
            self._acked(list(ACK.iter_unpack(message)))

    def _taken(self, parcel: Parcel) -> None:
        """It is on its way from now on. The lock is held."""
        parcel.acks_before = self._acks
        if (same := self._unacked.get(parcel.key)) is not None:
            self._held_bytes -= same.size_bytes
        self._unacked[parcel.key] = parcel
        parcel.taken_us = now_us = self._clock.now_us()
        small = parcel.tensor is not None and parcel.size_bytes < JUDGED_BYTES
        soon = self._asked_us <= now_us < self._asked_us + ASK_EVERY_US  # the clock goes back once, when time begins
        in_time = now_us < parcel.deadline_us - HASTE_US and self._held_bytes < self._limit_bytes // 2
        parcel.header.ack_later = small and soon and in_time
        if not parcel.header.ack_later:
            self._asked(now_us)
        elif not self._unasked:
            self._unasked = True
            self._timer.at(self._asked_us + ASK_EVERY_US, self._ask)

    def _asked(self, now_us: int) -> None:
        self._asked_us, self._unasked, self._asking = now_us, False, False
        self._attend()

    def _ask(self) -> None:
        """For what has not asked itself."""
        with self._lock:
            sending = self._sending
            if sending is None or not self._unasked:
                return
            self._asking = True
            if sending.busy:
                return  # who sends will see it
            sending.busy = True
        self._push(sending)

    def _frames(self, parcel: Parcel) -> Iterator[bytes]:
        """None any more once it is lost."""
        try:
            for frame in codec.frames(parcel.header, parcel.tensor):
                if not parcel.live:
                    return
                yield frame
        except FrameError as error:
            self._give_up(parcel, error.why)

    def _acked(self, keys: list[Key]) -> None:
        """The last has asked; when the others arrived is not known."""
        with self._lock:
            self._acks += len(keys)
            self._failures = 0
            parcels = [self._unacked.pop(key, None) for key in keys]
            for parcel in parcels:
                if parcel is not None:
                    self._held_bytes -= parcel.size_bytes
                    if parcel.alarm is not None:
                        parcel.alarm.cancel()
            if parcels and parcels[-1] is not None:
                self._goodput.acked(parcels[-1].size_bytes, parcels[-1].taken_us, self._clock.now_us())
            self._ends.notify_all()

    def _break(self, why: str) -> None:
        """The stream is gone and what was not acked with it; what waits goes over the next one."""
        with self._lock:
            self._sending, self._unasked, self._asking = None, False, False
            self._failures += 1
            gone = list(self._unacked.values())
            self._unacked.clear()
            if self._closed:
                gone += self._waiting
                self._waiting.clear()
            self._held_bytes -= sum(parcel.size_bytes for parcel in gone)
            self._goodput.broken()
            self._ends.notify_all()
        for parcel in gone:
            self._lose(parcel, why)

    def _expire(self, parcel: Parcel) -> None:
        with self._lock:
            if parcel in self._waiting:
                self._waiting.remove(parcel)
                why = "not sent by the deadline"
            elif self._unacked.get(parcel.key) is parcel:
                del self._unacked[parcel.key]
                why = "not acked by the deadline"
                if self._acks == parcel.acks_before:
                    self._hang_up()
            else:
                return
            self._held_bytes -= parcel.size_bytes
            self._ends.notify_all()
        self._lose(parcel, why)

    def _give_up(self, parcel: Parcel, why: str) -> None:
        with self._lock:
            if self._unacked.get(parcel.key) is not parcel:
                return
            del self._unacked[parcel.key]
            self._held_bytes -= parcel.size_bytes
            self._ends.notify_all()
        self._lose(parcel, why)

    def _lose(self, parcel: Parcel, why: str) -> None:
        parcel.live = False
        if parcel.alarm is not None:
            parcel.alarm.cancel()
        self._lost(parcel.header, f"{self.address}: {why}")
