"""Committed placements on disk: one JSON line each, fsynced before the move goes on.

Rules: epochs strictly increase; a line counts when it ends with a newline and its digest is right; a torn last
line was never committed and is cut off before the next one is written; damage anywhere else is an error.
"""

import errno
import json
import os
import zlib
from pathlib import Path

from controller.model import Placement


class LedgerError(Exception):
    """The ledger cannot be trusted or written; the message says where and why."""


class Ledger:
    """Opens or creates the ledger at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._commits, whole = _read(path)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)
        _sync_folder(path.parent)

    def commit(self, placement: Placement, t_us: int) -> None:
        """Writes and fsyncs; on return the placement is the truth."""
        last = self.last_epoch()
        if placement.epoch <= last:
            raise LedgerError(f"{self._path}: epoch {placement.epoch} after {last}; epochs strictly increase")
        nodes = {stream: list(row) for stream, row in placement.nodes.items()}
        line = _line({"epoch": placement.epoch, "placement": nodes, "t_us": t_us})
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)  # what was not confirmed must not be found later
            raise LedgerError(f"{self._path}: epoch {placement.epoch} was not written: {error.strerror}") from error
        self._commits.append(placement)

    def recover(self) -> Placement | None:
        """The last committed placement."""
        return self._commits[-1] if self._commits else None

    def history(self) -> tuple[Placement, ...]:
        return tuple(self._commits)

    def last_epoch(self) -> int:
        return self._commits[-1].epoch if self._commits else 0

    def close(self) -> None:
        self._file.close()


def _line(record: dict[str, object]) -> bytes:
    body = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return f'{{"crc":{zlib.crc32(body.encode())},"record":{body}}}\n'.encode()


def _read(path: Path) -> tuple[list[Placement], int]:
    """The commits, and how many bytes of the file hold them."""
    data = path.read_bytes() if path.exists() else b""
    commits: list[Placement] = []
    whole = 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        placement = _parse(line)
        if placement is None and number == len(lines):
            break
        if placement is None:
            raise LedgerError(f"{path}:{number}: damaged record; only the last line may be torn")
        if commits and placement.epoch <= commits[-1].epoch:
            raise LedgerError(f"{path}:{number}: epoch {placement.epoch} after {commits[-1].epoch}")
        commits.append(placement)
        whole += len(line)
    return commits, whole


def _parse(line: bytes) -> Placement | None:
    if not line.endswith(b"\n"):
        return None
    try:
        outer = json.loads(line)
        record = outer["record"]
        if line != _line(record) or set(record) != {"epoch", "placement", "t_us"}:
            return None
        return Placement(record["epoch"], {stream: tuple(row) for stream, row in record["placement"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
