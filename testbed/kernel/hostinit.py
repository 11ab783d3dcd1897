"""The first process of a run on the host's own kernel: a private /run in namespaces of its own, then the director.

Started as: python -m testbed.kernel.hostinit RUN_FOLDER DIRECTOR_MODULE, by `host.run_on_host`.
"""

import importlib
import os
import sys
from pathlib import Path

from testbed.kernel.init import MS_NODEV, MS_NOSUID, mount


def main(run_folder: str, director: str) -> None:
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.chdir(run_folder)
    importlib.import_module(director).main(Path(run_folder))


if __name__ == "__main__":
    main(*sys.argv[1:3])
