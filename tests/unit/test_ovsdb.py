"""The connection to Open vSwitch's database, against a real one without switches: the test plays ovs-vswitchd."""

import shutil
import subprocess
import threading

import pytest

from testbed.network.ovsdb import DATABASE, Database, SwitchError, insert, mutate, named, new, select, update
from testbed.network.switch import NONE, SCHEMA
from tests.unit.sockets import opened

pytestmark = pytest.mark.skipif(
    shutil.which("ovsdb-server") is None or not SCHEMA.exists(),
    reason="not run: needs ovsdb-server (openvswitch-switch)",
)


@pytest.fixture
def socket_path(tmp_path):
    file, path = tmp_path / "conf.db", tmp_path / "db.sock"
    subprocess.run(["ovsdb-tool", "create", file, SCHEMA], check=True)
    words = [f"--remote=punix:{path}", f"--pidfile={tmp_path / 'pid'}", f"--unixctl={tmp_path / 'ctl'}", "--no-chdir"]
    server = subprocess.Popen(["ovsdb-server", file, *words, "-vconsole:off", "-vsyslog:off"])
    opened(lambda: Database(path))
    yield path
    server.terminate()
    server.wait()


@pytest.fixture
def database(socket_path):
    database = Database(socket_path)
    database.transact(insert(DATABASE, {}, "first"))
    return database


def bridge(name):
    return insert("Bridge", {"name": name}, "b"), mutate(DATABASE, [], ["bridges", "insert", ["set", [new("b")]]])


def test_what_is_written_is_read(database):
    database.transact(*bridge("bs1"))
    database.transact(update("Bridge", named("bs1"), {"fail_mode": "secure"}))
    (row,) = database.transact(select("Bridge", named("bs1"), "name", "fail_mode", "controller"))[0]["rows"]
    assert row == {"name": "bs1", "fail_mode": "secure", "controller": NONE}


def test_a_refused_transaction_says_why_and_leaves_nothing(database):
    with pytest.raises(SwitchError, match="constraint violation"):
        database.transact(*bridge("bs1"), update("Bridge", named("bs1"), {"fail_mode": "whatever"}))
    assert database.transact(select("Bridge", [], "name"))[0]["rows"] == []
    with pytest.raises(SwitchError, match="No table named Nothing"):
        database.transact(select("Nothing", [], "name"))


def test_a_commit_is_over_when_the_switches_have_followed(database, socket_path):
    done = threading.Event()

    def commit():
        database.commit(*bridge("bs1"))
        done.set()

    thread = threading.Thread(target=commit)
    thread.start()
    switches, held = Database(socket_path), []
    while not held:
        held = switches.transact(select("Bridge", [], "name"))[0]["rows"]
    assert not done.wait(0.05)
    switches.transact(update(DATABASE, [], {"cur_cfg": 1}))
    thread.join(60)
    assert done.is_set()


def test_a_database_that_ends_is_told(database):
    database._wire.shutdown(2)
    with pytest.raises(SwitchError, match="no answer"):
        database.transact(select("Bridge", [], "name"))
