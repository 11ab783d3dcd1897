"""Where traces lie: a name in an experiment to a file, and a file to a series.

Rules: a name stays inside the folders it may be in (beside the experiment, the project's traces/, --trace-dir): it
is relative, has no "..", and leads nowhere else by a symbolic link. Only a path of the command line may lie anywhere.
"""

import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from testbed.trace.formats import MAX_BYTES, Format, TraceError, parse
from testbed.trace.series import Series

PROJECT_TRACES = Path(__file__).resolve().parents[2] / "traces"


def find(name: str, folders: Sequence[Path]) -> Path:
    """The first folder that has it, with or without ".csv". Raises TraceError."""
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
            if path.exists():
                if not path.resolve().is_relative_to(home):
                    raise TraceError(0, f"trace '{name}' is a link out of {folder}; a file inside is right")
                return path
    looked = ", ".join(str(folder) for folder in folders)
    raise TraceError(0, f"there is no trace '{name}' in {looked}; put it there or name its folder with --trace-dir")


def read_trace(path: Path, form: Format | None = None) -> Series:
    """Raises TraceError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise TraceError(0, f"{path} is {kind}; a trace is a file")
        if status.st_size > MAX_BYTES:
            raise TraceError(0, f"the trace has more than {MAX_BYTES // 2**20} MiB; cut or resample it")
        data = path.read_bytes()
    except OSError as fault:
        raise TraceError(0, f"cannot read {path}: {fault.strerror}") from None
    return parse(data, path.name, form)
