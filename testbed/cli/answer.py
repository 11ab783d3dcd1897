"""What a command says at its end: its result, or in one place why there is none."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

FAILED = 1
WRONG_INPUT = 2

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]


def say_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def stop(code: int, why: str, as_json: bool) -> typer.Exit:
    """`why` for people and, with --json, for programs; to be raised."""
    # Faults of an input begin with file and line, as editors expect.
    print(why if code == WRONG_INPUT else f"testbed: {why}", file=sys.stderr)
    if as_json:
        say_json({"error": why})
    return typer.Exit(code)


@contextmanager
def answering(
    as_json: bool, *, wrong: tuple[type[Exception], ...] = (), failed: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Ends the command in order when its input is `wrong` or what it asks for `failed`."""
    try:
        yield
    except wrong as error:
        raise stop(WRONG_INPUT, str(error), as_json) from None
    except failed as error:
        raise stop(FAILED, str(error), as_json) from None
