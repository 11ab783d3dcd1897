"""Downloads, from a server on this machine."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.trace import datasets, download
from testbed.trace.datasets import RECORDINGS, Recording
from testbed.trace.download import DownloadError, fetch
from testbed.trace.lookup import read_trace

BYTES = b"0.0 5\n1.0 6\n"
DIGEST = hashlib.sha256(BYTES).hexdigest()


def zipped(name: str, data: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return held.getvalue()


class Home(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []
    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {
        "/right": (200, {}, BYTES),
        "/short": (200, {"Content-Length": "100"}, BYTES),
        "/long": (200, {"Content-Length": str(10**12)}, BYTES),
        "/more": (200, {"Content-Length": ""}, BYTES * 10**6),
        "/gone": (404, {}, b""),
        "/moved": (302, {"Location": "/right"}, b""),
        "/away": (302, {"Location": "http://example.org/right"}, b""),
        "/file": (302, {"Location": "file:///etc/hostname"}, b""),
        "/archive.zip": (200, {}, zipped("in/it", BYTES)),
        "/bomb.zip": (200, {}, zipped("in/it", bytes(10**7))),
    }

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/silent":
            self.server.quiet.wait(30)  # type: ignore[attr-defined]
            return
        status, headers, body = self.answers[self.path]
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):  # who was sent too much hangs up
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Home)
    server.quiet = threading.Event()  # type: ignore[attr-defined]
    Home.asked.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.quiet.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def recording(url: str, sha256: str = DIGEST, member: str | None = None, size: int | None = len(BYTES)) -> Recording:
    return Recording("a.txt", "a test", "none", url, size, sha256, member=member)


@pytest.mark.parametrize(("path", "member"), [("/right", None), ("/moved", None), ("/archive.zip", "in/it")])
def test_what_has_its_digest_is_kept(home: str, path: str, member: str | None, tmp_path: Path) -> None:
    seen: list[int] = []
    found = fetch(recording(home + path, member=member), tmp_path, lambda done, _all: seen.append(done))
    assert (found, found.read_bytes()) == (tmp_path / "a.txt", BYTES)
    assert list(tmp_path.iterdir()) == [found]
    assert seen


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/short", "ended after 12 of 100 bytes"),
        ("/long", "1000000000000 bytes are announced; at most 12"),
        ("/more", "more than 12 bytes came"),
        ("/gone", "the server says 404"),
        ("/away", "only https"),
        ("/file", "only https|not allowed"),
    ],
)
def test_what_is_not_as_it_should_be_is_named_and_leaves_nothing(
    home: str, path: str, why: str, tmp_path: Path
) -> None:
    size = None if path == "/short" else len(BYTES)
    with pytest.raises(DownloadError, match=why):
        fetch(recording(home + path, size=size), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_digest_names_both(home: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(recording(f"{home}/right", "0" * 64), tmp_path)
    assert DIGEST in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "member", "why"),
    [
        ("/archive.zip", "no/it", "has no no/it"),
        ("/right", "in/it", "not a zip"),
        ("/bomb.zip", "in/it", "more than 12"),
    ],
)
def test_an_archive_that_is_not_right_is_named(home: str, path: str, member: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=why):
        fetch(recording(home + path, member=member), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_is_left(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAIT_S", 0.05)
    with pytest.raises(DownloadError, match=r"nothing came|timed out"):
        fetch(recording(f"{home}/silent"), tmp_path)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(recording("http://127.0.0.1:1/right"), tmp_path)


def test_nothing_is_written_over_and_what_is_there_is_not_fetched_again(home: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="is there already"):
        fetch(recording(f"{home}/right"), tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"mine"
    (tmp_path / "a.txt").write_bytes(BYTES)
    assert fetch(recording(f"{home}/right"), tmp_path).read_bytes() == BYTES
    assert Home.asked == []


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "ftp://example.org/a", "file:///etc/hostname", "https://", "https://[::1/a", "a"]
)
def test_only_https_is_used(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"https://HOST/PATH"):
        fetch(recording(url), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(home: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(recording(f"{home}/right"), tmp_path / "none")


def test_a_name_stays_in_its_folder(home: str, tmp_path: Path) -> None:
    for name in ("../a", ".a", "", "a/b"):
        with pytest.raises(DownloadError, match="no name for a file"):
            fetch(Recording(name, "", "", f"{home}/right", None, DIGEST), tmp_path)


def call(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["trace", "download", *words], prog_name="testbed")
    return done.exit_code, done.stdout, done.stderr


def test_the_command_leaves_a_trace_that_says_how_it_was_recorded(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Recording("walk", "a test", "none", f"{home}/right", len(BYTES), DIGEST, "goodput")
    monkeypatch.setattr(datasets, "RECORDINGS", (one,))
    code, out, _ = call("walk", "--into", str(tmp_path))
    assert (code, out.strip()) == (0, str(tmp_path / "walk"))
    series = read_trace(tmp_path / "walk")
    assert (series.recorded, series.made) == ("goodput", (f"downloaded from {home}/right",))
    assert json.loads((tmp_path / "walk.json").read_text())["sha256"] == DIGEST


def test_an_address_needs_its_digest(home: str, tmp_path: Path) -> None:
    code, _, said = call(f"{home}/right", "--into", str(tmp_path))
    assert (code, "--sha256" in said) == (2, True)
    code, out, _ = call(f"{home}/right?x=1".removesuffix("?x=1"), "--sha256", DIGEST, "--into", str(tmp_path), "--json")
    assert (code, json.loads(out)["path"]) == (0, str(tmp_path / "right"))
    code, _, said = call(f"{home}/gone", "--sha256", DIGEST, "--into", str(tmp_path))
    assert (code, "404" in said) == (1, True)


def test_what_can_be_downloaded_is_listed_and_the_nearest_named() -> None:
    listed = json.loads(call("--json")[1])["recordings"]
    assert [one["name"] for one in listed] == [one.name for one in RECORDINGS]
    code, _, said = call("nyc-lte-bux")
    assert (code, "did you mean 'nyc-lte-bus'" in said) == (2, True)
    assert call("nyc-lte-bus", "--sha256", "0" * 64)[0] == 2


def test_the_registry_is_sound() -> None:
    assert len({one.name for one in RECORDINGS}) == len({one.sha256 for one in RECORDINGS}) == len(RECORDINGS)
    for one in RECORDINGS:
        assert one.url.startswith("https://")
        assert len(one.sha256) == 64
        assert set(one.sha256) <= set("0123456789abcdef")
        assert one.of
        assert one.licence
