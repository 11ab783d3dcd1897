"""Fixtures of more than one file; what they need is imported by those who ask for them."""

import contextlib

import pytest
from hypothesis import settings

from nodes.wire import engine

engine.choose()  # as on the nodes; grpc is not imported yet
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

pytest.register_assert_rewrite("tests.unit.hosts", "tests.unit.chatting", "tests.unit.apart")


@pytest.fixture
def world(tmp_path):
    from tests.unit.hosts import World

    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    """Of the small families: made once, by whichever test needs them first."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def chat_of(tmp_path, weights_folder):
    """Makes hosts that generate, of a family."""
    from tests.unit.chatting import Chat

    with contextlib.ExitStack() as stack:
        yield lambda family="llama_tiny", **more: Chat(tmp_path, stack, family, weights_folder, **more)


@pytest.fixture
def apart_of(tmp_path, weights_folder):
    """Makes hosts that generate with layers by parts, of a family."""
    from tests.unit.apart import Apart

    with contextlib.ExitStack() as stack:
        yield lambda family="llama_tiny", **more: Apart(tmp_path, stack, family, weights_folder, **more)


@pytest.fixture(scope="session")
def full_weights():
    """Of the full-sized vision transformer: even ones, which take a tenth of the time of those that runs use."""
    import torch

    from nodes.models.config import weight_shapes

    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.empty(shape).uniform_(-0.035, 0.035, generator=generator) + ("norm" in name and "weight" in name)
        for name, shape in weight_shapes("vit_b16").items()
    }
