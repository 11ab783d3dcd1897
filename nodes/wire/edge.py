"""The way to one peer: what waits, what is on its way, what was acked, and the streams that it goes over.

Who sends puts the first frame on the stream himself; the frames behind it follow as there is room, by the edge's own
thread, which opens the stream and reads its events. Nothing is handed from thread to thread on a small tensor's way.

An ack costs as much as a small tensor. So of small ones that come close behind each other only one in `ASK_EVERY_US`
asks for its ack, and the acks of those before it come along; when no other follows, the edge asks at the end of that
time. Until then the edge's thread rests, since it would be woken only to hear that a frame has left: who sends the next
one sees that himself. What rests is woken when an ack was asked for, when a frame has not left at once, and at the end.

The answer of a route's last node may come back on the stream that the phone has opened to it, since what goes there and
back on one connection costs less than on two. The phone offers it with each tensor that is for the last node, and does
not rest while it expects an answer; the node's edge sends it there unless it is large, since acks would wait behind it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

from nodes.clock import Clock, Timer
from nodes.proto.data_pb2 import Header
from nodes.wire import codec
from nodes.wire.arrivals import Answers, Arrivals
from nodes.wire.call import SENT, Call, Ended
from nodes.wire.codec import ASK, FrameError, Key, Tensor, key_of
from nodes.wire.goodput import JUDGED_BYTES, Goodput
from nodes.wire.incoming import SMALL_BYTES, Put
from nodes.wire.parcels import Parcel, Parcels
from nodes.wire.sending import Sending
from nodes.wire.tls import Identity, told
from nodes.wire.transport import DELIVER, Busy, open_channel

BACKOFF_US = (100_000, 200_000, 400_000, 800_000, 1_600_000, 2_000_000)
EDGE_MAX_BYTES = 64 << 20
ASK_EVERY_US = 10_000
HASTE_US = 1_000_000  # what has to be acked so soon asks for it
NEVER_US = 2**62


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
        answers: Answers | None = None,
        limit_bytes: int = EDGE_MAX_BYTES,
    ) -> None:
        self.address = address
        self._identity = identity
        self._answers = answers
        self._limit_bytes = limit_bytes
        self._goodput = Goodput()
        self._clock = clock
        self._timer = timer
        self._lost = lost
        self._lock = threading.RLock()
        # more than one, so that an ack wakes nobody who waits for work
        self._work, self._ends, self._events = (threading.Condition(self._lock) for _ in range(3))
        self._parcels = Parcels()
        self._next_look_us = NEVER_US  # for what is due
        self._failures = 0  # in a row
        self._own: Sending | None = None
        self._back: Sending | None = None  # the stream that the peer has offered
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"edge {address}", daemon=True)
        self._thread.start()

    def send(self, header: Header, tensor: Tensor | None, deadline_us: int) -> None:
        """Returns at once; the edge owns both arguments from here on.

        Raises `Busy`; an idle edge takes any size, and every edge an error: it is small, and the phone waits for it.
        """
        parcel = Parcel(header, tensor, deadline_us)
        with self._lock:
            held_bytes = self._parcels.held_bytes
            if tensor and held_bytes and held_bytes + parcel.size_bytes > self._limit_bytes:
                raise Busy(f"{self.address}: {held_bytes} bytes are on their way, at most {self._limit_bytes}")
            self._parcels.add(parcel)
            if deadline_us < self._next_look_us:
                self._look_at(deadline_us)
            sending = self._begun()
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
            self._ends.wait_for(lambda: not self._parcels.has(key), limit_us / 1e6)

    def drain(self, limit_us: int) -> None:
        """Waits until everything was acked or lost."""
        for sending in (self._own, self._back):
            if sending is not None:
                self._ask(sending)
        with self._lock:
            self._ends.wait_for(lambda: not self._parcels, limit_us / 1e6)

    def adopt(self, put: Put) -> "Back":
        """The peer's stream, for the answers to what comes with an offer of it."""
        back = Back(self, put)
        with self._lock:
            self._back = back.sending
        return back

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._work.notify_all()
            if self._own is not None:
                self._hang_up(self._own)
        self._thread.join()

    def _run(self) -> None:
        while self._await_work():
            # a channel of its own for each stream: a kept one would be in a backoff that hides that the peer is back
            with open_channel(self.address, self._identity) as channel:
                call = Call(channel, DELIVER)
                sending = Sending(call, busy=True)
                why = self._stream_over(call, sending)
            with self._lock:
                self._failures += 1
                self._goodput.broken()
            self._over(sending, why)
        with self._lock:
            gone = self._parcels.gone()
        self._lose(gone, "this node ends")

    def _await_work(self) -> bool:
        """Waits until there is something to send, no stream for it, and the backoff is over; False: closed."""
        with self._lock:
            if self._failures:
                pause_us = BACKOFF_US[min(self._failures, len(BACKOFF_US)) - 1]
                self._work.wait_for(lambda: self._closed, pause_us / 1e6)
            self._work.wait_for(lambda: self._closed or (self._parcels.waiting and self._chosen() is None))
            return not self._closed

    def _chosen(self) -> Sending | None:
        """The stream for what waits first. The lock is held."""
        first = self._parcels.waiting[0]
        offered = first.header.answer_here and first.size_bytes <= SMALL_BYTES
        return self._own if self._back is None or not offered else self._back

    def _begun(self) -> Sending | None:
        """The right to send, if anything waits and nobody has it. The lock is held."""
        if not self._parcels.waiting:
            return None
        sending = self._chosen()
        if sending is None:
            self._work.notify_all()
        elif not sending.busy:
            sending.busy = True
            return sending
        return None

    def _stream_over(self, call: Call, sending: Sending) -> str:
        """Sends and takes what comes back until the stream ends; why it did."""
        with self._lock:
            self._own = sending
            if self._closed:
                self._hang_up(sending)
        arrivals = None if self._answers is None else self._answers.arrivals(plain=self._identity is None)
        self._push(sending)
        try:
            for event in call:
                if event is SENT:
                    self._push(sending)
                else:
                    self._answered(call, sending, event, arrivals)
                self._rest(sending)
        except Ended as end:
            return f"{end.code.name}: {told(end.details, self._identity)}"
        return "the peer ended the stream"

    def _hang_up(self, sending: Sending) -> None:
        """Nothing more is taken for a stream, and it ends if it is this edge's. The lock is held."""
        if sending is self._back:
            self._back = None
        elif sending is self._own:
            self._attend(sending)
            self._own, sending.over = None, True
            if isinstance(sending.line, Call):
                sending.line.cancel()

    def _rest(self, sending: Sending) -> None:
        with self._lock:
            sending.resting = sending.unasked and not (sending.busy or sending.expected) and self._own is sending
            self._events.wait_for(lambda: not sending.resting)

    def _attend(self, sending: Sending) -> None:
        """The stream's events are waited for again. The lock is held."""
        if sending.resting:
            sending.resting = False
            self._events.notify_all()

    def _push(self, sending: Sending | None) -> None:
        """Gives the stream its next frame, if there is one; who calls has the right to send."""
        while sending is not None:
            frame = self._next(sending)
            if frame is not None:
                sending.line.send(frame)
                if not (sending.resting and self._left(sending)):
                    return
                continue
            with self._lock:  # what waits is for another stream
                sending = self._begun()

    def _next(self, sending: Sending) -> bytes | None:
        while (frame := next(sending.frames, None)) is None:
            with self._lock:
                if sending.due:
                    sending.frames, sending.due = iter((codec.acks(sending.due),)), []
                elif self._parcels.waiting and self._chosen() is sending:
                    sending.frames = self._frames(self._taken(sending))
                elif sending.asking:
                    self._asked(sending, self._clock.now_us())
                    sending.frames = iter((ASK,))
                else:
                    sending.busy = False
                    return None
        return frame

    def _left(self, sending: Sending) -> bool:
        """Whether the frame is seen to have left; if not, who waits for the events will see it."""
        with self._lock:
            call = sending.line
            if not sending.resting or not isinstance(call, Call):
                return False
            events = call.collect()
            for event in events:
                if event is not SENT:
                    self._answered(call, sending, event)
            left = SENT in events
            if not left or call.ended:
                self._attend(sending)
            return left

    def _answered(self, call: Call, sending: Sending, message: bytes, arrivals: Arrivals | None = None) -> None:
        """Acks, and what is to be acked if that was offered; anything else ends the stream."""
        try:
            keys = codec.acked(message)
        except FrameError:
            keys, arrivals = [], None
        if keys:
            self._acked(sending, keys)
            return
        if arrivals is None or not sending.offered:
            call.cancel()
            return
        if message != ASK:
            with self._lock:
                sending.expected = max(0, sending.expected - 1)
        taken = arrivals.take(message)
        if taken.broken:
            call.cancel()
        elif taken.acks:
            with self._lock:
                sending.due += taken.acks
                if sending.busy:
                    return  # who sends will see it
                sending.busy = True
            self._push(sending)

    def _taken(self, sending: Sending) -> Parcel:
        """What is on its way from now on. The lock is held."""
        parcel = self._parcels.take(sending)
        header, now_us = parcel.header, self._clock.now_us()
        parcel.taken_us = now_us
        header.answer_here = sending is self._own and self._answers_here(header)
        if header.answer_here:
            sending.offered = True
            sending.expected += 1
            self._attend(sending)
        small = parcel.tensor is not None and parcel.size_bytes < JUDGED_BYTES
        soon = sending.asked_us <= now_us < sending.asked_us + ASK_EVERY_US  # the clock goes back when time begins
        in_time = now_us < parcel.deadline_us - HASTE_US and self._parcels.held_bytes < self._limit_bytes // 2
        header.ack_later = small and soon and in_time
        if not header.ack_later:
            self._asked(sending, now_us)
        elif not sending.unasked:
            sending.unasked = True
            self._timer.at(sending.asked_us + ASK_EVERY_US, lambda: self._ask(sending))
        return parcel

    def _answers_here(self, header: Header) -> bool:
        """Whether the peer is the last of the route, and the answer is for this node."""
        mine = self._answers is not None and header.reply_to == self._answers.address
        return mine and header.step + 1 == len(header.route)

    def _asked(self, sending: Sending, now_us: int) -> None:
        sending.asked_us, sending.unasked, sending.asking = now_us, False, False
        self._attend(sending)

    def _ask(self, sending: Sending) -> None:
        """For what has not asked itself."""
        with self._lock:
            if sending.over or not sending.unasked:
                return
            sending.asking = True
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
            with self._lock:
                lost = [parcel] if self._parcels.lost(parcel) else []
            self._lose(lost, error.why)

    def _acked(self, sending: Sending, keys: Sequence[Key]) -> None:
        """The last has asked; when the others arrived is not known."""
        with self._lock:
            sending.acks += len(keys)
            self._failures = 0
            last = self._parcels.acked(keys)
            if last is not None:
                self._goodput.acked(last.size_bytes, last.taken_us, self._clock.now_us())
            self._ends.notify_all()

    def _over(self, sending: Sending, why: str) -> None:
        """A stream is gone and what was not acked with it; what waits goes over another."""
        with self._lock:
            if self._own is sending:
                self._own = None
            elif self._back is sending:
                self._back = None
            sending.over = True
            gone, other = self._parcels.gone_with(sending), self._begun()
        self._push(other)
        self._lose(gone, why)

    def _look_at(self, t_us: int) -> None:
        """For what is due by then; an alarm for each tensor would cost more. The lock is held."""
        self._next_look_us = t_us
        self._timer.at(t_us, lambda: self._expire(t_us))

    def _expire(self, look_us: int) -> None:
        """What was not acked by its deadline is lost, and the stream with it if it carries nothing else either."""
        with self._lock:
            if look_us != self._next_look_us:
                return  # an earlier one came in between
            self._next_look_us = NEVER_US
            gone = self._parcels.due(look_us)
            for parcel in gone:
                if parcel.sending is not None and parcel.sending.acks == parcel.acks_before:
                    self._hang_up(parcel.sending)
            next_us, other = self._parcels.deadline_us(), self._begun()
            if next_us is not None:
                self._look_at(next_us)
        self._push(other)
        self._lose([parcel for parcel in gone if parcel.sending is None], "not sent by the deadline")
        self._lose([parcel for parcel in gone if parcel.sending is not None], "not acked by the deadline")

    def _lose(self, parcels: Sequence[Parcel], why: str) -> None:
        with self._lock:
            self._ends.notify_all()
        for parcel in parcels:
            self._lost(parcel.header, f"{self.address}: {why}")


class Back:
    """A stream that the peer has opened, to the edge that sends on it (nodes/wire/incoming.py has its other side)."""

    def __init__(self, edge: Edge, put: Put) -> None:
        self.sending = Sending(self, busy=False)
        self._edge = edge
        self._put = put

    def send(self, frame: bytes) -> None:
        self._put(frame, self._left)

    def _left(self) -> None:
        self._edge._push(self.sending)

    def acked(self, keys: Sequence[Key]) -> None:
        self._edge._acked(self.sending, keys)

    def over(self) -> None:
        self._edge._over(self.sending, "the peer ended the stream")
