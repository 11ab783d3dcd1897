"""Parts of layers with real numbers, as the agent runs them: bytes in, bytes out."""

from collections.abc import Mapping

import torch

from nodes.inlayer.parts import Part, gathered, pieces, split_config
from nodes.models.shares import Heads, Need, needs, share_of
from nodes.prepare.weights import populate
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import SliceError
from nodes.session.caches import Caches
from nodes.slices import BadTensor, Kept, LoadedPart
from nodes.wire.codec import Tensor

Found = Mapping[Need, torch.Tensor]


def load_part(family: str, found: Found, block: int, name: str) -> LoadedPart:
    """Of the layer that is unit `block`. Raises SliceError, ShareError."""
    held = Part(split_config(family), layer_of(block), share_of(name), found)
    populate(held.weights.values())
    return LoadedPart(_Run(held, block), held.digest)


def cut_out(family: str, weights: Mapping[str, torch.Tensor], block: int, name: str) -> Found:
    """What a part needs of the whole weights, where they lie. Raises SliceError, ShareError."""
    return pieces(weights, needs(split_config(family), layer_of(block), share_of(name)))


def put_together(family: str, received: Mapping[str, Tensor], block: int, name: str) -> Found:
    """What a part needs of the smallest parts that it is made of. Raises SliceError, ShareError, BadTensor."""
    found = {label: view(tensor) for label, tensor in received.items()}
    return gathered(needs(split_config(family), layer_of(block), share_of(name)), found)


def layer_of(block: int) -> int:
    return block - 1  # the first unit is the embedding


class _Run:
    def __init__(self, held: Part, block: int) -> None:
        self._held, self._block = held, block

    def __call__(self, x: Tensor, kept: Kept | None, arrived: Mapping[str, Tensor]) -> Tensor:
        share, caches = self._held.share, None
        if isinstance(share, Heads) and kept is not None:
            assert isinstance(kept, Caches)
            caches = kept.heads(self._block, share.numbers)
        given = {share_of(name): view(tensor) for name, tensor in arrived.items()}
        try:
            return raw(self._held(view(x), caches, given))
        except SliceError as error:
            raise BadTensor(str(error)) from error
