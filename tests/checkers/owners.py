"""One owner: epochs only grow, are used only once committed, and in each a step of a stream runs on one node."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def violations(records: Sequence[dict[str, Any]]) -> list[str]:
    commits = [r for r in records if r["kind"] == "move" and r["phase"] == "commit"]
    requests = [r for r in records if r["kind"] == "request"]
    return [*_growing(commits), *_committed(commits, requests), *_one_node(requests), *_no_way_back(requests)]


def _growing(commits: Sequence[dict[str, Any]]) -> list[str]:
    pairs = pairwise(commits)
    return [f"epoch {b['epoch']} was committed after {a['epoch']}" for a, b in pairs if b["epoch"] <= a["epoch"]]


def _committed(commits: Sequence[dict[str, Any]], requests: Sequence[dict[str, Any]]) -> list[str]:
    since = {commit["epoch"]: commit["t_us"] for commit in commits}
    found = []
    for request in requests:
        name, epoch = f"{request['stream']}/{request['id']}", request["epoch"]
        if epoch not in since:
            found.append(f"{name} used epoch {epoch}, which was never committed")
        elif request["sent_us"] < since[epoch]:
            found.append(f"{name} used epoch {epoch} before it was committed")
    return found


def _one_node(requests: Sequence[dict[str, Any]]) -> list[str]:
    owners: dict[tuple[int, str, int], set[str]] = defaultdict(set)
    for request in requests:
        for span in request["spans"]:
            if span["kind"] == "compute":
                owners[request["epoch"], request["stream"], span["step"]].add(span["node"])
    return [
        f"epoch {epoch}: step {step} of {stream} ran on {', '.join(sorted(nodes))}"
        for (epoch, stream, step), nodes in sorted(owners.items())
        if len(nodes) > 1
    ]


def _no_way_back(requests: Sequence[dict[str, Any]]) -> list[str]:
    newest: dict[str, int] = defaultdict(int)
    found = []
    for request in sorted(requests, key=lambda r: r["sent_us"]):
        if request["epoch"] < newest[request["stream"]]:
            found.append(f"{request['stream']}/{request['id']} went back to epoch {request['epoch']}")
        newest[request["stream"]] = max(newest[request["stream"]], request["epoch"])
    return found
