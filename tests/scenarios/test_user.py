"""An ordinary user runs experiments; what needs root or a kernel with netem is refused by name."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cache import cache_folder
from testbed.kernel import host

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = ROOT / "topologies" / "minimal.yaml"
COMMAND = Path(sys.executable).with_name("testbed")
USER = "nobody"
RUN_LIMIT_S = 180


class User:
    """Runs commands as an ordinary user, at home in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.prefix: list[str] = []
        if os.getuid() == 0:
            account = pwd.getpwnam(USER)
            self.prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]
            os.chown(home, account.pw_uid, account.pw_gid)
        self.uid = pwd.getpwnam(USER).pw_uid if self.prefix else os.getuid()

    def run(self, *command: str | Path, limit_s: float = 30) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL")}
        home = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache")}
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env=kept | home,
            timeout=limit_s,
        )

    def why_not(self) -> str:
        """What keeps this user from running experiments here; empty when nothing does."""
        for path in (COMMAND, Path(sys.executable).resolve()):
            if self.run("test", "-x", path).returncode:
                return f"{path} cannot be run by the user {USER}: the checkout lies where others may not look"
        if self.run("test", "-r", MINIMAL).returncode:
            return f"{MINIMAL} cannot be read by the user {USER}"
        if self.run("unshare", "--user", "--map-root-user", "true").returncode:
            return "this machine's kernel gives ordinary users no user namespaces"
        return ""


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="testbed-user-"))  # pytest's own folders are closed to other users
    try:
        ordinary = User(home)
        if why := ordinary.why_not():
            pytest.skip(why)
        _fill_cache(home / "cache" / "mec-testbed")
        yield ordinary
    finally:
        shutil.rmtree(home)


def _fill_cache(cache: Path) -> None:
    """The kernel and the text model, as set-up and a first run would have made them."""
    shutil.copytree(cache_folder("kernel"), cache / "kernel")
    (cache / "models").mkdir()
    for path in cache_folder("models").glob("minilm-*.safetensors"):
        shutil.copyfile(path, cache / "models" / path.name)


@pytest.mark.experiment("topologies/minimal.yaml")  # the same run as root, or whoever tests: it fills the cache
def test_an_ordinary_user_runs_an_experiment(testbed, user):
    out = user.home / "run"
    done = user.run(COMMAND, "run", MINIMAL, "--out", out, "--json", limit_s=RUN_LIMIT_S)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["fidelity"]["verdict"] == "valid"
    assert summary["requests"] == testbed.summary["requests"]
    assert summary["answers"] == testbed.summary["answers"]
    assert {path.stat().st_uid for path in out.rglob("*")} == {user.uid}


def test_an_ordinary_user_is_told_that_the_host_kernel_needs_root(user):
    done = user.run(COMMAND, "run", MINIMAL, "--kernel", "host", "--out", user.home / "host")
    assert done.returncode == 1
    assert "root" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (user.home / "host").exists()


def _refused(tmp_path: Path, *options: str) -> str:
    out = tmp_path / "run"
    command = [COMMAND, "run", MINIMAL, "--out", out, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    return done.stderr


def test_a_kernel_without_netem_is_refused_by_name(tmp_path):
    lacks = host.missing()
    if not lacks:
        pytest.skip("this machine can run on its own kernel: there is nothing to refuse")
    told = _refused(tmp_path, "--kernel", "host", "--clock", "real")
    assert all(what.split(" (")[0] in told for what in lacks)
    assert "netem" in told if os.getuid() == 0 else "root" in told
    assert "Leave out --kernel host" in told, "the way out is named"


def test_virtual_time_on_the_host_kernel_is_refused_by_name(tmp_path):
    told = _refused(tmp_path, "--kernel", "host", "--clock", "virtual")
    assert "real time only" in told
    assert "--clock real" in told
