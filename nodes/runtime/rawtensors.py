"""Between torch's tensors and raw bytes, without a copy."""

import warnings

import torch

from nodes.slices import BadTensor
from nodes.wire.codec import Tensor

DTYPES = {"uint8": torch.uint8, "int64": torch.int64, "float32": torch.float32}


def view(tensor: Tensor) -> torch.Tensor:
    """The tensor where its bytes lie; a slice copies it if that is no multiple of 64. Raises BadTensor."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes to an input
            return torch.frombuffer(tensor.data, dtype=DTYPES[tensor.dtype]).view(tensor.shape)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:  # no such type, no bytes, not as many
        raise BadTensor(f"{tensor.size_bytes} bytes are no {tensor.dtype} {tensor.shape}: {error}") from error


def raw(tensor: torch.Tensor) -> Tensor:
    """The bytes of a contiguous tensor where they lie."""
    array = tensor.detach().numpy()
    return Tensor(array.dtype.name, tuple(array.shape), array.data.cast("B"))
