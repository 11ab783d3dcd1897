"""The journal: the only writer of what happened in a run, and its reader. The fields are in docs/journal.md.

Rules: every process appends to a part of its own, one `write` a record, so that a killed process loses at most
the record it was writing. The parts are merged once, outside. This module runs inside the guest: nothing heavy.

    record = Journal(folder, "player").record
    record("step", 1_000_000, link="radio1", direction="up", readback_ok=True)
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS = "parts"
MERGED = "journal.jsonl"


class JournalError(Exception):
    """A journal that cannot be what the testbed wrote: names file and line."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")
        self.path, self.line, self.why = path, line, why


class NoRun(Exception):
    """The folder is none of a run."""


class Journal:
    """Appends to `folder/parts/<part>.jsonl`; a part has one writing process at a time, with any number of threads."""

    def __init__(self, folder: Path, part: str) -> None:
        self.path = folder / PARTS / f"{part}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file: int | None = os.open(self.path, flags, 0o644)
        _drop_torn_line(self._file)

    def record(self, kind: str, t_us: int, **fields: Any) -> None:
        """Append one record. ValueError: a number that is not finite; TypeError: a value JSON has no word for."""
        text = json.dumps(
            {"kind": kind, "t_us": t_us, **fields}, default=_plain, allow_nan=False, separators=(",", ":")
        )
        line = text.encode() + b"\n"
        with self._lock:
            if self._file is None:
                raise ValueError(f"journal {self.path} is closed: {kind} record refused")
            while line:  # a second write happens only when the disk is almost full
                line = line[os.write(self._file, line) :]

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one file in order. A torn last line is left out; JournalError for one anywhere else."""
    for _, record in _lines(path):
        yield record


def recorded(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run folder in order. Raises NoRun, before anything is written there."""
    if not (folder / PARTS).is_dir() and not (folder / MERGED).is_file():
        raise NoRun(f"{folder}: no run folder; `testbed run` names it at its end")
    return read(merge(folder))


def merge(folder: Path) -> Path:
    """Merge the parts into `folder/journal.jsonl`, ordered by `t_us`, then part, then position. Atomic, repeatable."""
    merged = folder / MERGED
    parts = sorted((folder / PARTS).glob("*.jsonl"))
    if not parts and merged.exists():
        return merged
    rows = [
        (record["t_us"], part, position, line)
        for part, path in enumerate(parts)
        for position, (line, record) in enumerate(_lines(path))
    ]
    rows.sort(key=lambda row: row[:3])
    write_atomically(merged, b"".join(row[3] + b"\n" for row in rows))
    return merged


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` as a whole: after a crash there is the old content or the new, never a mixture."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # the writer was killed within this record
            try:
                record = json.loads(line)
            except ValueError:
                if not file.read(1):
                    return  # torn as well: the length reached the disk before the content
                raise JournalError(path, number, "not JSON, and not the last line") from None
            if not isinstance(record, dict) or "kind" not in record or not isinstance(record.get("t_us"), int):
                raise JournalError(path, number, "a record is an object with `kind` and an integer `t_us`")
            yield line[:-1], record


def _drop_torn_line(file: int) -> None:
    """A process started again goes on behind the last whole record of the one that was killed."""
    size = end = os.lseek(file, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)


def _plain(value: Any) -> Any:
    """What JSON does not know: our frozen dataclasses, numpy's numbers and arrays, sets."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"the journal holds JSON only, not {type(value).__name__}: {value!r}")
