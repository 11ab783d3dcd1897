"""Points in time as data sets write them, to microseconds on the calendar. Pure.

A zone is read but not reckoned with unless it is an offset: only differences inside a file matter.
"""

import re
from datetime import UTC, datetime, timedelta

from testbed.trace.rows import TraceError

_GNETTRACK = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)_(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_ZONE_NAME = re.compile(r" [A-Z]{2,5}$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_us(text: str, line: int) -> int:
    """Raises TraceError."""
    text = text.strip()
    try:
        found = _parsed(text)
    except (ValueError, OverflowError):
        raise TraceError(
            line, f"{text[:40]!r} is not a point in time; one like '2023-04-12 10:40:20.5' is right"
        ) from None
    return (found.replace(tzinfo=found.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)


def _parsed(text: str) -> datetime:
    if len(text) > 64:
        raise ValueError
    gnettrack = _GNETTRACK.fullmatch(text)
    if gnettrack:
        return datetime(*map(int, gnettrack.groups()))  # type: ignore[arg-type]
    if text[:3].isalpha():  # as `date` writes it
        words = text.split()
        return datetime.strptime(" ".join([*words[:4], words[-1]]), "%a %b %d %H:%M:%S %Y")
    return datetime.fromisoformat(_ZONE_NAME.sub("", text))
