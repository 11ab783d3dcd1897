"""Freed memory that stays with the process: a page handed back to the kernel and fetched anew costs a fault each time.

A decision makes and drops arrays of some 100 KiB, over and over. By default the C library maps each of them anew, or
trims its heap behind them: 100 to 260 faults a decision, which were 6 to 14 % of its time.
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
KEPT_BYTES, LARGE_BYTES = 64 << 20, 32 << 20  # free at the top of the heap; what is larger has a mapping of its own


def keep_freed() -> bool:
    """False: the C library is not glibc, or would not; nothing else depends on it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGE_BYTES) and mallopt(TRIM_THRESHOLD, KEPT_BYTES))
