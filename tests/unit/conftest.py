"""Fixtures of more than one file; what they need is imported by those who ask for them."""

import contextlib

import pytest

pytest.register_assert_rewrite("tests.unit.hosts")


@pytest.fixture
def world(tmp_path):
    from tests.unit.hosts import World

    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture(scope="session")
def full_weights():
    """Of the full-sized vision transformer: some seconds to make."""
    from nodes import weights

    return weights.make("vit_b16", 0)
