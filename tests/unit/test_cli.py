import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import testbed.run
from testbed.cli import app
from testbed.progress import Lines, Live, Progress, line

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = str(ROOT / "topologies" / "minimal.yaml")
GENERATED = ["--seed", "3", "--duration", "10s", "--step", "100ms"]


def call(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), prog_name="testbed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Runs are only recorded here: (path, options)."""
    calls: list[Any] = []

    def run(path: Path, options: testbed.run.RunOptions, progress: Progress) -> testbed.run.Run:
        calls.append((path, options))
        progress.phase("boot")
        now = Live("run", 1_000_000, 20_000_000, 3, 2, 81_000, "srv: 0-11", "")
        progress.live(now)
        return testbed.run.Run(tmp_path, {"policy": options.policy, "seed": 1})

    monkeypatch.setattr(testbed.run, "run", run)
    return calls


def test_help_names_every_command() -> None:
    shown = call("--help")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in ("run", "compare", "validate", "doctor", "trace", "kernel"))


def test_options_reach_the_runner(asked: list[Any], tmp_path: Path) -> None:
    words = ["--seed", "7", "--set", "duration=20s", "--set", "seed=3", "--out", str(tmp_path), "--policy", "static"]
    assert call("run", MINIMAL, *words, "--trace-dir", str(tmp_path), "--json").exit_code == 0
    ((path, options),) = asked
    assert path == Path(MINIMAL)
    assert (options.clock, options.kernel, options.seed, options.policy) == (None, "guest", 7, "static")
    assert (options.sets, options.trace_dirs, options.out) == (("duration=20s", "seed=3"), (tmp_path,), tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("virtual", "guest")),
        (["--clock", "real"], ("real", "guest")),
        (["--kernel", "host"], ("real", "host")),
        (["--kernel", "host", "--clock", "virtual"], ("virtual", "host")),
    ],
)
def test_clock_follows_the_kernel_unless_named(asked: list[Any], words: list[str], expected: tuple[str, str]) -> None:
    call("run", MINIMAL, *words, "--json")
    path, options = asked[0]
    timed = options.timed(testbed.run.load(path, options))
    assert (timed.clock, timed.kernel) == expected


def test_json_is_one_object_and_progress_goes_elsewhere(asked: list[Any], tmp_path: Path) -> None:
    done = call("run", MINIMAL, "--json")
    assert json.loads(done.stdout) == {"policy": None, "seed": 1, "folder": str(tmp_path)}
    assert "p95 81 ms" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["compare", "--policies", "static,joint"]])
def test_a_bad_experiment_stops_before_anything_starts(words: list[str], tmp_path: Path) -> None:
    done = call(*words, MINIMAL, "--set", "seed=none", "--out", str(tmp_path / "run"), "--json")
    assert done.exit_code == 2
    assert "seed" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_failed_run_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> None:
        raise testbed.run.RunFailed("the guest's kernel panicked\nlast line of its console")

    monkeypatch.setattr(testbed.run, "run", run)
    done = call("run", MINIMAL, "--json")
    assert done.exit_code == 1
    assert "last line of its console" in done.stderr
    assert json.loads(done.stdout)["error"].startswith("the guest's kernel panicked")


@pytest.mark.parametrize("policies", ["static,", "static,static", ""])
def test_compare_wants_each_policy_once(policies: str) -> None:
    assert call("compare", MINIMAL, "--policies", policies).exit_code == 2


@pytest.mark.parametrize("words", [["run"], ["run", MINIMAL, "--clock", "slow"], ["nonsense"], ["trace", "show"]])
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    assert call(*words).exit_code == 2


def test_validate_tells_of_every_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [\n")
    done = call("validate", str(bad), MINIMAL, "--json")
    told = {Path(one["path"]).name: one["valid"] for one in json.loads(done.stdout)["experiments"]}
    assert told == {"bad.yaml": False, "minimal.yaml": True}
    assert done.exit_code == 2
    assert f"{bad}:" in done.stderr
    assert call("validate", MINIMAL).exit_code == 0


def test_the_same_card_generates_the_same_trace(tmp_path: Path) -> None:
    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    assert call("trace", "generate", str(first), "--model", "driving", *GENERATED).exit_code == 0
    assert call("trace", "generate", str(second), "--model", str(first.with_suffix(".json"))).exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".json").read_bytes() == second.with_suffix(".json").read_bytes()


def test_a_conversion_carries_as_much(tmp_path: Path) -> None:
    made, packets = tmp_path / "made.csv", tmp_path / "made.mahimahi"
    call("trace", "generate", str(made), *GENERATED)
    assert call("trace", "convert", str(made), str(packets), "--to", "mahimahi", "--way", "up").exit_code == 0
    shown = json.loads(call("trace", "show", str(made), str(packets), "--json").stdout)["traces"]
    ours, theirs = shown[0]["columns"]["up_bps"]["mean"], shown[1]["columns"]["rate_bps"]["mean"]
    assert theirs == pytest.approx(ours, rel=0.01)
    assert call("trace", "show", str(made)).exit_code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["trace", "generate", "{}/a.csv", "--duration", "10"], "no unit"),
        (["trace", "generate", "{}/a.csv", "--model", "lunar"], "urban"),
        (["trace", "generate", "{}/a.txt"], "a.csv"),
        (["trace", "generate", "{}/no/a.csv"], "cannot be written"),
        (["trace", "generate", "{}/a.csv", "--model", "{}/none.json"], "cannot be read"),
        (["trace", "convert", "{}/none", "{}/b"], "cannot read"),
        (["trace", "show", "{}"], "folder"),
    ],
)
def test_bad_traces_and_options_say_what_is_right(words: list[str], why: str, tmp_path: Path) -> None:
    done = call(*(word.format(tmp_path) for word in words))
    assert done.exit_code == 2
    assert why in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_kernel_path_of_an_empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = call("kernel", "path")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "testbed kernel build" in done.stderr


def test_doctor_says_which_kernels_and_clocks() -> None:
    done = call("doctor", "--json")
    modes = {(mode["kernel"], mode["clock"]): mode["usable"] for mode in json.loads(done.stdout)["modes"]}
    assert len(modes) == 4
    assert modes["host", "virtual"] is False
    assert done.exit_code == (0 if any(modes.values()) else 1)


def test_lines_are_sparse_and_parts_are_told_apart() -> None:
    said: list[str] = []
    progress = Lines(said.append)
    for second in range(21):
        progress.part("joint").live(Live("run", second * 1_000_000, 20_000_000, second, second, None, "", ""))
    assert [text.split(" · ")[0] for text in said] == ["joint: run 0/20 s", "joint: run 10/20 s", "joint: run 20/20 s"]
    progress.part("static").phase("boot")
    assert said[-1] == "static: boot"
    progress.note("a trace was recorded so")
    assert said[-1] == "note: a trace was recorded so"


def test_a_line_says_all_there_is() -> None:
    live = Live("run", 12_400_000, 120_000_000, 40, 39, 141_200, "ue1: mec", "uplink worse")
    assert line(live) == "run 12/120 s · 39/40 answered · p95 141 ms · ue1: mec · uplink worse"
