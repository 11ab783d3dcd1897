"""Finding a policy: by the name of an entry point, or as `path/to/file.py:Name`, a class in a file that is run."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from controller.model import Problem
from controller.policies.protocol import Policy
from controller.policies.start import BadOption
from controller.policies.wishes import wished

GROUP = "testbed.policies"
METHODS = ("start", "decide")


class NoPolicy(Exception):
    """There is no such policy, or it cannot be had: the message says why and what would be right."""


def installed() -> list[str]:
    """The names of all entry points."""
    return sorted(_entry_points().names)


def in_file(name: str) -> tuple[Path, str] | None:
    """The file and the class when the name is of that kind."""
    path, colon, wanted = name.rpartition(":")
    return (Path(path), wanted) if colon and path.endswith(".py") else None


def label(name: str) -> str:
    """What tables and folders call a policy: its entry point, or its class."""
    place = in_file(name)
    return place[1] if place else name


def find(name: str) -> type[Policy]:
    """The policy's class; raises NoPolicy. Runs the file, whatever is in it."""
    place = in_file(name)
    found = _in_file(*place) if place else _entry_point(name)
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise NoPolicy(f"policy {name}: a class with {' and '.join(METHODS)} is right")
    return found


def build(name: str, problem: Problem, options: Mapping[str, Any]) -> tuple[Problem, Policy]:
    """The policy, and the problem with the wishes of its options. Raises NoPolicy and, for an option, BadOption."""
    kind, asked = find(name), wished(problem, options)
    try:
        return asked, kind(asked, options)
    except BadOption:
        raise
    except Exception as error:
        raise NoPolicy(f"policy {name}: cannot be made: {type(error).__name__}: {error}") from error


@cache
def _entry_points() -> EntryPoints:
    """Read once: that takes as long as deciding over a small problem."""
    return entry_points(group=GROUP)


def _entry_point(name: str) -> object:
    point = next((point for point in _entry_points() if point.name == name), None)
    if point is None:
        raise NoPolicy(f"no policy '{name}'; there are {', '.join(installed())}, or path/to/file.py:Name")
    try:
        return point.load()
    except Exception as error:
        raise NoPolicy(f"policy {name}: {point.value} cannot be loaded: {type(error).__name__}: {error}") from error


def _in_file(path: Path, wanted: str) -> object:
    spec = spec_from_file_location(f"policy_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise NoPolicy(f"policy {path}:{wanted}: there is no such file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise NoPolicy(f"policy {path}: cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, wanted):
        classes = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == spec.name]
        raise NoPolicy(f"policy {path}: there is no {wanted}; there are {', '.join(classes) or 'no classes'}")
    return getattr(module, wanted)
