"""`kill -9` of the command at any moment leaves no process and changes nothing outside the run folder.

TESTBED_KILLS says how many moments are tried (default 5): one at random in each equal part of the time.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.cache import cache_folder

ROOT = Path(__file__).resolve().parents[2]
TOWN = Path(__file__).parent / "experiments" / "town.yaml"
COMMAND = Path(sys.executable).with_name("testbed")
KILLS = int(os.environ.get("TESTBED_KILLS", "5"))
SHARED_MEMORY = Path("/dev/shm")  # where the guest has its memory
LATEST_S = 15.0
DURATION = "600s"  # of the experiment: no machine is so fast that it is over by then
GONE_WITHIN_S = 2.0
GUEST_BY_S = 8.0  # by then the guest is there, else the test shows little
FILL = """
import sys
from testbed.experiment import load_experiment
from testbed.modelfiles import model_files
model_files(load_experiment(sys.argv[1]))
"""
NOT_LOOKED_AT = {".git", ".venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache"}
_RANDOM = random.Random(1)
MOMENTS_S = [round((part + _RANDOM.random()) * LATEST_S / KILLS, 2) for part in range(KILLS)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One that nobody else writes to, with all that a run needs in it."""
    folder = tmp_path_factory.mktemp("cache")
    shutil.copytree(cache_folder("kernel"), folder / "mec-testbed" / "kernel")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    subprocess.run([sys.executable, "-c", FILL, TOWN], cwd=ROOT, env=environment, check=True)
    return folder


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_nothing_is_left(moment_s, tmp_path, cache):
    run_folder, home, work, temporary = (tmp_path / name for name in ("run", "home", "work", "tmp"))
    for folder in (home, work, temporary):
        folder.mkdir(parents=True)
    (home / "cache").symlink_to(cache)
    before, shared = _surroundings(tmp_path, run_folder, cache), set(SHARED_MEMORY.iterdir())
    process = subprocess.Popen(
        [COMMAND, "run", TOWN, "--set", f"duration={DURATION}", "--out", run_folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=work,
        env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    try:
        time.sleep(moment_s)
        assert process.poll() is None, "the run was over before it was killed"
        there = _processes(process.pid, run_folder)
    finally:
        process.kill()
        process.wait()
    left = _await_end(process.pid, run_folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"still there {GONE_WITHIN_S} s later: {left}"
    assert process.pid in there
    assert moment_s < GUEST_BY_S or any("testbed.kernel.init" in line for line in there.values())
    assert _surroundings(tmp_path, run_folder, cache) == before
    assert not [path for path in set(SHARED_MEMORY.iterdir()) - shared if path.exists()]


def _await_end(session: int, run_folder: Path) -> dict[int, str]:
    """What is left of a run, at the latest after the time it has to end."""
    limit = time.monotonic() + GONE_WITHIN_S
    while (left := _processes(session, run_folder)) and time.monotonic() < limit:
        time.sleep(0.05)
    return left


def _processes(session: int, run_folder: Path) -> dict[int, str]:
    """Every process of a run: of its session, in its folder, or with that in its arguments or environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            state, _parent, _group, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            arguments = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
            place = (entry / "cwd").readlink()
        except (OSError, ValueError):
            continue  # it has just ended, or is another user's
        named = place == run_folder or str(run_folder).encode() in arguments + environment
        mine = int(its_session) == session or named
        if mine and state not in "ZX":
            found[int(entry.name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
    return found


def _surroundings(tmp_path: Path, run_folder: Path, cache: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the checkout and the cache, and of the user's home, temporary and work folders."""
    seen = {}
    for top in (ROOT, cache, tmp_path):
        for folder, names, files in os.walk(top):
            names[:] = [n for n in names if n not in NOT_LOOKED_AT and Path(folder, n) != run_folder]
            for name in (*files, *names):
                status = Path(folder, name).lstat()
                size = 0 if name in names else status.st_size
                seen[f"{folder}/{name}"] = (size, 0 if name in names else status.st_mtime_ns)
    return seen
