"""A process that keeps what it frees fetches no page twice."""

import subprocess
import sys

COUNTING = """
import resource
import sys
import numpy as np
from testbed.emulation.heap import keep_freed

if "kept" in sys.argv:
    assert keep_freed()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(50):
        parts = [np.ones(60_000) for _ in range(8)]
        del parts

work()
before = faults()
work()
print(faults() - before)
"""


def faults(*options: str) -> int:
    said = subprocess.run([sys.executable, "-c", COUNTING, *options], capture_output=True, text=True, check=True)
    return int(said.stdout)


def test_pages_that_were_freed_are_not_fetched_again():
    kept, given_back = faults("kept"), faults()
    assert kept < 100 < given_back
