"""Why the controller did what it did: the decisions of a journal in words. Pure: records -> lines, or one JSON value.

The overview has a line a decision, with how far that is above the optimum as far as is known; one decision has what was
seen, what triggered, every candidate with its predicted latency in parts, and why the others lost. Where it was proven
since, `proof` (testbed/proof/recalled.py) says how.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from testbed.decisions import Record, above

UNREACHABLE_US = 10**12  # controller.cost
PARTS = ("compute", "queue", "transfer", "propagation")


class NoDecision(Exception):
    """The run holds no such decision: says which there are."""


def pick(found: Sequence[Record], number: int | None) -> Record:
    """The decision of that number; None: the last that moved something, or the last. Raises NoDecision."""
    if not found:
        raise NoDecision("the run holds no decision")
    if number is None:
        return next((r for r in reversed(found) if r["action"] in ("REMAP", "RESPLIT")), found[-1])
    for record in found:
        if record["n"] == number:
            return record
    raise NoDecision(f"there is no decision {number}; there are {found[0]['n']} to {found[-1]['n']}")


def overview(found: Sequence[Record]) -> Iterator[str]:
    for record in found:
        causes = ", ".join(f"{t['kind']} {t['subject']}" for t in record["triggers"]) or "no trigger"
        what = f"{record['n']:>4}  {_at(record)}  {record['action']:<10}  {_above(record):<8}"
        yield f"{what}  {causes}: {record['reason']}"


def _above(record: Record) -> str:
    """How far what was decided is above the optimum, as far as that is known."""
    known = above(record)
    if known is None or any(candidate.get("parts") for candidate in record["candidates"]):
        return ""
    if not known.share or (known.certain and not record["proof"]["better"]):
        return "optimal"
    return f"{'' if known.certain else '≤ '}{_percent(known.share)}"


def detail(record: Record) -> Iterator[str]:
    yield f"decision {record['n']} at {_at(record).strip()}: {record['action']}, epoch {record['epoch']}"
    yield f"  reason     {record['reason']}"
    if record.get("refused"):
        yield f"  refused    {record['refused']}"
    yield f"  took       {record['duration_us'] / 1e3:.2f} ms"
    for trigger in record["triggers"]:
        yield f"  triggered  {trigger['kind']} {trigger['subject']}: {_change(trigger)}"
    yield from _seen(record.get("seen") or {}, record.get("expected") or {})
    weights = record.get("weights", {})
    for weight in sorted(set(weights.values())):
        yield f"  weight {weight:<3g} {', '.join(stream for stream, its in weights.items() if its == weight)}"
    bound, apart = record["lower_bound_us"], any(candidate.get("parts") for candidate in record["candidates"])
    if bound:
        but = ", waiting not counted" if apart else _counted(record)
        yield f"  bound      no placement is below {bound / 1e3:.1f} ms{but}" + _gap(record["gap"])
    elif apart:
        yield "  bound      no bound"
    if proof := record.get("proof"):
        yield from _proof(record, proof)
    if record.get("unproven"):
        yield f"  not proven {record['unproven']}"
    for candidate in record["candidates"]:
        yield from _candidate(candidate, bound)


def _at(record: Record) -> str:
    return f"{record['t_us'] / 1e6:9.3f} s"


def _change(trigger: Mapping[str, Any]) -> str:
    """In the unit of what is watched; see controller/detect.py."""
    now, baseline = trigger["now"], trigger["baseline"]
    if trigger["kind"] in ("link_latency", "end_to_end"):
        return f"{baseline / 1e3:.1f} ms -> {now / 1e3:.1f} ms"
    if trigger["kind"] == "link_rate":
        return f"{baseline / 1e6:.2f} Mbit/s -> {now / 1e6:.2f} Mbit/s"
    if trigger["kind"] == "load":
        return f"{100 * baseline:.0f} % -> {100 * now:.0f} %"
    said = {"start": "it begins", "node_down": "it went down", "privacy": "it may not stay where it is"}
    return said.get(trigger["kind"], "it is up")


def _seen(seen: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """What was seen, and, where a policy decided on something else, what it expected."""
    then = dict(_states(expected))
    for what, state in _states(seen):
        but = f"; expected: {then[what]}" if then.get(what, state) != state else ""
        yield f"  seen       {what}: {state}{but}"
    for stream, us in seen.get("latency_us", {}).items():
        yield f"  seen       {stream}: {us / 1e3:.1f} ms measured"


def _states(known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of each node, and each path."""
    for node in known.get("nodes", ()):
        state = f"load {node['load_ppm'] / 1e4:.0f} %, backlog {node['queue_us'] / 1e3:.1f} ms"
        yield node["node"], state if node["up"] else "down"
    for path in known.get("paths", ()):
        state = f"{path['delay_us'] / 1e3:.1f} ms, {path['rate_bps'] / 1e6:.2f} Mbit/s"
        yield f"{path['from']} -> {path['to']}", state if path["rate_bps"] else "no path"


def _gap(gap: float | None) -> str:
    return "" if gap is None else f"; the chosen one is {100 * gap:.1f} % above it"


def _proof(record: Record, proof: Mapping[str, Any]) -> Iterator[str]:
    chosen = next(candidate for candidate in record["candidates"] if not candidate["why_not"])
    least, better = f"no placement is below {_ms(proof['bound_us'])}{_counted(record)}", proof["better"]
    # what was weighed, and lost for another reason, stands below with all its parts
    weighed = [c["name"] for c in record["candidates"] if better and c["nodes"] == {**chosen["nodes"], **better}]
    if proof["open"]:
        above = "" if proof["gap"] is None else f"; the chosen one is at most {_percent(proof['gap'])} above it"
        one = f"the candidate {weighed[0]}" if weighed else "a better one"
        known = f"; {one} has {_ms(proof['found_us'])}" if better else ""
        said = f"  not proven {proof['open']}; {least}{above}{known}"
    elif better:
        one = f"the candidate {weighed[0]}" if weighed else "this one"
        said = f"  proven     {least}; the chosen one is {_percent(proof['gap'])} above it, which {one} is not"
    else:
        said = f"  proven     {least}: the chosen one is optimal"
    shown = {} if weighed else better
    yield said + (":" if shown else "")
    for stream, nodes in shown.items():
        yield f"             {stream}: {_way(nodes)}"


def _counted(record: Record) -> str:
    """What is in the bound beside the latencies of the streams looked at."""
    others = any(one["nodes"].keys() - one["predicted"].keys() for one in record["candidates"])
    weighted = ", by weight" if record.get("weights") else ""
    beside = {name: None for one in record["candidates"] for name in one.get("beside_us") or {}}
    weighted += f", with {' and '.join(beside)}" if beside else ""
    return weighted + (", the streams not looked at staying, their longer waits counted" if others else "")


def _percent(share: float) -> str:
    """As fine as it must be to be seen."""
    return f"{100 * share:.{2 if share >= 1e-4 else 4}f} %"


def _candidate(candidate: Mapping[str, Any], bound: int) -> Iterator[str]:
    apart = candidate.get("parts") or {}
    total = sum(parts["total_us"] for parts in candidate["predicted"].values())
    counts, beside = candidate.get("weighted_us"), candidate.get("beside_us") or {}
    if counts is None or abs(counts - total) <= 2 * len(candidate["predicted"]) + 1:  # no more than was rounded
        counts = total
    above = counts + sum(apart[s]["weighed_us"] - candidate["predicted"][s]["queue_us"] for s in apart)
    said = _ms(total) + (f", counted as {_ms(counts)}" if counts != total else "")
    said += "".join(f", of that {name} {_ms(us)}" for name, us in beside.items() if us)
    said += f", {100 * (above / bound - 1):.1f} % above the bound" if 0 < bound <= above < UNREACHABLE_US else ""
    moved = (
        f", moves {candidate['move_bytes'] / 1e6:.1f} MB in {_ms(candidate['move_us'])}"
        if candidate["move_bytes"]
        else ""
    )
    yield f"  candidate  {candidate['name']}: {said}{moved}"
    yield f"             {'lost: ' + candidate['why_not'] if candidate['why_not'] else 'chosen'}"
    for stream, nodes in candidate["nodes"].items():
        parts = candidate["predicted"].get(stream, {})
        split = ", ".join(f"{part} {_ms(parts[f'{part}_us'])}" for part in PARTS if parts)
        yield f"             {stream}: {_way(nodes)}" + (f": {split}" if split else "")
        if stream in apart:
            yield f"             {stream}: {_apart(apart[stream])}"


def _apart(parts: Mapping[str, Any]) -> str:
    """Of layers on several nodes: what goes within them, and what moves beside the prediction."""
    said = (
        f"{parts['layers']} layers by parts, within them {parts['collect_bytes']} bytes and {_ms(parts['collect_us'])}"
    )
    if parts["kv_bytes"]:
        said += f"; moves {parts['kv_bytes']} bytes of keys and values in {_ms(parts['kv_us'])}"
        said += f", {parts['weighed_us']} us a request" if parts["weighed_us"] else ", not weighed"
    return said


def _way(nodes: Sequence[str]) -> str:
    """ue1[0-3] mec1[4-13], blocks inclusive."""
    first, found = 0, []
    for node, group in groupby(nodes):
        last = first + len(list(group)) - 1
        found.append(f"{node}[{first}-{last}]")
        first = last + 1
    return " ".join(found)


def _ms(us: float) -> str:
    return "unreachable" if us >= UNREACHABLE_US else f"{us / 1e3:.1f} ms"
