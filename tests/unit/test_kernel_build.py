import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from testbed.kernel import build
from testbed.kernel.build import KernelBuildFailed, Source


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A kernel source whose whole content is a makefile, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "PATCHES", tmp_path)  # none there
    return pack(tmp_path, monkeypatch, "allnoconfig:\n\ttouch $(O)/.config\nlinux:\n\tcp /bin/true $(O)/linux\n")


def pack(folder: Path, monkeypatch: pytest.MonkeyPatch, makefile: str) -> Source:
    tree = folder / "linux-source-6.12"
    tree.mkdir(exist_ok=True)
    (tree / "Makefile").write_text(makefile)
    sources = folder / "src"
    sources.mkdir(exist_ok=True)
    tarball = sources / "linux-source-6.12.tar.xz"
    subprocess.run(["tar", "-cJf", tarball, "-C", folder, tree.name], check=True)
    source = Source("6.12", "1.0", tarball)
    monkeypatch.setattr(build, "find_source", lambda: source)
    return source


def silent(stage: str, share: float) -> None: ...


def left_overs(kernel: Path) -> Sequence[Path]:
    return list(kernel.parent.parent.glob("build-*"))


def test_builds_once(packed: Source) -> None:
    assert build.installed() is None
    kernel = build.build(silent)
    assert build.installed() == kernel
    first = kernel.stat().st_ino
    assert build.build(silent).stat().st_ino == first
    assert subprocess.run([kernel], check=False).returncode == 0
    assert left_overs(kernel) == []


def test_a_failed_build_leaves_nothing_and_tells_the_last_lines(
    packed: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pack(tmp_path, monkeypatch, "allnoconfig:\n\ttrue\nlinux:\n\techo no such instruction; exit 1\n")
    with pytest.raises(KernelBuildFailed, match="no such instruction"):
        build.build(silent)
    assert build.installed() is None
    assert left_overs(build.kernel_file(source)) == []


def test_what_a_killed_builder_left_is_removed(packed: Source) -> None:
    left = build.kernel_file(packed).parent.parent / "build-dead"
    (left / "source").mkdir(parents=True)
    build.build(silent)
    assert not left.exists()


def test_another_source_or_configuration_is_another_kernel(
    packed: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = Source("6.12", "1.1", packed.tarball)
    files = {build.kernel_file(packed), build.kernel_file(newer)}
    assert not build.replans()
    (tmp_path / "netem-6.12.patch").write_text("changes nothing\n")
    files.add(build.kernel_file(packed))
    assert build.replans()
    config = tmp_path / "config"
    config.write_text("CONFIG_NET=y\n")
    monkeypatch.setattr(build, "CONFIG", config)
    assert len(files | {build.kernel_file(packed)}) == 4


def test_the_source_is_patched_before_it_is_built(packed: Source, tmp_path: Path) -> None:
    change = "--- a/Makefile\n+++ b/Makefile\n@@ -4 +4 @@\n-\tcp /bin/true $(O)/linux\n+\tcp /bin/false $(O)/linux\n"
    (tmp_path / "netem-6.12.patch").write_text(change)
    assert subprocess.run([build.build(silent)], check=False).returncode == 1


def test_every_patch_of_the_release_is_applied_and_no_other(packed: Source, tmp_path: Path) -> None:
    before = build.kernel_file(packed)
    (tmp_path / "netem-6.1.patch").write_text("of another release\n")
    assert build.kernel_file(packed) == before
    for name in ("clock", "netem"):
        (tmp_path / f"{name}-6.12.patch").write_text("--- a/none\n+++ b/none\n")
    assert [patch.name for patch in build.patches(packed)] == ["clock-6.12.patch", "netem-6.12.patch"]
    assert build.kernel_file(packed) != before


def test_a_patch_that_does_not_fit_fails_the_build(packed: Source, tmp_path: Path) -> None:
    (tmp_path / "netem-6.12.patch").write_text("--- a/Makefile\n+++ b/Makefile\n@@ -1 +1 @@\n-no such line\n+other\n")
    with pytest.raises(KernelBuildFailed, match="patch"):
        build.build(silent)
    assert build.installed() is None


def test_no_source_says_which_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "find_source", lambda: None)
    with pytest.raises(KernelBuildFailed, match=r"linux-source-6\.12"):
        build.build(silent)
    assert build.installed() is None


def test_the_newest_source_is_taken(tmp_path: Path) -> None:
    assert build.find_source(tmp_path) is None
    (tmp_path / "linux-source-6.1.tar.xz").write_bytes(b"x")
    (tmp_path / "linux-source-6.12.tar.xz").write_bytes(b"xy")
    source = build.find_source(tmp_path)
    assert source is not None
    assert source.release == "6.12"


def test_a_second_builder_waits(packed: Source) -> None:
    cache = build.kernel_file(packed).parent.parent
    cache.mkdir(parents=True)
    seen: list[str] = []
    with (cache / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def release(stage: str, share: float) -> None:
            seen.append(stage)
            fcntl.flock(held, fcntl.LOCK_UN)

        build.build(release)
    assert seen[0] == "waiting for another build"


def test_the_configuration_names_each_option_once() -> None:
    options = [line for line in build.CONFIG.read_text().splitlines() if line and not line.startswith("#")]
    assert len(options) == len(set(options))
    assert {"CONFIG_UML_TIME_TRAVEL_SUPPORT=y", "CONFIG_NET_SCH_NETEM=y", "CONFIG_HOSTFS=y"} <= set(options)


def test_plain_progress_says_each_tenth_once() -> None:
    said: list[str] = []
    progress = build.PlainProgress(said.append)
    for share in (0.0, 0.01, 0.1, 0.11, 0.99):
        progress("compile", share)
    assert said == ["guest kernel: compile 0 %", "guest kernel: compile 10 %", "guest kernel: compile 90 %"]
