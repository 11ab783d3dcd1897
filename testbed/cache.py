"""Where what can be made again is kept: `$XDG_CACHE_HOME/mec-testbed`, by default `~/.cache/mec-testbed`.

Stdlib only.
"""

import os
from pathlib import Path


def cache_folder(part: str = "") -> Path:
    """The folder of one part of the cache; it need not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    base = Path(home) if home.startswith("/") else Path.home() / ".cache"
    return base / "mec-testbed" / part
