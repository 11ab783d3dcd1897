"""Who goes first on a processor that all share.

In virtual time what makes and changes the network goes before what uses it.

There every reading of the clock costs a moment of it, and who waits for the one processor waits for the moments of
those before it. Without precedence a handover that takes Open vSwitch 0.3 ms took up to 2 ms, for the SDN application
was already at work on what follows from it, and it never took the same time twice.

In real time those who decide give way to those who compute and carry: a guest has one processor, and what the
controller did each second made a computation of 34 ms up to 12 ms longer.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

LOWEST = os.sched_param(1)  # of the real-time priorities: above all that is ordinary


GIVES_WAY = 15  # of niceness


def give_way(clock: str, process: int = 0) -> None:
    """For a process that decides, before it has threads; 0 is the calling one."""
    if clock == "real":
        os.setpriority(os.PRIO_PROCESS, process, GIVES_WAY)


@contextmanager
def precedence(clock: str) -> Iterator[None]:
    """For the calling thread, and for the threads and programs that it starts; in real time the kernel knows better."""
    if clock != "virtual":
        yield
        return
    os.sched_setscheduler(0, os.SCHED_RR, LOWEST)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
