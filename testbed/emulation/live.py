"""What a run says of itself while it goes: one JSON object a line in the run folder, for the progress display."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "live.jsonl"


class LiveFile:
    """The writing end, in any process of the run."""

    def __init__(self, run_folder: Path) -> None:
        self.descriptor = os.open(run_folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def phase(self, text: str) -> None:
        self.say({"phase": text})

    def say(self, values: dict[str, Any]) -> None:
        os.write(self.descriptor, json.dumps(values).encode() + b"\n")


class LiveReader:
    """The reading end, outside the sandbox: what is new at each call."""

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / FILE
        self.position = 0

    def new(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.position += len(line)
                yield json.loads(line)
