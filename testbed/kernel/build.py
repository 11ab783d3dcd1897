"""Builds the guest kernel once from the distribution's source, and finds it again.

Rules: stdlib only (the set-up runs it before there is a virtual environment); a kernel is named by the hash of its
configuration, its patches and its source, appears in the cache in one step, and is never changed afterwards.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testbed.cache import cache_folder

CONFIG = Path(__file__).with_name("uml.config")
PATCHES = Path(__file__).parent  # <what>-<release>.patch; a release without them is taken as it is
SOURCES = Path("/usr/src")
RELEASES = ("6.12", "6.1")  # best first: 6.12 has a seeded netem and cheaper page faults
EXPECTED_STEPS = 1330  # lines that make prints for 6.12; only the progress depends on it
EXPECTED_FILES = 92_000  # files in the source, likewise
NEEDED_BYTES = 3 << 30  # source and objects while it builds
LOG_TAIL = 20


class KernelBuildFailed(Exception):
    """The message says what went wrong and ends with the compiler's last lines, if it came so far."""


class Progress(Protocol):
    def __call__(self, stage: str, share: float) -> None:
        """`share` of the stage is done, 0..1."""


@dataclass(frozen=True, slots=True)
class Source:
    """A packed kernel source of the distribution."""

    release: str
    package_version: str
    tarball: Path


@dataclass(slots=True)
class PlainProgress:
    """Says every tenth of a stage, one line each."""

    say: Callable[[str], None]
    _said: tuple[str, int] = ("", 0)

    def __call__(self, stage: str, share: float) -> None:
        tenth = (stage, int(share * 10))
        if tenth != self._said:
            self._said = tenth
            self.say(f"guest kernel: {stage} {tenth[1] * 10} %")


def find_source(folder: Path = SOURCES) -> Source | None:
    for release in RELEASES:
        tarball = folder / f"linux-source-{release}.tar.xz"
        if tarball.exists():
            return Source(release, _package_version(tarball), tarball)
    return None


def _package_version(tarball: Path) -> str:
    """The package's version; for a tarball of another origin its size stands in."""
    query = ["dpkg-query", "-W", "-f", "${Version}", tarball.name.removesuffix(".tar.xz")]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"{tarball.stat().st_size} bytes"
    return done.stdout if done.returncode == 0 else f"{tarball.stat().st_size} bytes"


def kernel_file(source: Source) -> Path:
    """Where the kernel of this configuration and source is, or will be."""
    told = hashlib.sha256(CONFIG.read_bytes())
    for patch in patches(source):
        told.update(patch.read_bytes())
    told.update(f"{source.release} {source.package_version}".encode())
    return cache_folder("kernel") / told.hexdigest()[:16] / "linux"


def patches(source: Source) -> list[Path]:
    """What is changed in the source before it is built."""
    return sorted(PATCHES.glob(f"*-{source.release}.patch"))


def replans() -> bool:
    """Whether a new rate holds for what is queued already in the guest kernel."""
    source = find_source()
    return source is not None and any(patch.name.startswith("netem-") for patch in patches(source))


def installed() -> Path | None:
    """The guest kernel, if it is built."""
    source = find_source()
    if source is None:
        return None
    kernel = kernel_file(source)
    return kernel if kernel.exists() else None


def build(progress: Progress) -> Path:
    """Builds the guest kernel unless it is there, and returns it; a second builder waits for the first."""
    source = find_source()
    if source is None:
        names = " or ".join(f"linux-source-{release}" for release in RELEASES)
        raise KernelBuildFailed(f"no kernel source in {SOURCES}: install the package {names}")
    kernel = kernel_file(source)
    cache = cache_folder("kernel")
    cache.mkdir(parents=True, exist_ok=True)
    with _only_builder(cache, progress):
        if not kernel.exists():
            _build_into(kernel, source, progress)
    return kernel


@contextmanager
def _only_builder(cache: Path, progress: Progress) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build", 0.0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in cache.glob("build-*"):  # of a builder that was killed: we hold its lock
            shutil.rmtree(left_over, ignore_errors=True)
        yield


def _build_into(kernel: Path, source: Source, progress: Progress) -> None:
    cache = kernel.parent.parent
    free = shutil.disk_usage(cache).free
    if free < NEEDED_BYTES:
        raise KernelBuildFailed(
            f"{cache} has {free >> 20} MiB free; building the guest kernel takes {NEEDED_BYTES >> 20}"
        )
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        folder = Path(name)
        tree, objects, ready = (folder / part for part in ("source", "objects", "ready"))
        for part in (tree, objects, ready):
            part.mkdir()
        log = cache / "build.log"
        log.write_text("")
        unpack = ["tar", "--extract", "--verbose", "--strip-components=1", "--file", str(source.tarball)]
        _run([*unpack, "--directory", str(tree)], log, _counted(progress, "unpack", EXPECTED_FILES))
        for patch in patches(source):
            _run(["patch", "--batch", "--strip=1", f"--directory={tree}", f"--input={patch}"], log, lambda: None)
        make = ["make", "-C", str(tree), "ARCH=um", f"O={objects}", f"KCONFIG_ALLCONFIG={CONFIG}"]
        _run([*make, "allnoconfig"], log, lambda: None)
        jobs = len(os.sched_getaffinity(0))
        _run([*make, f"-j{jobs}", "linux"], log, _counted(progress, "compile", EXPECTED_STEPS))
        _run(["strip", "-o", str(ready / "linux"), str(objects / "linux")], log, lambda: None)
        shutil.copy(objects / ".config", ready / "config")
        ready.chmod(0o755)
        ready.rename(kernel.parent)
        progress("ready", 1.0)


def _counted(progress: Progress, stage: str, expected: int) -> Callable[[], None]:
    """Progress by the number of lines a program has printed."""
    lines = 0

    def one_more() -> None:
        nonlocal lines
        lines += 1
        progress(stage, min(lines / expected, 0.99))

    return one_more


def _run(command: list[str], log: Path, line_seen: Callable[[], None]) -> None:
    """Runs `command`, its output appended to `log`; its last lines are in the error when it fails."""
    # No user, host or time in the kernel: the same source gives the same kernel everywhere.
    fixed = {"KBUILD_BUILD_USER": "testbed", "KBUILD_BUILD_HOST": "testbed", "KBUILD_BUILD_TIMESTAMP": "2026-01-01"}
    # Nor the flags of a `make` that called us: its job server is not ours.
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    env |= fixed | {"LC_ALL": "C"}
    tail: list[str] = []
    output = subprocess.PIPE
    try:
        with (
            log.open("a") as file,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=env,
            ) as program,
        ):
            assert program.stdout is not None
            for line in program.stdout:
                file.write(line)
                tail = [*tail[1 - LOG_TAIL :], line]
                line_seen()
    except FileNotFoundError:
        raise KernelBuildFailed(f"{command[0]}: no such program; `make setup` installs it") from None
    if program.returncode:
        last = "".join(tail)
        raise KernelBuildFailed(f"`{' '.join(command)}` ended with {program.returncode}; all of it in {log}\n{last}")
