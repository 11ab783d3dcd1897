"""A guest that panics, hangs, is killed, runs out of memory or stops early: a clear error, and a run folder that
says so."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import testbed.run
from testbed.progress import Unwatched
from testbed.run import RunFailed, RunOptions, run

TOWN = Path(__file__).parent / "experiments" / "town.yaml"
BOOT_LIMIT_S = 60


@pytest.fixture
def fails(new_folder, monkeypatch):
    """Runs the town with a director that misbehaves; the error that comes, and the run folder."""

    def one(how: str, **options) -> tuple[RunFailed, Path]:
        monkeypatch.setattr(testbed.run, "DIRECTOR", "tests.scenarios.misbehaving")
        folder = new_folder(f"fails-{how}")
        sets = (f"policy.misbehave={how}",)
        with pytest.raises(RunFailed) as caught:
            run(TOWN, RunOptions(sets=sets, out=folder, **options), Unwatched())
        return caught.value, folder

    return one


def assert_told(failure: RunFailed, folder: Path, why: str, how: str) -> None:
    """The error and the folder say why, with the guest's last words."""
    written = (folder / "FAILED.txt").read_text()
    for text in (failure.why, written):
        assert why in text
        assert f"about to {how}" in text
    assert failure.folder == folder
    assert str(folder) in failure.why
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["fidelity"]["verdict"] == "INVALID"
    assert any("did not finish" in reason for reason in summary["fidelity"]["reasons"])
    assert "INVALID" in (folder / "report.md").read_text()
    assert _processes_of(folder) == []


def test_a_guest_that_panics(fails):
    failure, folder = fails("panic")
    assert_told(failure, folder, "the guest's kernel panicked: Attempted to kill init!", "panic")


def test_a_guest_that_hangs(fails):
    failure, folder = fails("hang", wall_limit_s=5)
    assert_told(failure, folder, "did not end within 5 s and was stopped", "hang")


def test_a_guest_that_is_killed(fails, monkeypatch):
    killer = threading.Thread(target=_kill_when_it_hangs, args=(killed := [],), daemon=True)
    killer.start()
    failure, folder = fails("hang", wall_limit_s=BOOT_LIMIT_S)
    killer.join()
    assert killed
    assert_told(failure, folder, "the guest ended with", "hang")


def test_a_guest_that_needs_more_memory_than_it_may(fails):
    failure, folder = fails("overeat", memory="256M", wall_limit_s=BOOT_LIMIT_S)
    assert_told(failure, folder, "the guest's kernel panicked: System is deadlocked on memory", "overeat")


def test_a_director_that_fails(fails):
    failure, folder = fails("stop")
    assert_told(failure, folder, "the run ended before its end", "stop")
    assert "RuntimeError: told to stop" in failure.why


def _kill_when_it_hangs(killed: list[int]) -> None:
    """Kills the guest's kernel of the run folder named fails-hang... once its director says that it hangs."""
    limit = time.monotonic() + BOOT_LIMIT_S
    while not killed and time.monotonic() < limit:
        time.sleep(0.2)
        for pid, words, place in _processes():
            console = place / "console.log" if "testbed.kernel.init" in words else None
            if console and words[0].endswith("/linux") and b"about to hang" in console.read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return


def _processes() -> list[tuple[int, list[str], Path]]:
    """Each with its command line, and where it was started: a guest runs in its run folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                found.append((int(entry.name), words, (entry / "cwd").readlink()))
            except OSError:
                continue
    return found


def _processes_of(folder: Path) -> list[list[str]]:
    return [words for pid, words, place in _processes() if place == folder and pid != os.getpid()]
