"""What every scenario test may use: a fresh run folder, a run of its own, and the oracles over its journal."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from testbed.kernel import build
from testbed.progress import Unwatched
from testbed.run import RunOptions, run
from testbed.scenario import ScenarioRun
from tests.checkers import answered, once, owners, right

HERE = Path(__file__).parent
GRACE_US = 1_000_000

# Files that take minutes begin first, so that no worker is left with one of them at the end.
LONG = (
    "urban_mec",
    "scale",
    "heads",
    "heads_full",
    "amp4ec",
    "generation",
    "repeat",
    "models_full",
    "zones",
    "encryption",
    "moves",
    "onnx_full",
    "accuracy",
    "goodput",
)

NewFolder = Callable[[str], Path]
Emulate = Callable[..., ScenarioRun]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def new_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> NewFolder:
    """Makes an empty folder for a run, in --testbed-out when that is given."""
    kept = pytestconfig.getoption("--testbed-out")

    def make(name: str) -> Path:
        if not kept:
            return tmp_path_factory.mktemp(name)
        parent = Path(kept).resolve()
        parent.mkdir(parents=True, exist_ok=True)
        for n in count(1):
            folder = parent / (f"{name}-{n}" if n > 1 else name)
            with suppress(FileExistsError):  # an earlier run's, or one of a process beside this one
                folder.mkdir()
                return folder
        raise AssertionError

    return make


@pytest.fixture(scope="session")
def emulate(new_folder: NewFolder) -> Emulate:
    """Runs an experiment of tests/scenarios/experiments, each call anew: `emulate("town.yaml", "name", sets=(...))`."""

    def one(experiment: str, name: str, **options: Any) -> ScenarioRun:
        done = run(HERE / "experiments" / experiment, RunOptions(out=new_folder(name), **options), Unwatched())
        return ScenarioRun(done.folder, done.summary)

    return one


@pytest.fixture(scope="session")
def kernel() -> Path:
    """The guest kernel; set-up has built it."""
    found = build.installed()
    assert found is not None, "the guest kernel is not built: run `make setup`"
    return found


@pytest.fixture(scope="session")
def history_is_right() -> Callable[[ScenarioRun], None]:
    """Every oracle over the journal of a valid run; failed requests are results, wrong answers are not."""

    def judge(done: ScenarioRun, deadline_us: int = 5_000_000) -> None:
        done.assert_valid()
        records = done.journal()
        found = {
            "answered": answered.violations(records, deadline_us + GRACE_US),
            "once": once.violations(records),
            "owners": owners.violations(records),
            "right": right.violations(records),
        }
        assert not any(found.values()), {name: told[:5] for name, told in found.items() if told}

    return judge
