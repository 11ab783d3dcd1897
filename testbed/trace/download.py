"""Fetches a recording from its home.

Rules: https only, redirects too (http from this machine itself); nothing is used before its digest is right; nothing is
written over; a file is there whole or not at all; a server that sends too much, too little or too slowly is an error.
"""

import hashlib
import os
import re
import time
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from testbed.trace.datasets import Recording

WAIT_S = 30.0  # for the server, each time
WHOLE_S = 1800.0
MOST_BYTES = 2**30
CHUNK_BYTES = 2**16
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
Progress = Callable[[int, int | None], None]  # bytes so far, of how many


class DownloadError(Exception):
    """It is not here; the message says why."""


class _Redirects(HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(recording: Recording, folder: Path, progress: Progress = lambda _done, _all: None) -> Path:
    """The file, which may have been there before, if it is the same. Raises DownloadError."""
    if not _NAME.fullmatch(recording.name):
        raise DownloadError(f"{recording.name!r} is no name for a file; letters, digits, '.', '-' and '_' are right")
    _check_url(recording.url)
    target = folder / recording.name
    try:
        if target.exists():
            _compare(target, recording, _digest(target))
            return target
        with TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            part = Path(scratch) / "part"
            _receive(recording, part, progress)
            if recording.member is not None:
                part = _unpacked(recording, part)
            _compare(None, recording, _digest(part))
            os.link(part, target)  # unlike a rename it never takes another's place
    except FileExistsError:
        raise DownloadError(f"{target} has come meanwhile; it is not written over") from None
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written: {error.strerror or error}") from None
    return target


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise DownloadError(f"{url[:200]!r} is no address of a file; one like https://HOST/PATH is right") from None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise DownloadError(f"{url[:200]}: only https is used; an address like https://HOST/PATH is right")


def _compare(there: Path | None, recording: Recording, found: str) -> None:
    if found == recording.sha256:
        return
    if there is not None:
        raise DownloadError(
            f"{there} is there already with sha256 {found}; {recording.name} has {recording.sha256}. It is not "
            "written over: move it away or name another folder"
        )
    raise DownloadError(
        f"{recording.url}: wrong digest: it has sha256 {found}, right is {recording.sha256}; nothing was kept"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _receive(recording: Recording, part: Path, progress: Progress) -> None:
    """What the home sends, into a new file."""
    most = MOST_BYTES if recording.member or recording.size_bytes is None else recording.size_bytes
    request = Request(recording.url, headers={"User-Agent": "mec-testbed", "Accept-Encoding": "identity"})
    try:
        # the scheme is checked: https, or http from this machine
        with build_opener(_Redirects).open(request, timeout=WAIT_S) as answer, part.open("xb") as file:
            length = answer.headers.get("Content-Length", "")
            told = int(length) if length.isascii() and length.isdecimal() else None
            _copy(recording.url, answer, file, most, told=told, progress=progress)
    except HTTPError as error:
        raise DownloadError(f"{recording.url}: the server says {error.code} {error.reason}") from None
    except URLError as error:
        raise DownloadError(f"{recording.url}: cannot be reached: {error.reason}") from None
    except TimeoutError:
        raise DownloadError(f"{recording.url}: nothing came for {WAIT_S:g} s") from None
    except (HTTPException, ConnectionError) as error:
        raise DownloadError(f"{recording.url}: the connection broke: {error or type(error).__name__}") from None


def _copy(url: str, answer: Any, file: IO[bytes], most: int, *, told: int | None, progress: Progress) -> None:
    if told is not None and told > most:
        raise DownloadError(f"{url}: {told} bytes are announced; at most {most} are right")
    done, until = 0, time.monotonic() + WHOLE_S
    while chunk := answer.read1(CHUNK_BYTES):
        done += len(chunk)
        if done > most:
            raise DownloadError(f"{url}: more than {most} bytes came; that is too much")
        if time.monotonic() > until:
            raise DownloadError(f"{url}: {done} bytes in {WHOLE_S:g} s; that is too slow")
        file.write(chunk)
        progress(done, told)
    if told is not None and done < told:
        raise DownloadError(f"{url}: it ended after {done} of {told} bytes; try again")


def _unpacked(recording: Recording, archive: Path) -> Path:
    """The member of a zip archive, no longer than it may be."""
    member, out = recording.member or "", archive.with_name("member")
    most = MOST_BYTES if recording.size_bytes is None else recording.size_bytes
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as packed, out.open("xb") as file:
            _copy(f"{recording.url}!{member}", packed, file, most, told=None, progress=lambda _done, _all: None)
    except KeyError:
        raise DownloadError(f"{recording.url}: the archive has no {member}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DownloadError(f"{recording.url}: not a zip archive that can be read: {error}") from None
    return out
