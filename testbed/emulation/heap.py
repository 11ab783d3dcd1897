"""How a process that decides goes about its memory, so that decisions take about as long as each other.

A decision makes and drops arrays of some 100 KiB, over and over. By default the C library maps each of them anew, or
trims its heap behind them, and every page costs a fault when it comes back: 100 to 260 faults a decision, which were
6 to 14 % of its time. And it makes many objects, but no cycles of them: the collector looks often, and finds nothing.
"""

import ctypes
import gc

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
KEPT_BYTES, LARGE_BYTES = 64 << 20, 32 << 20  # free at the top of the heap; what is larger has a mapping of its own
MADE = 50_000  # objects more than were freed, before the collector looks


def keep_freed() -> bool:
    """Freed pages stay, cycles are seldom looked for. False: pages go back (the C library is not glibc)."""
    gc.set_threshold(MADE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGE_BYTES) and mallopt(TRIM_THRESHOLD, KEPT_BYTES))
