"""The traces of background load that nodes of an experiment name: found, read and counted."""

from collections.abc import Sequence
from pathlib import Path

from testbed.experiment.errors import Fault
from testbed.experiment.overrides import Source, dotted
from testbed.experiment.schema import Experiment
from testbed.schedule import MAX_CHANGES
from testbed.trace.loads import Loads, parse_loads
from testbed.trace.lookup import find
from testbed.trace.rows import MAX_BYTES, TraceError


def load_loads(experiment: Experiment, source: Source, folders: Sequence[Path]) -> dict[str, Loads]:
    """Node -> its trace; what is wrong is blamed in the source."""
    found: dict[str, Loads] = {}
    for name, node in experiment.nodes.items():
        if node.load_trace is None:
            continue
        where, path = ("nodes", name, "load_trace"), Path(node.load_trace)
        try:
            if source.option(where) is None or not path.exists():  # an option may name a file anywhere
                path = find(node.load_trace, folders)
            found[name] = parse_loads(_bytes(path), path.name)
        except TraceError as fault:
            if fault.line:
                source.faults.append(Fault(str(path), fault.line, dotted(where), fault.why))
            else:
                source.blame(where, str(fault))
            continue
        if found[name].count(experiment.trace_end, experiment.duration_us) > MAX_CHANGES:
            source.blame(where, f"more than {MAX_CHANGES} steps in the run; longer steps are right")
    return found


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise TraceError(0, f"{path} is no file of at most {MAX_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as fault:
        raise TraceError(0, f"cannot read {path}: {fault.strerror}") from None
