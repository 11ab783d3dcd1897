"""The same experiment under several policies, side by side. Pure: summaries -> one answer."""

from collections.abc import Mapping

from testbed.summary import Summary


class NotComparable(Exception):
    """The runs differ in more than their policy: says in what."""


def comparison(summaries: Mapping[str, Summary]) -> dict[str, dict[str, Summary]]:
    """{"policies": {name: summary}} in the order given. NotComparable when experiment, seed, clock or kernel differ.

    A run that never started has none of these, and is INVALID rather than not comparable.
    """
    for field in ("name", "seed", "clock", "kernel"):
        values = {name: summary[field] for name, summary in summaries.items() if summary["name"] is not None}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in values.items())
            raise NotComparable(f"the runs differ in `{field}` ({told}); compare runs that differ in their policy only")
    return {"policies": dict(summaries)}
