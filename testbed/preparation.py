"""A program of `nodes.prepare`, which makes files of a model outside any guest and says in JSON what it has made."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from testbed.cache import cache_folder
from testbed.kernel.sandbox import dies_with_parent

TOLD = 600  # characters of what went wrong


class Failed(Exception):
    """It did not come to its end; the message is the end of what it said."""


def prepared(program: str, words: Sequence[str]) -> dict[str, Any]:
    """What `python -m nodes.prepare.PROGRAM WORDS --cache FOLDER` says, on one thread. Raises Failed."""
    cache = cache_folder("models").resolve()
    done = subprocess.run(
        [sys.executable, "-m", f"nodes.prepare.{program}", *words, "--cache", str(cache)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=dies_with_parent(),
    )
    if done.returncode:
        raise Failed(done.stderr.strip()[-TOLD:])
    made: dict[str, Any] = json.loads(done.stdout)
    return made
