"""An experiment file, with options of the command line, to a checked `Experiment`."""

import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from nodes.models.config import CONFIGS
from testbed.experiment.checks import check
from testbed.experiment.errors import SHOWN, ExperimentError, Fault
from testbed.experiment.loads import load_loads
from testbed.experiment.mobility_checks import recorded
from testbed.experiment.overrides import Source, dotted
from testbed.experiment.reader import MAX_BYTES, Where, read
from testbed.experiment.schema import Experiment
from testbed.experiment.tracing import load_recordings, load_traces, notes
from testbed.experiment.wording import findings
from testbed.trace.lookup import PROJECT_TRACES

FAMILIES = tuple(CONFIGS)


def load_experiment(
    path: str | Path,
    *,
    sets: Sequence[str] = (),
    trace_dirs: Sequence[str | Path] = (),
    seed: int | None = None,
    policy: str | None = None,
    families: Sequence[str] = FAMILIES,
    policies: Sequence[str] | None = None,
) -> Experiment:
    """Raises ExperimentError with all that is wrong; `policies` None leaves the policy's name unchecked."""
    path = Path(path)
    source = _read(path)
    for assignment in sets:
        source.set_text(assignment)
    if seed is not None:
        source.set(["seed"], seed, f"--seed {seed}")
    if policy is not None:
        source.set(["policy", "name"], policy, f"--policy {policy}")
    else:
        _beside(path, _part(source.value, "policy"), "name")
    for model in _part(source.value, "models").values():
        _beside(path, model, "module")
    _stop_at_faults(source)
    try:
        experiment = Experiment.model_validate(_tuples(source.value))
    except ValidationError as error:
        for where, why in islice(findings(error.errors(include_url=False)), SHOWN + 1):
            source.blame(where, why)
        _stop_at_faults(source)
        raise  # a finding without words; cannot be
    for where, why in (*check(experiment, families, policies), *_no_files(experiment)):
        source.blame(where, why)
    folders = [path.resolve().parent, PROJECT_TRACES, *(Path(folder) for folder in trace_dirs)]
    traces = load_traces(experiment, source, folders)
    experiment._recordings = load_recordings(experiment, source, folders)
    experiment._loads = load_loads(experiment, source, folders)
    _stop_at_faults(source)
    for where, why in recorded(experiment):
        source.blame(where, why)
    _stop_at_faults(source)
    experiment._traces = traces
    experiment._notes = tuple(notes(experiment, traces))
    return experiment


def _read(path: Path) -> Source:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ExperimentError(str(path), 0, "", "not a file; an experiment is a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise ExperimentError(str(path), 0, "", f"cannot be read: {why}") from None
    document = read(data)
    source = Source(str(path), document.value, document.lines)
    for line, where, why in document.faults:
        source.faults.append(Fault(str(path), line, dotted(where), why))
    _stop_at_faults(source)
    return source


def _no_files(experiment: Experiment) -> Iterator[tuple[Where, str]]:
    """Told at once: what a module of one's own is takes torch and seconds to find out (testbed.ownmodels)."""
    for name, model in experiment.models.items():
        if model.module is not None and not (file := Path(model.module.rpartition(":")[0])).is_file():
            yield ("models", name, "module"), f"there is no file {file}"


def _part(value: object, key: str) -> dict[str, object]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _beside(path: Path, holder: object, key: str) -> None:
    """A file of Python that an experiment names lies beside it; every other name stays."""
    if isinstance(holder, dict) and isinstance(name := holder.get(key), str) and ".py:" in name:
        holder[key] = str(path.resolve().parent / name)


def blame(path: str | Path, where: Where, why: str) -> ExperimentError:
    """What was found later than the loading, with the line of the file that it is about."""
    source = _read(Path(path))
    return ExperimentError.of([source.fault(where, why)])


def _stop_at_faults(source: Source) -> None:
    if source.faults:
        own = sorted(
            set(source.faults), key=lambda fault: (fault.path != source.path, fault.path, fault.line, str(fault))
        )
        raise ExperimentError.of(own)


def _tuples(value: object) -> object:
    """Lists become tuples, as the frozen schema has them; pydantic's strict mode would refuse a list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
