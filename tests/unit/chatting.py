"""Hosts of a test over loopback that generate: `World` with a small family, its real numbers, and one session a phone.

chat = Chat(folder, stack, "llama_tiny"); chat.phone(); chat.place("a", 0, 5); chat.go("a:0-5"); chat.start()
assert chat.session()["tokens"] == chat.right
"""

from functools import lru_cache

import torch

from nodes.costing.costs import costs
from nodes.models.config import config_of
from nodes.models.generate import generate
from nodes.phone.client import Samples, StreamSpec
from nodes.phone.generation import Generate
from nodes.prepare import inputs, weights
from nodes.proto.agent_pb2 import Empty, PrepareRequest, Route, SliceRef, StartRequest, SwitchRequest, UpRequest
from nodes.proto.agent_pb2_grpc import PhoneStub
from nodes.proto.data_pb2 import Held
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.slicing import cut
from nodes.slices import Sized
from nodes.wire.codec import Tensor
from tests.unit.hosts import World

TOKENS = 20
WAIT_S = 10.0


@lru_cache
def right(family, folder, count, end=None):
    """The unsplit model's tokens that follow input 0."""
    model = cut(family, weights.load(weights.ensure(family, 0, folder), family))
    return generate([model], torch.from_numpy(inputs.make(family, 0, 0)), count, end)


class Chat(World):
    """`made`: the folder of weights, shared by tests."""

    def __init__(self, folder, stack, family, made, *, count=TOKENS, numerics=True):
        super().__init__(folder, stack)
        self.family, self.count, self.config = family, count, config_of(family)
        self.costs = {"chat": costs(family)}
        files = {"chat": ModelFile(family, weights.ensure(family, 0, made))}
        self.loader = (lambda: Numeric(files)) if numerics else (lambda: Sized(self.costs))
        self.right = right(family, made, count) if numerics else [0] * count
        self.units, self.epoch = len(self.config.units()), 0

    def phone(self, name="ue1", *, kv="copy", sessions=1, deadline_us=2_000_000, end=None, **more):
        starts = 0 if self.config.input_dtype == "int64" else self.config.tokens
        spec = Generate(self.count, 20_000_000, end, self.config.enters, starts, kv)
        stream = StreamSpec("cam", "chat", tuple(10_000 * k for k in range(sessions)), deadline_us, spec)
        array = inputs.make(self.family, 0, 0)
        first = Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))
        samples = {"chat": Samples([first], {}, {0: tuple(self.right)})}
        self.add(name, streams=(stream,), samples=samples, **more)
        self.phone_stub = PhoneStub(self.channel)

    def place(self, name, first, last, kv=()):
        """Prepares a slice; `kv`: ("node", first, last) of whose sessions are copied ahead."""
        if name not in self.hosts:
            self.add(name)
            if t0_us := self.hosts["ue1"].clock.t0_us if "ue1" in self.hosts else 0:
                self.agents[name].Start(StartRequest(t0_us=t0_us), timeout=5)
        held = [Held(address=self.hosts[node].agent.spec.address, first=a, last=b) for node, a, b in kv]
        piece = SliceRef(model="chat", first=first, last=last)
        return self.agents[name].Prepare(PrepareRequest(slice=piece, deadline_s=5, kv_sources=held), timeout=8)

    def release(self, name, first, last):
        self.agents[name].Release(SliceRef(model="chat", first=first, last=last), timeout=5)

    def go(self, *stops, lost=()):
        """Switches to a route such as "a:0-3", "b:3-5"."""
        self.epoch += 1
        parts = [(stop.split(":")[0], *map(int, stop.split(":")[1].split("-"))) for stop in stops]
        route = Route(stream="cam", hops=[self.hop(*part) for part in parts])
        self.phone_stub.Switch(SwitchRequest(epoch=self.epoch, routes=[route], lost=lost), timeout=5)

    def down(self, name):
        self.agents[name].SetUp(UpRequest(up=False), timeout=5)

    def used_bytes(self, name):
        return self.agents[name].Status(Empty()).memory_used_bytes

    def at_token(self, n, then):
        """Calls `then` when the phone has taken token n, before it asks for the next."""
        chats = self.hosts["ue1"].client._chats
        plain = chats._go_on

        def go_on(chat, due_us=None):
            if len(chat.session.tokens) == n and not called:
                called.append(n)
                then()
            plain(chat, due_us)

        called = []
        chats._go_on = go_on

    def sessions(self, count=1):
        """Waits until so many have ended; their records."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.of("session")) >= count, WAIT_S)
        return self.of("session")

    def of(self, kind):
        return [record for record in self.records if record["kind"] == kind]

    def rounds(self):
        """All requests, once the phone has ended."""
        self.hosts["ue1"].client.close()
        return sorted(self.of("request"), key=lambda r: r["id"])
