"""Trace files to series: the format is recognised by the first rows or named by the caller. Pure: bytes in.

The readers (`readers/`) know one family of formats each; `readers.FORMATS` names them all. A CSV of any other kind is
read with a column map, such as {"t_s": "Time", "up_mbps": "UL"}.
"""

from collections.abc import Mapping

from testbed.trace.readers import FORMATS, Format, recognise
from testbed.trace.readers.plain import MAHIMAHI_BIN_US, MTU_BITS
from testbed.trace.readers.tables import Table, read_table
from testbed.trace.rows import MAX_BYTES, MAX_ROWS, TraceError, rows_of
from testbed.trace.series import RATES, Series

__all__ = ["MAHIMAHI_BIN_US", "MAX_BYTES", "MAX_ROWS", "MTU_BITS", "Format", "TraceError", "parse", "recognise"]


def parse(data: bytes, name: str, form: Format | None = None, columns: Mapping[str, str] | None = None) -> Series:
    """`columns`: ours -> the file's, for a CSV of another kind. Raises TraceError."""
    rows = rows_of(data)
    if not rows:
        raise TraceError(0, "the trace is empty; at least one row is right")
    if columns:
        series = read_table(rows, name, Table("mapped", columns))
    else:
        form = form or recognise(rows, name)
        if form not in FORMATS:
            raise TraceError(0, f"there is no trace format '{form}'; there are {', '.join(FORMATS)}")
        series = FORMATS[form].read(rows, name)
    rates = [series.columns[column] for column in RATES if column in series.columns]
    if rates and not any(map(any, rates)):
        raise TraceError(0, "every rate of the trace is zero; at least one must be more")
    return series
