"""Real time inside a guest whose clocks are virtual: the processor's own cycle counter.

Only what the testbed itself costs is measured with it (how long a decision took, how long a run took).
"""

import ctypes
import json
import mmap
import platform
import time
from collections.abc import Callable
from pathlib import Path

# rdtsc; shl rdx, 32; or rax, rdx; ret
READ_COUNTER = bytes.fromhex("0f3148c1e2204809d0c3")
CALIBRATION_S = 0.05
FILE = "machine.json"


def counter() -> Callable[[], int]:
    """A function that reads the counter; on another processor than x86-64 the ordinary clock in nanoseconds."""
    if platform.machine() != "x86_64":
        return time.perf_counter_ns
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(READ_COUNTER)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def count(_code: mmap.mmap = page) -> int:  # the page must live as long as the function
        return int(read())

    return count


def calibrate() -> int:
    """Counts per second, measured against the host's clock. To be called outside a guest."""
    read = counter()
    start_count, start_ns = read(), time.perf_counter_ns()
    time.sleep(CALIBRATION_S)
    end_count, end_ns = read(), time.perf_counter_ns()
    return round((end_count - start_count) * 1e9 / (end_ns - start_ns))


def save_calibration(run_folder: Path) -> None:
    (run_folder / FILE).write_text(json.dumps({"counts_per_s": calibrate()}))


def stopwatch(run_folder: Path) -> Callable[[], int]:
    """A function that tells real microseconds since some fixed moment."""
    counts_per_s = json.loads((run_folder / FILE).read_text())["counts_per_s"]
    read = counter()
    return lambda: read() * 1_000_000 // counts_per_s
