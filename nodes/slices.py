"""What an agent needs of the models: costs of blocks, and something that makes slices runnable and reads weights.

`Loader` is the border to torch: an agent sees tensors as bytes only. `Sized` is the loader of runs without numerics:
right sizes, no values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Protocol

from nodes.models.shares import ShareError, SplitConfig, output_width, share_of, weight_bytes
from nodes.session.slots import WHOLE
from nodes.wire.codec import ITEM_BYTES, Tensor

Weights = Mapping[int, Mapping[str, Tensor]]  # block -> name -> tensor


@dataclass(frozen=True, slots=True)
class Work:
    """What one request does in one block: what the modelled device takes its time for."""

    flops: int
    shared_bytes: int = 0  # of weights, read once however many requests run together
    own_bytes: int = 0  # input, output, keys and values

    @property
    def read_bytes(self) -> int:
        """All that crosses between processor and memory."""
        return self.shared_bytes + self.own_bytes


@dataclass(frozen=True, slots=True)
class StepCost:
    """What the next tokens of a generation cost in a block."""

    once_flops: int  # of a step
    token_flops: int  # of each next token
    pair_flops: int  # of each next token and each that has been seen, those of its own step included
    shared_bytes: int
    once_bytes: int
    token_bytes: int
    kv_bytes_per_token: int  # kept of each token, and read again in each step

    def work(self, length: int, tokens: int = 1) -> Work:
        """Of a step of `tokens` that follow `length` others."""
        seen = length + tokens
        flops = self.once_flops + tokens * (self.token_flops + seen * self.pair_flops)
        own_bytes = self.once_bytes + tokens * self.token_bytes + seen * self.kv_bytes_per_token
        return Work(flops, self.shared_bytes, own_bytes)


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What the modelled device needs to know of a block."""

    flops: int
    weight_bytes: int
    working_bytes: int
    output_dtype: str
    output_shape: tuple[int, ...]
    shared_bytes: int = 0  # as in `Work`
    own_bytes: int = 0
    step: StepCost | None = None  # None: it has no part in generating
    kept_bytes: int = 0  # of a generation as a whole, beside what each token leaves
    split: SplitConfig | None = None  # of a layer that has parts (nodes/models/shares.py)

    @property
    def work(self) -> Work:
        """Of one pass over the whole input."""
        return Work(self.flops, self.shared_bytes, self.own_bytes)


Costs = Mapping[str, tuple[BlockCost, ...]]  # by model


class Run(Protocol):
    def __call__(self, tensor: Tensor) -> Tensor:
        """Raises `BadTensor` for an input that is not what the slice takes."""
        ...


class Kept(Protocol):
    """The caches of one session on one node: of each block the rows of its tokens, for whoever runs the blocks."""

    def rows(self, block: int, begin: int, end: int, head: int = WHOLE) -> Iterable[tuple[str, Tensor]]:
        """Those of tokens begin..end-1 by name, and from 0 what does not grow with the tokens, too."""
        ...

    def put(self, block: int, tensors: Mapping[str, Tensor], head: int = WHOLE) -> None:
        """Appends what `rows` of another gave; raises `BadTensor`."""
        ...

    def drop(self, block: int, head: int = WHOLE) -> None:
        """Of all tokens; what is not here is dropped already."""
        ...

    def cut(self, block: int, tokens: int, head: int = WHOLE) -> None:
        """Of the block and all its heads, or of one head, what follows so many tokens."""
        ...


class GoOn(Protocol):
    def __call__(self, tensor: Tensor, kept: Kept, position: int, tokens: int) -> Tensor:
        """A round of a generation: at position 0 the whole input, of `tokens` tokens; later the next `tokens` alone.

        Behind the last block it gives the next token, int64 (1, 1). Raises `BadTensor`; the caches are spoilt then.
        """
        ...


class RunPart(Protocol):
    def __call__(self, x: Tensor, kept: Kept | None, arrived: Mapping[str, Tensor]) -> Tensor:
        """One part of a layer (nodes/inlayer/parts.py); raises `BadTensor`: what `kept` has is spoilt.

        `kept`: of the session, None: there are no other tokens; `arrived`: by name, what the parts gave that it takes.
        """
        ...


class BadTensor(Exception):
    """The input of a slice has the wrong type, shape or values."""


class LoadError(Exception):
    """A slice could not be made from its weights."""


@dataclass(frozen=True, slots=True)
class Loaded:
    run: Run
    digest: str  # of the weights and the blocks: the same slice has the same digest on every node
    go_on: GoOn | None = None  # None: the family generates nothing


@dataclass(frozen=True, slots=True)
class LoadedPart:
    run: RunPart
    digest: str  # the same part has the same on every node


class Loader(Protocol):
    """Loading and reading weights raise `LoadError`."""

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        """A runnable slice, from weights that came over the network or (None) from those that lie on the node."""
        ...

    def load_part(self, model: str, block: int, part: str, received: Mapping[str, Tensor] | None) -> LoadedPart:
        """A part of a layer, from what `weights` of all its smallest parts gave, or (None) what lies on the node."""
        ...

    def weights(self, model: str, block: int, part: str = "") -> Iterable[tuple[str, Tensor]]:
        """The raw tensors of one block, or of a part of it, by name, for another node."""
        ...

    def keep(self, model: str) -> Kept:
        """Room for the caches of one session."""
        ...


class ByModel:
    """The `Loader` of each model, where they are not run by one and the same."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self._loaders = loaders

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        return self._loaders[model].load(model, first, last, received)

    def load_part(self, model: str, block: int, part: str, received: Mapping[str, Tensor] | None) -> LoadedPart:
        return self._loaders[model].load_part(model, block, part, received)

    def weights(self, model: str, block: int, part: str = "") -> Iterable[tuple[str, Tensor]]:
        return self._loaders[model].weights(model, block, part)

    def keep(self, model: str) -> Kept:
        return self._loaders[model].keep(model)


def step_work(costs: Sequence[BlockCost], first: int, last: int, position: int, tokens: int) -> tuple[Work, ...]:
    """Of each of the blocks first..last-1 in one round of a generation; `costs` are those of the whole model.

    At position 0 a text is counted token by token, as long as it is; what hears the input first costs the same always.
    """
    blocks = costs[first:last]
    if position == 0 and costs[0].step is None:
        return tuple(block.work for block in blocks)
    return tuple(block.step.work(position, tokens) for block in blocks if block.step)


class Sized:
    """Zeros of the right size."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def load(self, model: str, first: int, last: int, received: Weights | None) -> Loaded:
        del received  # values do not matter
        end = self._costs[model][last - 1]
        size_bytes = prod(end.output_shape) * ITEM_BYTES[end.output_dtype]
        answer = Tensor(end.output_dtype, end.output_shape, bytes(size_bytes))

        def run(tensor: Tensor) -> Tensor:
            del tensor
            return answer

        digest = sha256(f"{model}[{first}:{last}]".encode()).hexdigest()
        return Loaded(run, digest, self._generator(model, last) if end.step or self._costs[model][-1].step else None)

    def _generator(self, model: str, last: int) -> GoOn:
        costs = self._costs[model]
        end, text = costs[last - 1], costs[0].step is not None

        def go_on(tensor: Tensor, kept: Kept, position: int, tokens: int) -> Tensor:
            del tensor, kept
            if last == len(costs):
                return Tensor("int64", (1, 1), bytes(8))  # token 0
            shape = end.output_shape
            if text or position:  # of the tokens alone
                shape = (1, tokens, *shape[2:])
            return Tensor(end.output_dtype, shape, bytes(prod(shape) * ITEM_BYTES[end.output_dtype]))

        return go_on

    def load_part(self, model: str, block: int, part: str, received: Mapping[str, Tensor] | None) -> LoadedPart:
        del received  # values do not matter
        split = self._costs[model][block].split
        if split is None:
            raise LoadError(f"block {block} of {model} has no parts")
        try:
            width = output_width(split, share_of(part))
        except ShareError as error:
            raise LoadError(str(error)) from error

        def run(x: Tensor, kept: Kept | None, arrived: Mapping[str, Tensor]) -> Tensor:
            del kept, arrived
            return Tensor("float32", (*x.shape[:2], width), bytes(4 * prod(x.shape[:2]) * width))

        return LoadedPart(run, sha256(f"{model}[{block}] {part}".encode()).hexdigest())

    def weights(self, model: str, block: int, part: str = "") -> Iterable[tuple[str, Tensor]]:
        cost = self._costs[model][block]
        size_bytes = weight_bytes(cost.split, share_of(part)) if part and cost.split else cost.weight_bytes
        yield "zeros", Tensor("uint8", (size_bytes,), bytes(size_bytes))

    def keep(self, model: str) -> Kept:
        return SizedRows(self._costs[model])


class SizedRows:
    """Rows of zeros, made when they are asked for."""

    def __init__(self, costs: Sequence[BlockCost]) -> None:
        self._costs = costs

    def rows(self, block: int, begin: int, end: int, head: int = WHOLE) -> Iterable[tuple[str, Tensor]]:
        size_bytes = rows_bytes(self._costs[block], begin, end, heads=0 if head == WHOLE else 1)
        yield "zeros", Tensor("uint8", (size_bytes,), bytes(size_bytes))

    def put(self, block: int, tensors: Mapping[str, Tensor], head: int = WHOLE) -> None:
        """There is nothing to keep."""

    def drop(self, block: int, head: int = WHOLE) -> None:
        """There is nothing to drop."""

    def cut(self, block: int, tokens: int, head: int = WHOLE) -> None:
        """There is nothing to cut."""


def rows_bytes(cost: BlockCost, begin: int, end: int, heads: int = 0) -> int:
    """What a block, or so many heads of it, keep of the tokens begin..end-1 of a session."""
    per_token = cost.step.kv_bytes_per_token if cost.step else 0
    if heads and cost.split is not None:
        per_token = per_token // cost.split.movable * heads
    return (end - begin) * per_token + (0 if begin else cost.kept_bytes)
