"""The side-card of a recording: how it was recorded and what was done to it. Pure.

`X.csv` has its card in `X.json`, any other file `F` in `F.json`. A card with a `model` is that of a generated trace
and says all of it (`radio`, `regimes`). A card with a `sha256` belongs to the trace of that digest only.
"""

import json
from dataclasses import replace
from pathlib import PurePath
from typing import TypeVar, get_args

from testbed.trace.rows import TraceError
from testbed.trace.series import Recorded, Series

MAX_BYTES = 2**20
_Path = TypeVar("_Path", bound=PurePath)


def card_path(trace: _Path) -> _Path:
    return trace.with_suffix(".json") if trace.suffix == ".csv" else trace.with_name(trace.name + ".json")


def is_card(text: str) -> bool:
    """Of a recording or of a generated trace: what may be written over."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and ("recorded" in raw or "model" in raw)


def to_card(series: Series, sha256: str) -> str:
    """`sha256`: of the file that the card lies beside."""
    told = {"recorded": series.recorded, "scale_ppm": series.scale_ppm, "made": list(series.made), "sha256": sha256}
    return json.dumps(told, indent=2) + "\n"


def with_card(series: Series, text: str, sha256: str) -> Series:
    """What the card says goes before what the reader supposed; other JSON is none of ours. Raises TraceError."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise TraceError(0, f"its side-card is not JSON: {fault}") from None
    if not isinstance(raw, dict) or not ("recorded" in raw or "model" in raw):
        return series
    if raw.get("sha256", sha256) != sha256:
        card = card_path(PurePath(series.name)).name
        raise TraceError(
            0,
            f"the digest of {series.name} is {sha256} but its side-card {card} says {raw['sha256']!s:.64}: the trace "
            "was changed, or the card is of another; if it was on purpose, take 'sha256' out of the card",
        )
    if "recorded" not in raw:
        return replace(series, recorded="generated")
    recorded, made, scale = raw["recorded"], raw.get("made", []), raw.get("scale_ppm", 10**6)
    if recorded not in get_args(Recorded):
        raise TraceError(0, f"its side-card says recorded {recorded!r}; right are {', '.join(get_args(Recorded))}")
    if not isinstance(made, list) or not all(isinstance(one, str) and one.isprintable() for one in made):
        raise TraceError(0, "its side-card has no list of plain texts in 'made'")
    if not isinstance(scale, int) or isinstance(scale, bool) or scale <= 0:
        raise TraceError(0, f"its side-card says scale_ppm {scale!r}; a whole number above 0 is right")
    return replace(series, recorded=recorded, made=tuple(dict.fromkeys((*series.made, *made))), scale_ppm=scale)
