"""The formats of traces by name, in the order in which they are tried: what shows itself most clearly goes first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from testbed.trace.readers import lists, logs, plain, tables
from testbed.trace.rows import Rows, TraceError
from testbed.trace.series import Series

Format = str  # a name in FORMATS


@dataclass(frozen=True, slots=True)
class Reader:
    recognises: Callable[[Rows, str], bool]  # by the first rows, and the file's name where the rows do not say
    read: Callable[[Rows, str], Series]  # raises TraceError


FORMATS: Mapping[Format, Reader] = {
    "iperf3": Reader(logs.is_iperf3, logs.read_iperf3),
    "nuttcp": Reader(logs.is_nuttcp, logs.read_nuttcp),
    "ping": Reader(logs.is_ping, logs.read_ping),
    "cicv5g": Reader(lists.is_cicv5g, lists.read_cicv5g),
    "mecperf": Reader(lists.is_mecperf, lists.read_mecperf),
    "memu22-rtt": Reader(lists.is_memu22_rtt, lists.read_memu22_rtt),
    "memu22-rate": Reader(lists.is_memu22_rate, lists.read_memu22_rate),
    "memu22": Reader(lists.is_memu22, lists.refuse_memu22),
    **{table.name: Reader(tables.sign_of(table), tables.reader_of(table)) for table in tables.TABLES},
    "csv": Reader(plain.is_csv, plain.read_csv),
    "mahimahi": Reader(plain.is_mahimahi, plain.read_mahimahi),
    "seconds": Reader(plain.is_seconds, plain.read_seconds),
}


def recognise(rows: Rows, name: str = "") -> Format:
    """Raises TraceError."""
    for form, reader in FORMATS.items():
        if reader.recognises(rows, name):
            return form
    line, text = rows[0]
    raise TraceError(
        line,
        f"no trace format has a row like {text[:40]!r}; right are '12.5 30.1' (seconds and Mbit/s), '1250' "
        f"(mahimahi, milliseconds), a CSV header such as 't_ms,{','.join(plain.COLUMNS)}', or any of "
        f"{', '.join(FORMATS)}",
    )
