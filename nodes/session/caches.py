"""The caches of one session on one node, in torch: of whole units, or of single heads where a layer is there in parts.

A layer's heads are taken apart when one of them is asked for alone, and put together when the whole layer runs again;
the bits are the same.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from nodes.inlayer.parts import apart, together
from nodes.models.cache import Cache
from nodes.models.shapes import UnitShape
from nodes.runtime.rawtensors import raw, view
from nodes.runtime.slicing import Slice
from nodes.session.slots import WHOLE
from nodes.slices import BadTensor
from nodes.wire.codec import Tensor


class Caches:
    """`nodes.slices.Kept`: a cache of each unit that keeps something, by the unit's name."""

    def __init__(self, units: Sequence[UnitShape]) -> None:
        self._units = units
        self._caches: dict[str, Cache] = {}
        self._heads: dict[int, dict[int, Cache]] = {}  # by block, then by head

    def of(self, piece: Slice, position: int) -> Mapping[str, Cache]:
        """Those of a slice; one that keeps the position only is told it."""
        for block in range(piece.first, piece.last):
            unit = self._units[block]
            if unit.keeps is not None:
                cache = self._whole(block)
                if not unit.keeps:
                    cache.length = position
        return self._caches

    def heads(self, block: int, numbers: Iterable[int]) -> dict[int, Cache]:
        """Those of some heads."""
        held = self._apart(block)
        return {i: held.setdefault(i, Cache()) for i in numbers}

    def length(self, piece: Slice) -> int | None:
        """The tokens that the caches of a slice hold; None where nothing grows."""
        names = (unit.name for unit in self._units[piece.first : piece.last] if unit.keeps)
        return next((self._caches[name].length for name in names), None)

    def rows(self, block: int, begin: int, end: int, head: int = WHOLE) -> Iterable[tuple[str, Tensor]]:
        shape = self._units[block]
        for name, tensor in self._tensors(block, head).items():
            if -1 in (shape.keeps or {})[name]:
                yield name, raw(tensor[:, :, begin:end].contiguous())
            elif begin == 0:
                yield name, raw(tensor.contiguous())

    def put(self, block: int, tensors: Mapping[str, Tensor], head: int = WHOLE) -> None:
        keeps = self._units[block].keeps or {}
        arrived = {name: view(tensor) for name, tensor in tensors.items()}
        for name, tensor in arrived.items():
            declared, got = keeps.get(name, ()), tuple(tensor.shape)
            if head != WHOLE and len(declared) == 4:
                declared = (declared[0], 1, *declared[2:])
            if len(declared) != len(got) or any(a not in {b, -1} for a, b in zip(declared, got, strict=True)):
                raise BadTensor(f"{name} {got} is not what {self._units[block].name} keeps")
        if not {"keys", "values"} <= arrived.keys():
            raise BadTensor(f"{', '.join(arrived) or 'nothing'} is not what {self._units[block].name} keeps")
        cache = self._whole(block) if head == WHOLE else self.heads(block, [head])[head]
        fixed = {name: tensor for name, tensor in arrived.items() if -1 not in keeps[name]}
        cache.keep(**{name: torch.empty(tensor.shape).copy_(tensor) for name, tensor in fixed.items()})
        with torch.inference_mode():  # as what is here already was made
            cache.append(arrived["keys"], arrived["values"])

    def drop(self, block: int, head: int = WHOLE) -> None:
        if head != WHOLE:
            self._apart(block).pop(head, None)
            return
        self._caches.pop(self._units[block].name, None)
        self._heads.pop(block, None)

    def cut(self, block: int, tokens: int, head: int = WHOLE) -> None:
        if head != WHOLE:
            held = self._apart(block)
            caches = [held[head]] if head in held else []
        else:
            whole = self._caches.get(self._units[block].name)
            caches = [*([whole] if whole else []), *self._heads.get(block, {}).values()]
        for cache in caches:
            cache.length = min(cache.length, tokens)

    def _tensors(self, block: int, head: int) -> Mapping[str, torch.Tensor]:
        """Of the whole unit or of one head, however they lie; another thread may just be taking them apart."""
        whole, held = self._caches.get(self._units[block].name), self._heads.get(block, {})
        if whole is not None:
            tensors = whole.tensors()
            return tensors if head == WHOLE else {name: tensor[:, head : head + 1] for name, tensor in tensors.items()}
        return (together([held[i] for i in sorted(held)]) if head == WHOLE else held[head]).tensors()

    def _whole(self, block: int) -> Cache:
        held, name = self._heads.get(block, {}), self._units[block].name
        if name not in self._caches:
            grown = [held[i] for i in sorted(held) if held[i].length]
            self._caches[name] = together(grown) if grown else Cache()
            self._heads.pop(block, None)
        return self._caches[name]

    def _apart(self, block: int) -> dict[int, Cache]:
        if block not in self._heads:
            whole = self._caches.get(self._units[block].name)
            self._heads[block] = apart(whole) if whole is not None and whole.length else {}
            self._caches.pop(self._units[block].name, None)
        return self._heads[block]
