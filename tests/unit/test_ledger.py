"""What the ledger keeps, and what it makes of a damaged file."""

import os

import pytest

from controller.ledger import Ledger, LedgerError
from controller.model import Placement

FIRST, SECOND = Placement(1, {"s": ("a", "a")}), Placement(2, {"s": ("a", "b")})


def filled(path):
    ledger = Ledger(path)
    ledger.commit(FIRST, 10)
    ledger.commit(SECOND, 20)
    ledger.close()
    return path


def test_what_was_committed_is_recovered(tmp_path):
    again = Ledger(filled(tmp_path / "ledger"))
    assert again.recover() == SECOND
    assert again.history() == (FIRST, SECOND)
    assert Ledger(tmp_path / "new").recover() is None


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_epochs_strictly_increase(tmp_path, epoch):
    with pytest.raises(LedgerError, match="strictly increase"):
        Ledger(filled(tmp_path / "ledger")).commit(Placement(epoch, {}), 30)


def test_a_last_line_torn_anywhere_is_no_commit(tmp_path):
    path = filled(tmp_path / "ledger")
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for cut in range(first, len(data)):
        path.write_bytes(data[:cut])
        ledger = Ledger(path)
        assert ledger.recover() == FIRST
        ledger.commit(SECOND, 20)
        ledger.close()
        assert path.read_bytes() == data


def test_damage_before_the_end_is_an_error(tmp_path):
    path = filled(tmp_path / "ledger")
    path.write_bytes(path.read_bytes().replace(b'"a","a"', b'"a","c"', 1))
    with pytest.raises(LedgerError, match=":1: damaged"):
        Ledger(path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    path = filled(tmp_path / "ledger")
    before, ledger = path.read_bytes(), Ledger(path)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerError, match="No space left"):
        ledger.commit(Placement(3, {"s": ("b", "b")}), 30)
    assert path.read_bytes() == before
    assert ledger.last_epoch() == 2
