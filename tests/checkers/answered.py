"""Answered: every request that was sent ended, ok or with a named error, in time."""

from collections.abc import Sequence
from typing import Any


def violations(records: Sequence[dict[str, Any]], limit_us: int) -> list[str]:
    """`limit_us`: the longest that a request may take to end, deadline and grace included."""
    requests = [record for record in records if record["kind"] == "request"]
    ends = [record for record in records if record["kind"] == "end"]
    found = []
    told = {(request["stream"], request["id"]) for request in requests}
    if not ends:
        found.append("the run has no end: how many requests were sent is unknown")
    elif ends[-1]["sent"] != len(told):
        found.append(f"{ends[-1]['sent']} requests were sent, {len(told)} ended")
    for request in requests:
        name = f"{request['stream']}/{request['id']}"
        if request["outcome"] == "ok" and request["done_us"] is None:
            found.append(f"{name} is ok without an answer")
        elif request["outcome"] == "ok" and request["done_us"] < request["sent_us"]:
            found.append(f"{name} was answered before it was sent")
        elif request["outcome"] == "failed" and not request["error"]:
            found.append(f"{name} failed without a named error")
        elif request["outcome"] not in ("ok", "failed"):
            found.append(f"{name} has outcome {request['outcome']!r}")
        end_us = request["t_us"] if request["done_us"] is None else request["done_us"]
        if end_us - request["sent_us"] > limit_us:
            found.append(f"{name} took {end_us - request['sent_us']} us to end, limit {limit_us} us")
    return found
