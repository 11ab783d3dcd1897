"""Scenario tests: a marker says which experiment, the fixture `testbed` is the finished run.

    @pytest.mark.experiment("topologies/urban-mec.yaml", policy="joint", seed=1)
    def test_it_recovers(testbed):
        testbed.assert_recovers(within="10s")

A run is made once a session for each experiment and options, however many tests ask for it. What this machine
cannot run is named at the end, never left out in silence; with `--testbed-strict` it fails.
"""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from testbed.scenario import ScenarioRun

MARKER = 'experiment(path, policy=None, seed=None, sets=(), trace_dirs=(), clock="virtual", kernel="guest")'
SIGNATURE_HELP = f"the marker is @pytest.mark.{MARKER}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that a test asks for: the key under which it is made once."""

    path: Path
    policy: str | None = None
    seed: int | None = None
    sets: tuple[str, ...] = ()  # "path.to.key=value"
    trace_dirs: tuple[Path, ...] = ()
    clock: Literal["virtual", "real"] = "virtual"
    kernel: Literal["guest", "host"] = "guest"

    def command(self) -> str:
        words = ["testbed", "run", str(self.path), "--clock", self.clock, "--kernel", self.kernel]
        words += ["--policy", self.policy] if self.policy is not None else []
        words += ["--seed", str(self.seed)] if self.seed is not None else []
        words += [word for one in self.sets for word in ("--set", one)]
        words += [word for one in self.trace_dirs for word in ("--trace-dir", str(one))]
        return shlex.join(words)


@dataclass(slots=True)
class Runs:
    """What was run in this session, what failed to, and what this machine lacks for the rest."""

    folder: Path
    finished: dict[Wanted, "ScenarioRun"] = field(default_factory=dict)
    failed: dict[Wanted, str] = field(default_factory=dict)
    lacking: dict[Wanted, str] = field(default_factory=dict)

    def get(self, wanted: Wanted) -> "ScenarioRun | None":
        """The run, made now if it was not yet; None when it failed or could not be, as the other tables then say."""
        if wanted not in self.finished and wanted not in self.failed and wanted not in self.lacking:
            self._make(wanted)
        return self.finished.get(wanted)

    def _make(self, wanted: Wanted) -> None:
        from controller.plugins import label
        from testbed.progress import Unwatched
        from testbed.run import RunFailed, RunOptions, run
        from testbed.scenario import ScenarioRun

        lacks = _missing(wanted)
        if lacks:
            self.lacking[wanted] = "this machine lacks " + "; ".join(lacks)
            return
        number = len(self.finished) + len(self.failed) + len(self.lacking) + 1
        worker = os.environ.get(WORKER, "")  # each numbers its own
        name = "-".join(word for word in (worker, f"{number:02}", wanted.path.stem, label(wanted.policy or "")) if word)
        options = RunOptions(
            clock=wanted.clock,
            kernel=wanted.kernel,
            seed=wanted.seed,
            policy=wanted.policy,
            sets=wanted.sets,
            trace_dirs=wanted.trace_dirs,
            out=self.folder / name,
        )
        try:
            done = run(wanted.path, options, Unwatched())
        except RunFailed as failure:
            where = f"\nrun folder {failure.folder}" if failure.folder else ""
            self.failed[wanted] = f"the run failed: {failure.why}{where}\nagain: {wanted.command()}"
        else:
            self.finished[wanted] = ScenarioRun(done.folder, done.summary, wanted.command())


RUNS = pytest.StashKey[Runs]()
TOLD = pytest.StashKey[list[str]]()  # what other processes of this session ran (pytest-xdist)
WORKER = "PYTEST_XDIST_WORKER"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("testbed", "scenario tests of the MEC testbed")
    group.addoption("--testbed-out", metavar="DIR", help="keep run folders there (default: pytest's temporary folder)")
    strict = "fail, rather than skip, a test whose run needs what this machine lacks"
    group.addoption("--testbed-strict", action="store_true", help=strict)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}: run the experiment once a session; the fixture `testbed` is the run")


@pytest.fixture
def testbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "ScenarioRun":
    """The finished run of the test's `experiment` marker (testbed.scenario.ScenarioRun)."""
    __tracebackhide__ = True
    marker = request.node.get_closest_marker("experiment")
    if marker is None:
        pytest.fail(f"the fixture `testbed` needs an experiment; {SIGNATURE_HELP}", pytrace=False)
    try:
        wanted = _wanted(request, *marker.args, **marker.kwargs)
    except TypeError as error:
        pytest.fail(f"{error}; {SIGNATURE_HELP}", pytrace=False)
    stash = request.config.stash
    if RUNS not in stash:
        kept = request.config.getoption("--testbed-out")
        stash[RUNS] = Runs(Path(kept).resolve() if kept else tmp_path_factory.mktemp("testbed"))
    runs = stash[RUNS]
    run = runs.get(wanted)
    if run is not None:
        return run
    if wanted in runs.failed:
        pytest.fail(runs.failed[wanted], pytrace=False)
    why = f"not run here: {runs.lacking[wanted]}"
    if request.config.getoption("--testbed-strict"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # this process works for another, which prints the summary
        session.config.workeroutput["testbed"] = list(_told(session.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash.setdefault(TOLD, []).extend(getattr(node, "workeroutput", {}).get("testbed", ()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = [*_told(config), *config.stash.get(TOLD, [])]
    if lines:
        terminalreporter.section("testbed runs")
    for line in lines:
        terminalreporter.line(line)


def _told(config: pytest.Config) -> Iterator[str]:
    runs = config.stash.get(RUNS, None)
    if runs is None:
        return
    for wanted, run in runs.finished.items():
        yield f"{run.summary['fidelity']['verdict']}: {wanted.command()} -> {run.folder}"
    for wanted, why in runs.failed.items():
        yield f"failed: {wanted.command()}: {why.splitlines()[0]}"
    for wanted, why in runs.lacking.items():
        yield f"not run here: {wanted.command()}: {why}"


def _wanted(
    request: pytest.FixtureRequest,
    path: str | Path,
    *,
    sets: Iterable[str] | Mapping[str, Any] = (),
    trace_dirs: Iterable[str | Path] = (),
    policy: str | None = None,
    seed: int | None = None,
    clock: Literal["virtual", "real"] = "virtual",
    kernel: Literal["guest", "host"] = "guest",
) -> Wanted:
    """The marker's arguments; paths are relative to the test's file or, if nothing is there, to the root folder."""
    if isinstance(sets, str):
        raise TypeError(f"sets={sets!r} must be a list of 'path.to.key=value' or a mapping")
    pairs = tuple(f"{key}={value}" for key, value in sets.items()) if isinstance(sets, Mapping) else tuple(sets)
    folders = tuple(_found(request, folder) for folder in trace_dirs)
    return Wanted(_found(request, path), policy, seed, pairs, folders, clock, kernel)


def _found(request: pytest.FixtureRequest, path: str | Path) -> Path:
    places = [request.path.parent / path, request.config.rootpath / path]
    for place in places:
        if place.exists():
            return place.resolve()
    pytest.fail(f"no experiment or folder {path}: neither {places[0]} nor {places[1]} is there", pytrace=False)


def _missing(wanted: Wanted) -> list[str]:
    """What this machine lacks for the run. The guest needs only what set-up brings: without that, tests fail."""
    if wanted.kernel != "host":
        return []
    from testbed.kernel.host import missing

    return missing()
