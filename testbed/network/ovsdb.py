"""Open vSwitch's database over one open connection (RFC 7047): no program is started to change a bridge.

`commit` returns when ovs-vswitchd has done what was written. There is one writer: this process.
"""

import json
import socket
from pathlib import Path
from typing import Any

DATABASE = "Open_vSwitch"  # also its first table, of one row
DEADLINE_S = 60
RECEIVE_BYTES = 1 << 16

Operation = dict[str, Any]


class SwitchError(Exception):
    """Open vSwitch did not do what it was told."""


class Database:
    """One connection to ovsdb-server at a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wire.settimeout(DEADLINE_S)
        self._wire.connect(str(path))
        self._number = 0

    def transact(self, *operations: Operation) -> list[dict[str, Any]]:
        """What each operation gave, all of them or none. Raises SwitchError."""
        self._number += 1
        call = {"method": "transact", "params": [DATABASE, *operations], "id": self._number}
        try:
            self._wire.sendall(json.dumps(call).encode())
            answer = self._answer()
        except OSError as error:
            raise SwitchError(f"no answer from the database of Open vSwitch: {error}") from error
        results: list[dict[str, Any]] = answer["result"] or [answer]
        failed = next((result for result in results if result and result.get("error")), None)
        if failed:
            raise SwitchError(f"Open vSwitch: {failed['error']}: {failed.get('details', '')}")
        return results

    def commit(self, *operations: Operation) -> list[dict[str, Any]]:
        """Transact, then wait until the switches are as written. Raises SwitchError."""
        ask = mutate(DATABASE, [], ["next_cfg", "+=", 1]), select(DATABASE, [], "next_cfg")
        results = self.transact(*operations, *ask)
        (row,) = results[len(operations) + 1]["rows"]
        done = {"cur_cfg": row["next_cfg"]}
        wait = {"op": "wait", "table": DATABASE, "where": [], "columns": ["cur_cfg"], "until": "==", "rows": [done]}
        self.transact({**wait, "timeout": 1000 * DEADLINE_S})
        return results[: len(operations)]

    def _answer(self) -> dict[str, Any]:
        """Nothing marks its end but that it is whole."""
        text = b""
        while True:
            part = self._wire.recv(RECEIVE_BYTES)
            if not part:
                raise ConnectionResetError("it has closed the connection")
            text += part
            try:
                answer: dict[str, Any] = json.loads(text)
            except ValueError:
                continue
            return answer


def insert(table: str, row: dict[str, Any], name: str) -> Operation:
    """`name` is how other operations of the transaction call the row: see `new`."""
    return {"op": "insert", "table": table, "row": row, "uuid-name": name}


def new(name: str) -> list[str]:
    """A row that is inserted in the same transaction."""
    return ["named-uuid", name]


def select(table: str, where: list[Any], *columns: str) -> Operation:
    return {"op": "select", "table": table, "where": where, "columns": list(columns)}


def update(table: str, where: list[Any], row: dict[str, Any]) -> Operation:
    return {"op": "update", "table": table, "where": where, "row": row}


def mutate(table: str, where: list[Any], *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": table, "where": where, "mutations": list(mutations)}


def named(name: str) -> list[Any]:
    """The rows of that name."""
    return [["name", "==", name]]
