"""Sets up what is missing: distribution packages, the virtual environment, the guest kernel. `make setup`.

Rules: needs only Debian's python3; doing it again costs next to nothing; root installs packages, an ordinary user is
told the one line that does; nothing outside the checkout and the user's cache folder is written but by apt-get.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = "/usr/bin/python3"
sys.path.insert(0, str(ROOT))

from testbed import packages  # noqa: E402  (stdlib only, like this file)
from testbed.kernel import build as kernel  # noqa: E402


class SetupFailed(Exception):
    """The message says what is missing and who can mend it."""


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def do(what: str, command: list[str], env: dict[str, str] | None = None) -> None:
    """Runs it; what it prints is shown only when it fails."""
    say(f"{what} ...")
    started = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, check=False
    )
    if done.returncode:
        told = done.stdout.decode(errors="replace").rstrip()
        raise SetupFailed(f"{what}: `{' '.join(command)}` ended with exit code {done.returncode}:\n{told}")
    say(f"{what}: done in {time.monotonic() - started:.0f} s")


def installable(names: tuple[str, ...]) -> str:
    """The first of the alternatives that the package lists know; the last when they know none."""
    for name in names[:-1]:
        policy = subprocess.run(["apt-cache", "policy", name], capture_output=True, text=True, check=False).stdout
        if "Candidate:" in policy and "Candidate: (none)" not in policy:
            return name
    return names[-1]


def set_up_packages() -> None:
    missing = packages.missing(packages.installed())
    if not missing:
        return
    if os.geteuid() != 0:
        line = "sudo apt-get install --no-install-recommends " + " ".join(installable(names) for names in missing)
        raise SetupFailed(f"packages of the distribution are missing; install them with\n\n    {line}\n")
    do("package lists", ["apt-get", "update", "-q"])
    names = [installable(names) for names in missing]
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *names]
    do(f"{len(names)} distribution packages", install, {"DEBIAN_FRONTEND": "noninteractive"})


def stamp(*files: str) -> str:
    """What an installation depends on: these files, the interpreter, and where the checkout is."""
    told = hashlib.sha256(f"{sys.version} {ROOT}".encode())
    for name in files:
        told.update((ROOT / name).read_bytes())
    return told.hexdigest()


def out_of_date(name: str, now: str) -> bool:
    file = VENV / f"{name}.stamp"
    return not (VENV / "bin" / "python").exists() or not file.exists() or file.read_text() != now


def set_up_venv() -> None:
    """Locked packages when the lock changed, the project itself when only its metadata did."""
    locks = stamp("requirements.lock", "setup/build.lock", "setup/torch.txt")
    project = stamp("pyproject.toml")
    packages_old, project_old = out_of_date("packages", locks), out_of_date("project", project)
    if (packages_old or project_old) and not os.access(VENV if VENV.exists() else ROOT, os.W_OK):
        raise SetupFailed(f"{VENV} is missing or out of date and not yours to write: its owner must run `make setup`")
    if packages_old:
        pip_install_locked()
        (VENV / "packages.stamp").write_text(locks)
    if packages_old or project_old:
        pip("the project itself", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        (VENV / "project.stamp").write_text(project)


def pip_install_locked() -> None:
    do("virtual environment", [PYTHON, "-m", "venv", "--clear", str(VENV)])
    exact = ["--require-hashes", "--no-deps", "--no-build-isolation"]
    pip("build tools", *exact, "-r", str(ROOT / "setup" / "build.lock"))
    pip("locked Python packages", *exact, "-r", str(ROOT / "requirements.lock"))
    pip("torch", "-r", str(ROOT / "setup" / "torch.txt"))


def pip(what: str, *arguments: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--root-user-action", "ignore"]
    do(what, [str(VENV / "bin" / "python"), "-m", "pip", "install", *quiet, *arguments])


def set_up_kernel() -> None:
    if kernel.installed() is None:
        kernel.build(kernel.PlainProgress(say))


def main() -> int:
    try:
        set_up_packages()
        set_up_venv()
        set_up_kernel()
    except (SetupFailed, packages.NotDebian, kernel.KernelBuildFailed) as failure:
        print(f"set-up: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
