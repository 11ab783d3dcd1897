"""The journal: whole records, torn tails, one order."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from testbed.journal import Journal, JournalError, merge, read, write_atomically


def test_a_record_is_on_disk_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "player")
    journal.record("step", 5, link="radio1", readback_ok=True)
    assert list(read(tmp_path / "parts" / "player.jsonl")) == [
        {"kind": "step", "t_us": 5, "link": "radio1", "readback_ok": True}
    ]


def test_records_of_many_threads_are_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "agents")

    def work(number: int) -> None:
        for count in range(100):
            journal.record("node", count, node=f"n{number}", text="x" * 300)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = list(read(journal.path))
    assert len(records) == 400
    assert [r["t_us"] for r in records if r["node"] == "n2"] == list(range(100))


def test_values_of_the_core_become_plain_json(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Slice:
        node: str
        first: int

    journal = Journal(tmp_path, "core")
    journal.record(
        "move", 1, slice=Slice("mec", 3), bytes=np.int64(7), rates=np.array([1, 2]), zones=frozenset({"b", "a"})
    )
    assert next(read(journal.path)) | {"kind": "", "t_us": 0} == {
        "kind": "",
        "t_us": 0,
        "slice": {"node": "mec", "first": 3},
        "bytes": 7,
        "rates": [1, 2],
        "zones": ["a", "b"],
    }


def test_infinite_numbers_and_unknown_objects_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "core")
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.record("decision", 1, gap=float("inf"))
    with pytest.raises(TypeError, match="JSON only, not object"):
        journal.record("decision", 1, what=object())
    assert journal.path.read_bytes() == b""


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    with Journal(tmp_path, "core") as journal:
        pass
    with pytest.raises(ValueError, match="closed"):
        journal.record("fault", 1, what="late")


@pytest.mark.parametrize("torn", [b'{"kind":"end","t_', b"\0\0\0\0\n", b'{"kind":"en\n', b"{"])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path, "core")
    journal.record("fault", 1, what="a", why="b")
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [record["kind"] for record in read(journal.path)] == ["fault"]


def test_a_broken_line_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind":"run","t_us":0}\nrubbish\n{"kind":"end","t_us":1}\n')
    with pytest.raises(JournalError, match=r"journal\.jsonl:2: not JSON"):
        list(read(path))
    path.write_text('{"t_us":0}\n{"kind":"end","t_us":1}\n')
    with pytest.raises(JournalError, match=r"journal\.jsonl:1: a record is"):
        list(read(path))


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_a_process_started_again_goes_on_behind_the_last_whole_record(tmp_path: Path, size: int) -> None:
    with Journal(tmp_path, "core") as journal:
        journal.record("fault", 1, what="a", why="b")
    with journal.path.open("ab") as file:
        file.write(b"x" * size)
    with Journal(tmp_path, "core") as journal:
        journal.record("fault", 2, what="c", why="d")
    assert [record["t_us"] for record in read(journal.path)] == [1, 2]


def test_a_killed_writer_loses_nothing_it_recorded(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        journal = Journal(tmp_path, "core")
        for count in range(50):
            journal.record("fault", count, what="a", why="b")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(list(read(tmp_path / "parts" / "core.jsonl"))) == 50


def test_merge_orders_by_time_then_part_then_position_and_repeats(tmp_path: Path) -> None:
    with Journal(tmp_path, "b") as b, Journal(tmp_path, "a") as a:
        b.record("x", 5, n=1)
        b.record("x", 5, n=2)
        b.record("x", -1, n=3)
        a.record("x", 5, n=4)
    merged = merge(tmp_path)
    assert [record["n"] for record in read(merged)] == [3, 4, 1, 2]
    content = merged.read_bytes()
    assert merge(tmp_path).read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["journal.jsonl", "parts"]


def test_merge_keeps_a_journal_whose_parts_are_gone_and_makes_an_empty_one_of_nothing(tmp_path: Path) -> None:
    assert merge(tmp_path).read_bytes() == b""
    (tmp_path / "journal.jsonl").write_text('{"kind":"run","t_us":0}\n')
    assert len(list(read(merge(tmp_path)))) == 1


def test_a_failed_replacement_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]
