"""Once: one outcome a request, one answer, and each step of it computed at most once."""

from collections import Counter
from collections.abc import Sequence
from typing import Any


def violations(records: Sequence[dict[str, Any]]) -> list[str]:
    requests = [record for record in records if record["kind"] == "request"]
    found = []
    for (stream, number), times in Counter((r["stream"], r["id"]) for r in requests).items():
        if times > 1:
            found.append(f"{stream}/{number} ended {times} times")
    for request in requests:
        name = f"{request['stream']}/{request['id']}"
        if request["duplicates"]:
            found.append(f"{name} was answered {request['duplicates']} times more")
        computed = Counter(span["step"] for span in request["spans"] if span["kind"] == "compute")
        found += [f"{name} computed step {step} {times} times" for step, times in computed.items() if times > 1]
    return found
