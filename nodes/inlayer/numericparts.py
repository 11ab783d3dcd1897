"""Parts of layers with real numbers, as the agent runs them: bytes in, bytes out."""

from collections.abc import Mapping

import torch

from nodes.inlayer.parts import Part, part
from nodes.models.shares import Heads, share_of
from nodes.prepare.weights import populate
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import SliceError
from nodes.session.caches import Caches
from nodes.slices import BadTensor, Kept, LoadedPart
from nodes.wire.codec import Tensor


def load_part(family: str, weights: Mapping[str, torch.Tensor], block: int, name: str) -> LoadedPart:
    """Of the layer that is unit `block`, cut out of the whole weights. Raises SliceError, ShareError."""
    held = part(family, weights, block - 1, name)  # the first unit is the embedding
    populate(held.weights.values())
    return LoadedPart(_Run(held, block), held.digest)


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
