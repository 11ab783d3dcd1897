"""What becomes of a process one of whose threads fails: each in a child of its own."""

import json
import os
import subprocess
import sys

SCRIPT = """
import sys, threading
from nodes.clock import MonotonicClock, Timer
from nodes.compute.device import Job, device_of
from nodes.compute.processor import Speed
from nodes.slices import Work
from nodes.threads import fail_loudly
from testbed.journal import Journal

clock = MonotonicClock()
journal = Journal(__import__("pathlib").Path(sys.argv[1]), "host-mec")
fail_loudly(journal.record, clock)
{body}
threading.Event().wait(20)
"""


def ended(tmp_path, body):
    """The exit code, what is on standard error, and the records."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lines = (tmp_path / "parts" / "host-mec.jsonl").read_text().splitlines()
    return done.returncode, done.stderr, [json.loads(line) for line in lines]


def test_a_failed_thread_is_a_fault_and_the_end(tmp_path):
    failing = "Job((Work(1),), 0, lambda: {}['x'], print)"
    code, told, records = ended(tmp_path, f"device_of('fifo', Speed(10**9), clock).submit({failing})")
    assert code == 70
    assert "KeyError" in told
    assert [(r["kind"], r["what"], r["why"]) for r in records] == [("fault", "thread", "device: KeyError: 'x'")]
    assert records[0]["t_us"] > 0


def test_it_ends_even_if_the_journal_takes_nothing(tmp_path):
    code, told, records = ended(tmp_path, "journal.close(); Timer(clock).at(0, lambda: 1 / 0)")
    assert (code, records) == (70, [])
    assert "ZeroDivisionError" in told


def test_a_thread_that_ends_itself_is_no_fault(tmp_path):
    body = "thread = threading.Thread(target=sys.exit); thread.start(); thread.join(); sys.exit(3)"
    assert ended(tmp_path, body) == (3, "", [])


def test_what_ends_the_process_can_be_another(tmp_path):
    body = """
fail_loudly(journal.record, clock, lambda: os._exit(4))
threading.Thread(target=lambda: 1 / 0, name="watch").start()
"""
    code, _, records = ended(tmp_path, "import os" + body)
    assert code == 4
    assert records[0]["why"].startswith("watch: ZeroDivisionError")
