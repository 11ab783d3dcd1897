"""The pytest plugin, in sessions of its own with a runner that only writes journals."""

import numpy  # noqa: F401  before the sessions in here, each of which forgets what it imported: it can load only once
import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import sys, types
from dataclasses import dataclass
from pathlib import Path
from testbed.report import summary_of
from tests.unit.journal_factory import a_run, written

@dataclass(frozen=True)
class RunOptions:
    clock: str; kernel: str; seed: object; policy: object; sets: tuple; trace_dirs: tuple; out: Path

@dataclass(frozen=True)
class Run:
    folder: Path
    summary: dict

class RunFailed(Exception):
    def __init__(self, why, folder):
        super().__init__(why)
        self.why, self.folder = why, folder

def run(path, options, progress):
    assert path.is_absolute() and path.name == "city.yaml" and not options.out.exists()
    progress.phase("guest")
    progress.part("joint").live(None)
    with Path(CALLS).open("a") as calls:
        calls.write(f"{options.policy} {options.seed} {options.sets} {options.clock}\\n")
    assert options.kernel == "guest"
    if options.policy == "broken":
        raise RunFailed("the guest panicked", options.out)
    records = a_run(policy=options.policy or "joint", recovers=options.policy != "static", seed=options.seed or 1)
    changes = dict(one.split("=") for one in options.sets)
    if "drop" in changes:
        records = [r for r in records if r["kind"] != changes["drop"]]
    requests = [r for r in records if r["kind"] == "request"]
    if "twice" in changes:
        requests[5]["duplicates"] = 1
    if "wrong" in changes:
        requests[5]["equal"] = False
    written(options.out, records)
    return Run(options.out, summary_of(options.out))

fake = types.ModuleType("testbed.run")
fake.RunOptions, fake.Run, fake.RunFailed, fake.run = RunOptions, Run, RunFailed, run
sys.modules["testbed.run"] = fake
host = types.ModuleType("testbed.kernel.host")
host.missing = lambda: ["netem in the kernel", "root"]
sys.modules["testbed.kernel.host"] = host
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs a test file in a session that has the plugin and the runner above."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # these sessions are nobody's workers
    pytester.makeconftest(f"CALLS = {str(pytester.path / 'calls')!r}\n{CONFTEST}")
    (pytester.path / "city.yaml").write_text("name: city\n")

    def run(body: str, *arguments: str) -> pytest.RunResult:
        header = 'import pytest\ncity = lambda *a, **k: pytest.mark.experiment("city.yaml", *a, **k)\n'
        pytester.makepyfile(header + body)
        return pytester.runpytest_inprocess("-p", "testbed.pytest_plugin", "--strict-markers", *arguments)

    return run


def test_a_run_has_its_summary_journal_and_files(session) -> None:
    result = session(
        """
@city(policy="joint", seed=7)
def test_it(testbed):
    assert testbed.summary["seed"] == 7
    assert len(testbed.journal("event")) == 1
    assert testbed.journal()[-1]["kind"] == "end"
    assert testbed.artifact("journal.jsonl").parent == testbed.folder
    testbed.assert_recovers(within="10s")
    testbed.assert_sla(p50="100ms", p95="500ms")
    testbed.assert_sla(p95="150ms", last="30s")
    testbed.assert_no_loss()
    testbed.assert_right()
    testbed.assert_optimal()
"""
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*testbed runs*", "valid: testbed run *city.yaml * --policy joint --seed 7 -> *"])


def test_a_run_is_made_once_for_the_same_experiment_and_options(session, pytester: pytest.Pytester) -> None:
    result = session(
        """
@city(seed=1)
def test_one(testbed): pass

@city(seed=1)
def test_two(testbed): pass

@city(seed=1, sets={"twice": 1})
def test_three(testbed): pass

@city(policy="broken")
def test_four(testbed): pass

@city(policy="broken")
def test_five(testbed): pass
"""
    )
    result.assert_outcomes(passed=3, errors=2)
    calls = ["None 1 () virtual", "None 1 ('twice=1',) virtual", "broken None () virtual"]
    assert (pytester.path / "calls").read_text().splitlines() == calls
    result.stdout.fnmatch_lines(["the run failed: the guest panicked", "again: testbed run *--policy broken"])
    assert "Traceback" not in result.stdout.str()


def test_failures_show_the_lines_that_explain_them(session) -> None:
    result = session(
        """
@city(policy="static", seed=3)
def test_recovery(testbed): testbed.assert_recovers(within="10s")

@city(policy="static", seed=3)
def test_sla(testbed): testbed.assert_sla(p95="150ms")

@city(seed=3)
def test_own_sla(testbed): testbed.assert_sla()

@city(seed=3)
def test_slow_recovery(testbed): testbed.assert_recovers(within="7s")

@city(sets=["twice=1"])
def test_loss(testbed): testbed.assert_no_loss()

@city(sets=["wrong=1"])
def test_right(testbed): testbed.assert_right()

@city(seed=3)
def test_artifact(testbed): testbed.artifact("../../calls")
"""
    )
    result.assert_outcomes(failed=7)
    result.stdout.fnmatch_lines(
        [
            "*did not recover within 10s of `uplink gets worse` at 20 s: it never did",
            'E * {"kind":"event","t_us":20000000*"text":"uplink gets worse"*',
            'E * {"kind":"request"*edge1 compute*',
            "*seed 3, run folder *",
            "*again: testbed run * --policy static --seed 3",
            "*p95 is 410.5 ms, limit 150ms",
            "*the experiment's SLA was violated for 8 s",
            "*did not recover within 7s of `uplink gets worse` at 20 s: it took 8 s",
            "*0 requests were lost and 1 answers came again",
            'E * {"kind":"request"*"duplicates":1*',
            "*479 of 480 checked answers are equal",
            'E * {"kind":"request"*"equal":false*',
            "*the run has no file '../../calls'; it has journal.jsonl, parts/coordinator.jsonl*",
        ]
    )


@pytest.mark.parametrize(
    "assertion",
    [
        'assert_recovers(within="60s")',
        'assert_sla(p95="9s")',
        "assert_no_loss()",
        "assert_right()",
        'assert_optimal(within="100%")',
        "assert_repeats()",
    ],
)
def test_nothing_passes_on_an_invalid_run(session, assertion: str) -> None:
    result = session(f"@city(sets=['drop=end'])\ndef test_it(testbed): testbed.{assertion}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*INVALID, so nothing can be said of it*", "*the run did not finish*", "INVALID: *"])


def test_recovery_from_nothing_is_no_recovery(session) -> None:
    body = """
from tests.unit.journal_factory import a_run, written
from testbed.report import summary_of
from testbed.scenario import ScenarioRun

def test_it(tmp_path):
    folder = written(tmp_path, a_run(event_s=None))
    ScenarioRun(folder, summary_of(folder)).assert_recovers(within="10s")
"""
    result = session(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no event fired: there was nothing to recover from"])


def test_what_the_machine_lacks_is_named_and_fails_when_strict(session) -> None:
    body = "@city(kernel='host', clock='real')\ndef test_it(testbed): pass"
    result = session(body)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["not run here: testbed run * --clock real --kernel host: this machine lacks netem in the kernel; root"]
    )
    session(body, "--testbed-strict").assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def test_it(testbed): pass", "*needs an experiment; the marker is @pytest.mark.experiment(path*"),
        ("@city(sede=1)\ndef test_it(testbed): pass", "*unexpected keyword argument 'sede'*"),
        ("@city(sets='a=b')\ndef test_it(testbed): pass", "*must be a list of 'path.to.key=value'*"),
        ("@pytest.mark.experiment('no.yaml')\ndef test_it(testbed): pass", "no experiment or folder no.yaml*"),
    ],
)
def test_a_wrong_marker_is_told(session, body: str, told: str) -> None:
    result = session(body)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])


def test_runs_of_several_workers_are_told_in_one_summary(session, pytester: pytest.Pytester) -> None:
    body = "@city(policy='joint')\ndef test_a(testbed): pass\n@city(policy='static')\ndef test_b(testbed): pass"
    result = session(body, "-p", "xdist", "-n2", "--testbed-out", "kept")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(
        ["valid: testbed run * --policy joint*", "valid: testbed run * --policy static*"]
    )
    assert sorted(p.name[7:] for p in (pytester.path / "kept").iterdir()) == ["city-joint", "city-static"]


def test_run_folders_can_be_kept(session, pytester: pytest.Pytester) -> None:
    session("@city(policy='joint')\ndef test_it(testbed): pass", "--testbed-out", "kept").assert_outcomes(passed=1)
    assert [p.name for p in (pytester.path / "kept").iterdir()] == ["01-city-joint"]


def test_the_plugin_costs_sessions_that_do_not_use_it_nothing(session) -> None:
    result = session("def test_it(): pass")
    result.assert_outcomes(passed=1)
    assert "testbed runs" not in result.stdout.str()
