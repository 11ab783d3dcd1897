"""Hosts of a test over loopback that generate with layers by parts: `Chat` with placements as of nodes.models.splits.

chat = Apart(folder, stack, "llama_tiny", made); chat.phone(); chat.lay(placement); chat.take(placement); chat.start()
"""

import torch

from nodes.inlayer.parts import split_config
from nodes.models.generate import generate
from nodes.models.splits import Run, Split, check_placement, stages
from nodes.prepare import inputs, tensorfile
from nodes.proto.agent_pb2 import PrepareRequest, Route, SliceRef, StartRequest, SwitchRequest
from nodes.proto.data_pb2 import Held, Hop, Placed
from nodes.runtime.numerics import ModelFile, Numeric
from nodes.runtime.slicing import cut
from tests.unit.chatting import Chat
from tests.unit.oracles import lively


def lively_file(family, folder):
    """Weights with which a small family says many different tokens."""
    path = folder / f"{family}-lively.safetensors"
    if not path.exists():
        tensorfile.write(path, {name: tensor.numpy() for name, tensor in lively(family).items()})
    return path


class Apart(Chat):
    def __init__(self, folder, stack, family, made, **more):
        super().__init__(folder, stack, family, made, **more)
        self.split = split_config(family)
        if more.get("numerics", True):
            files = {"chat": ModelFile(family, lively_file(family, made))}
            self.loader = lambda: Numeric(files)
            x = torch.from_numpy(inputs.make(family, 0, 0))
            self.right = generate([cut(family, lively(family))], x, self.count)
            assert self.count < 8 or len(set(self.right)) > 2

    def lay(self, placement, ahead=None):
        """Prepares all that is placed; `ahead`: the placement whose sessions are copied."""
        check_placement(self.split, placement)
        for node, first, last, part in everything(placement):
            if node not in self.hosts:
                self.add(node)
                if t0_us := self.hosts["ue1"].clock.t0_us if "ue1" in self.hosts else 0:
                    self.agents[node].Start(StartRequest(t0_us=t0_us), timeout=60)
            piece = SliceRef(model="chat", first=first, last=last, part=part)
            held = [kept for at, kept in self._held(ahead or ()) if at != node]
            reply = self.agents[node].Prepare(PrepareRequest(slice=piece, deadline_s=40, kv_sources=held), timeout=60)
            assert reply.ok, reply.why

    def let_go(self, old, *new):
        """Releases what the new placements do not need."""
        needed = {piece for placement in new for piece in everything(placement)}
        for node, first, last, part in set(everything(old)) - needed:
            piece = SliceRef(model="chat", first=first, last=last, part=part)
            self.agents[node].Release(piece, timeout=60)

    def take(self, placement, lost=(), standby=None):
        """Switches the phone to it; `standby`: who stands by whom."""
        self.epoch += 1
        route = Route(stream="cam", hops=[self._hop(stage) for stage in stages(placement)])
        self.stand_by(route.hops, standby or {}, self._held(placement))
        self.phone_stub.Switch(SwitchRequest(epoch=self.epoch, routes=[route], lost=lost), timeout=60)

    def move(self, old, new):
        """As the controller does it: copied ahead, then switched."""
        self.lay(new, ahead=old)
        self.take(new)

    def address(self, node):
        return self.hosts[node].agent.spec.address

    def _hop(self, stage):
        if isinstance(stage, Run):
            return self.hop(stage.node, stage.first, stage.last)
        layer, split = stage
        parts = [Placed(node=node, address=self.address(node), part=str(share)) for node, share in split.parts]
        return Hop(node=split.home, address=self.address(split.home), first=layer + 1, last=layer + 2, parts=parts)

    def kept_heads(self, node, placement, of):
        """The tokens that a node has of all that another holds by a placement."""
        mine = [held for at, held in self._held(placement) if at == of]
        sources = [Held(address=self.address(node), first=h.first, last=h.last, heads=h.heads) for h in mine]
        phone = self.hosts["ue1"].agent
        return min(max(phone.kept_at(source, "chat", 1.0).values(), default=0) for source in sources)

    def _held(self, placement):
        for stage in stages(placement):
            if isinstance(stage, Run):
                yield stage.node, Held(address=self.address(stage.node), first=stage.first, last=stage.last)
            else:
                layer, split = stage
                for node, share in split.heads:
                    held = Held(address=self.address(node), first=layer + 1, last=layer + 2, heads=share.numbers)
                    yield node, held


def everything(placement):
    """(node, first, last, part) of all that has to be prepared."""
    found = []
    for stage in stages(placement):
        if isinstance(stage, Run):
            found.append((stage.node, stage.first, stage.last, ""))
        else:
            layer, split = stage
            found += [(node, layer + 1, layer + 2, str(share)) for node, share in split.everything]
    return list(dict.fromkeys(found))


def gathered(home, heads, proj, mlp):
    """One layer with its projection on one node: "abca" names the node of each head."""
    return Split.assigned(home, list(heads), proj, mlp)


def three(chat, b="b", c="c"):
    """Layers in all shapes over a, b and c: gathered, and by rows and columns."""
    heads = [b if i % 2 else c for i in range(chat.split.movable)]
    wide = chat.split.hidden
    first = Split.assigned("a", ["a", *heads[1:]], b, c)
    last = Split.assigned(b, heads[::-1], None, [(c, wide - 40), ("a", 40)])
    return ["a", first, *[last] * (chat.config.layers - 2), first, "a"]
