import stat
from pathlib import Path

import pytest

from testbed import doctor, packages
from testbed.doctor import Check, modes

GOOD = tuple(
    Check(name, True, "fine")
    for name in {name for names in doctor.NEEDED.values() for name in names} | {"kernel datapath"}
)


def without(name: str) -> tuple[Check, ...]:
    return tuple(Check(name, False, "gone", "mend it") if check.name == name else check for check in GOOD)


def usable(checks: tuple[Check, ...]) -> set[tuple[str, str]]:
    return {(mode.kernel, mode.clock) for mode in modes(checks) if mode.usable}


def test_a_whole_machine_can_do_all_but_virtual_time_on_its_own_kernel() -> None:
    assert usable(GOOD) == {("guest", "virtual"), ("guest", "real"), ("host", "real")}


@pytest.mark.parametrize("name", ["root", "netem on host", "veth on host", "tun device"])
def test_what_only_the_host_kernel_needs_leaves_the_guest(name: str) -> None:
    assert usable(without(name)) == {("guest", "virtual"), ("guest", "real")}


@pytest.mark.parametrize("name", ["guest kernel", "sandbox"])
def test_what_only_the_guest_needs_leaves_the_host(name: str) -> None:
    assert usable(without(name)) == {("host", "real")}


def test_a_kernel_may_do_without_its_datapath() -> None:
    assert usable(without("kernel datapath")) == usable(GOOD)


def test_why_not_names_what_is_missing_and_what_mends_it() -> None:
    (host,) = [mode for mode in modes(without("netem on host")) if (mode.kernel, mode.clock) == ("host", "real")]
    assert host.why_not == ("netem on host: gone (mend it)",)


def test_needed_checks_are_made() -> None:
    made = {check.name for check in doctor.examine().checks}
    assert {name for names in doctor.NEEDED.values() for name in names} <= made


def test_a_failed_check_says_what_mends_it() -> None:
    assert all(check.remedy for check in doctor.examine().checks if not check.ok)


def test_a_guest_kernel_that_does_not_boot_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "linux"
    broken.write_text("#!/bin/sh\necho no ptrace here >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(doctor.build, "installed", lambda: broken)
    check = doctor._guest_kernel()
    assert not check.ok
    assert check.found == "no ptrace here"


def test_a_package_that_differs_from_the_lock_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("nowhere-found==1.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    check = doctor._python_packages()
    assert not check.ok
    assert "nowhere-found 1.0" in check.found


def test_wanted_packages_have_alternatives_and_comments() -> None:
    assert packages.wanted("# kernel\na | b\n\nc  # why\n") == [("a", "b"), ("c",)]


def test_an_alternative_is_enough() -> None:
    everything = {names[-1]: "1" for names in packages.wanted(packages.LIST.read_text())}
    assert packages.missing(everything) == []
    everything.pop("linux-source-6.1")
    assert packages.missing(everything) == [("linux-source-6.12", "linux-source-6.1")]


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from testbed.cache import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("kernel") == tmp_path / "mec-testbed" / "kernel"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("~/.cache/mec-testbed").expanduser()


def test_a_guest_kernel_says_which_control_groups_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = tmp_path / "linux"
    monkeypatch.setattr(doctor.build, "installed", lambda: kernel)
    found = []
    for controllers in ("cpu memory pids", "cpu pids"):
        kernel.write_text(f"#!/bin/sh\necho {controllers}\n")
        kernel.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR)
        found.append(doctor._guest_groups())
    assert [check.ok for check in found] == [True, False]
    assert "compute: cgroup works with --clock real" in found[0].found
    assert found[1].found == "no controller memory"
