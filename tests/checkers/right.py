"""Right: every answer was compared with that of the unsplit model, and equal."""

from collections.abc import Sequence
from typing import Any


def violations(records: Sequence[dict[str, Any]]) -> list[str]:
    """A run without a single answer is not right either."""
    ok = [record for record in records if record["kind"] == "request" and record["outcome"] == "ok"]
    if not ok:
        return ["no request was answered"]
    names = {False: "was not compared", True: "differs from the unsplit model"}
    return [
        f"{request['stream']}/{request['id']} (epoch {request['epoch']}) {names[request['checked']]}"
        for request in ok
        if not (request["checked"] and request["equal"])
    ]
