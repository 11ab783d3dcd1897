"""Hosts of a test over loopback that generate: `World` with a small family, its real numbers, and one session a phone.

chat = Chat(folder, stack, "llama_tiny"); chat.phone(); chat.place("a", 0, 5); chat.go("a:0-5"); chat.start()
assert chat.session()["tokens"] == chat.right
"""

import time
from functools import lru_cache

import torch

from nodes.costing.costs import costs
from nodes.models.config import config_of
from nodes.models.generate import generate
from nodes.phone.client import Samples, StreamSpec
from nodes.phone.generation import Generate, heads_of
from nodes.prepare import inputs, weights
from nodes.proto.agent_pb2 import (
    Empty,
    Followed,
    FollowRequest,
    PrepareRequest,
    Route,
    SliceRef,
    StartRequest,
    SwitchRequest,
    UpRequest,
)
from nodes.proto.agent_pb2_grpc import PhoneStub
from nodes.proto.data_pb2 import Held
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.slicing import cut
from nodes.slices import Sized
from nodes.wire.codec import Tensor
from tests.unit.hosts import World

TOKENS = 20
WAIT_S = 60.0  # far more than anything takes: these are real seconds, of a machine that may be busy


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

    def phone(self, name="ue1", *, kv="copy", sessions=1, deadline_us=60_000_000, end=None, **more):
        starts = 0 if self.config.input_dtype == "int64" else self.config.tokens
        spec = Generate(self.count, 60_000_000, end, self.config.enters, starts, kv)
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
                self.agents[name].Start(StartRequest(t0_us=t0_us), timeout=60)
        held = [Held(address=self.hosts[node].agent.spec.address, first=a, last=b) for node, a, b in kv]
        piece = SliceRef(model="chat", first=first, last=last)
        return self.agents[name].Prepare(PrepareRequest(slice=piece, deadline_s=40, kv_sources=held), timeout=60)

    def release(self, name, first, last):
        self.agents[name].Release(SliceRef(model="chat", first=first, last=last), timeout=60)

    def go(self, *stops, lost=(), standby=None):
        """Switches to a route such as "a:0-3", "b:3-5"; `standby`: who stands by whom."""
        self.epoch += 1
        parts = [(stop.split(":")[0], *map(int, stop.split(":")[1].split("-"))) for stop in stops]
        route = Route(stream="cam", hops=[self.hop(*part) for part in parts])
        held = [(hop.node, Held(address=hop.address, first=hop.first, last=hop.last)) for hop in route.hops]
        self.stand_by(route.hops, standby or {}, held)
        self.phone_stub.Switch(SwitchRequest(epoch=self.epoch, routes=[route], lost=lost), timeout=60)

    def stand_by(self, hops, standby, held):
        """Tells nodes whom they follow, and the phone; `held`: what nodes hold along the hops."""
        follows = {}
        for at, one in held:
            if (node := standby.get(at)) is not None:
                follows.setdefault(node, []).append(Followed(model="chat", held=one))
        for hop in hops:
            for place in hop.parts or [hop]:
                if (node := standby.get(place.node)) is not None:
                    heads = heads_of(place.part)
                    address = self.hosts[node].agent.spec.address
                    place.replicas.add(address=address, first=hop.first, last=hop.last, heads=heads)
        for node in set(standby.values()):
            self.agents[node].Follow(FollowRequest(followed=follows.get(node, ())), timeout=60)

    def down(self, name):
        self.agents[name].SetUp(UpRequest(up=False), timeout=60)

    def up(self, name):
        self.agents[name].SetUp(UpRequest(up=True), timeout=60)

    @property
    def prompt(self):
        """The length of the input in tokens."""
        return self.config.tokens

    def kept(self, name, first, last):
        """The tokens that a node has of the first session."""
        held = Held(address=self.hosts[name].agent.spec.address, first=first, last=last)
        return max(self.hosts["ue1"].agent.kept_at(held, "chat", 1.0).values(), default=0)

    def until(self, what):
        end_s = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < end_s, "it did not come to be"
            time.sleep(0.01)

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
