"""A director that does not do its work: the guest panics, hangs, runs out of memory or stops, as the plan asks."""

import json
import os
import threading
from pathlib import Path

CHUNK_BYTES = 64 << 20


def main(run_folder: Path) -> None:
    how = json.loads((run_folder / "plan.json").read_text())["policy_options"]["misbehave"]
    print(f"the director is about to {how}", flush=True)
    if how == "panic":
        os._exit(1)  # the first process of a kernel must not end
    if how == "hang":
        threading.Event().wait()
    if how == "overeat":
        eaten = []
        while True:
            eaten.append(b"x" * CHUNK_BYTES)
    raise RuntimeError(f"told to {how}")
