"""Which packages of the distribution are wanted, and which are missing. Stdlib only: the set-up runs it first."""

import subprocess
from pathlib import Path

LIST = Path(__file__).resolve().parents[1] / "setup" / "packages.txt"


class NotDebian(Exception):
    """No dpkg here, so nothing is known of packages."""


def wanted(text: str) -> list[tuple[str, ...]]:
    """Each package of a list as its alternatives, best first. A line is `a` or `a | b`; `#` starts a comment."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [tuple(name.strip() for name in line.split("|")) for line in lines if line]


def installed() -> dict[str, str]:
    """package -> version, of all that is fully installed. NotDebian without dpkg."""
    form = "${Package}\t${Version}\t${db:Status-Status}\n"
    try:
        done = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NotDebian("no dpkg-query: this is not a Debian; setup/packages.txt lists what is needed") from None
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {name: version for name, version, status in rows if status == "installed"}


def missing(present: dict[str, str]) -> list[tuple[str, ...]]:
    """What is wanted and of which no alternative is present."""
    return [names for names in wanted(LIST.read_text()) if not any(name in present for name in names)]
