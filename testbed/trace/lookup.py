"""Where traces lie: a name in an experiment to a file, and a file to a series.

Rules: a name stays inside the folders it may be in (beside the experiment, the project's traces/, --trace-dir): it
is relative, has no "..", and leads nowhere else by a symbolic link. Only a path of the command line may lie anywhere.
"""

import hashlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from testbed.trace.edit import pair
from testbed.trace.formats import MAX_BYTES, Format, TraceError, parse
from testbed.trace.series import Series
from testbed.trace.sidecard import MAX_BYTES as MAX_CARD_BYTES
from testbed.trace.sidecard import card_path, with_card

PROJECT_TRACES = Path(__file__).resolve().parents[2] / "traces"


def find(name: str, folders: Sequence[Path]) -> Path:
    """The first folder that has it: as it is, with ".csv", or as a pair of ".up" and ".down". Raises TraceError."""
    pure = PurePosixPath(name)
    if not name or "\0" in name or "\\" in name or len(name) > 255:
        raise TraceError(0, f"{name[:40]!r} is not the name of a trace; one like 'urban_ue1.csv' is right")
    if pure.is_absolute() or ".." in pure.parts:
        raise TraceError(
            0,
            f"trace '{name}' leaves the folders of traces; name one beside the experiment, in traces/ or in a "
            "--trace-dir (a path given by --set may lie anywhere)",
        )
    for folder in folders:
        home = folder.resolve()
        for path in (home / name, home / f"{name}.csv"):
            there = [path] if path.exists() else _pair_of(path)
            if there:
                if not all(one.resolve().is_relative_to(home) for one in there):
                    raise TraceError(0, f"trace '{name}' is a link out of {folder}; a file inside is right")
                return path
    looked = ", ".join(str(folder) for folder in folders)
    raise TraceError(0, f"there is no trace '{name}' in {looked}; put it there or name its folder with --trace-dir")


def _pair_of(path: Path) -> list[Path]:
    """Both files of a trace that has one for each direction, or none."""
    both = [path.with_name(f"{path.name}.{direction}") for direction in ("up", "down")]
    return both if all(one.exists() for one in both) else []


def read_trace(path: Path, form: Format | None = None, columns: Mapping[str, str] | None = None) -> Series:
    """With what its side-card says. A path that is not there but has ".up" and ".down" is that pair.

    `columns` as in `formats.parse`. Raises TraceError.
    """
    both = [] if path.exists() else _pair_of(path)
    if both:
        try:
            up, down = (read_trace(one, form, columns) for one in both)
        except TraceError as fault:
            raise TraceError(fault.line, f"of the pair .up and .down: {fault.why}") from None
        return pair(up, down, path.name)
    data = _bytes(path, MAX_BYTES)
    series = parse(data, path.name, form, columns)
    card = card_path(path)
    if not card.is_file():
        return series
    try:
        return with_card(series, _bytes(card, MAX_CARD_BYTES).decode(), hashlib.sha256(data).hexdigest())
    except UnicodeDecodeError:
        raise TraceError(0, f"its side-card {card.name} is not UTF-8") from None


def _bytes(path: Path, most: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise TraceError(0, f"{path} is {kind}; a trace is a file")
        if status.st_size > most:
            with path.open("rb") as file:
                line = file.read(most).count(b"\n") + 1 if most == MAX_BYTES else 0
            raise TraceError(
                line, f"{path.name} has more than {most // 2**20} MiB, which is passed here; a part is right"
            )
        return path.read_bytes()
    except OSError as fault:
        raise TraceError(0, f"cannot read {path}: {fault.strerror}") from None
