"""One measurement on each of two event engines of gRPC's core: the nodes' (nodes/wire/engine.py) and its own choice.

The engine is chosen once a process. The older one serves small messages faster and unary calls of many MiB slower, so
that a rival of the streams is given the better of both.
"""

import json
import os
import subprocess
import sys
from typing import Any

from nodes.wire import engine


def on_each(module: str) -> tuple[Any, Any]:
    """What `python -m MODULE --measure` prints as JSON: as the nodes run, and as gRPC does when nobody chooses."""
    others = {name: value for name, value in os.environ.items() if name not in engine.ENVIRONMENT}
    nodes, default = (_measured(module, environment) for environment in ({**others, **engine.ENVIRONMENT}, others))
    return nodes, default


def _measured(module: str, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", module, "--measure"]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])
