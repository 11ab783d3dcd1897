"""What measuring programs print: iperf3 and nuttcp (rates), ping (delays). Pure.

A bulk transfer saturates the path: its rates are the goodput of one flow that never pauses. Which way it went is said
by the log itself. A ping measures the round trip; a link's delay is one way, so half of it goes into `delay_us`.
"""

import re

from testbed.trace.rows import Clock, Rows, TraceError, number
from testbed.trace.series import Column, Series

LOOK = 40  # rows in which a log shows what it is
WIDE = 400  # characters of a row that are looked at

_IPERF3 = re.compile(
    r"\[\s*(?P<id>\d+|SUM)\](?:\[[\w-]+\])?\s+(?P<from>\d+\.\d+)-(?P<to>\d+\.\d+)\s+sec\s+[\d.]+ [KMGT]?Bytes\s+"
    r"(?P<rate>[\d.]+) (?P<unit>[KMGT]?)bits/sec(?P<rest>.*)",
    re.ASCII,
)
_IPERF3_SIGN = re.compile(r"\[ *ID\] Interval")
_NUTTCP = re.compile(r"[\d.]+ MB /\s+(?P<for>[\d.]+) sec =\s+(?P<rate>[\d.]+) Mbps", re.ASCII)
_NUTTCP_SIGN = re.compile(r"nuttcp-(?P<side>[rt]): ")
_PING = re.compile(r"\b(?:icmp_)?seq=(?P<seq>\d{1,9})\b.*?\btime[=<](?P<rtt>[\d.]+) ?ms(?P<rest>.*)", re.ASCII)
_PING_SIGN = re.compile(r"PING \S+.*\bbytes\b")
_PING_END = re.compile(
    r"(?P<sent>\d{1,9}) packets transmitted, (?P<got>\d{1,9}) (?:packets )?received"
    r"(?:.*, time (?P<time>\d{1,12}) ?ms)?",
    re.ASCII,
)
_SCALE = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _found(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return pattern.search(text[:WIDE])


def is_iperf3(rows: Rows, _name: str) -> bool:
    return any(_found(_IPERF3_SIGN, text) or _found(_IPERF3, text) for _, text in rows[:LOOK])


def is_nuttcp(rows: Rows, _name: str) -> bool:
    return any(_found(_NUTTCP_SIGN, text) or _found(_NUTTCP, text) for _, text in rows[:LOOK])


def is_ping(rows: Rows, _name: str) -> bool:
    return any(_found(_PING_SIGN, text) or _found(_PING, text) for _, text in rows[:LOOK])


def read_iperf3(rows: Rows, name: str) -> Series:
    """Of the lines of several streams, only their sums."""
    column: Column = "up_bps"
    found: list[tuple[int, re.Match[str]]] = []
    for line, text in rows:
        if text.startswith("Reverse mode"):
            column = "down_bps"
        if text.startswith("- - - -") and found and not _more(found[-1][1], rows, line):
            break
        match = _found(_IPERF3, text)
        if match and "(omitted)" not in match["rest"]:
            found.append((line, match))
    if any(match["id"] == "SUM" for _, match in found):
        found = [(line, match) for line, match in found if match["id"] == "SUM"]
    if not found:
        raise TraceError(0, "no interval of iperf3; a line is '[  5]   0.00-1.00   sec  1.2 MBytes  10.0 Mbits/sec'")
    clock, rates = Clock(), []
    for line, match in found:
        clock.add(line, match["from"], 10**6)
        rates.append(round(number(match["rate"], line, "the rate", 10**6) * _SCALE[match["unit"]]))
    last = round((float(found[-1][1]["to"]) - float(found[-1][1]["from"])) * 10**6)
    made = []
    zero = sum(rate == 0 for rate in rates) / len(rates)
    if column == "up_bps" and zero > 0.2 and last < 10**6:
        made.append(f"{zero:.0%} of the steps are 0, as the sender writes in lumps: resample to 1s before a replay")
    return Series(
        name, tuple(clock.t_us), clock.t_us[-1] + max(1, last), {column: tuple(rates)}, {}, "saturating", tuple(made)
    )


def _more(last: re.Match[str], rows: Rows, line: int) -> bool:
    """With several streams a row of dashes stands after each interval, without them before the totals."""
    after = next((found for at, text in rows if at > line and (found := _found(_IPERF3, text))), None)
    return after is not None and float(after["from"]) >= float(last["to"])


def read_nuttcp(rows: Rows, name: str) -> Series:
    """Times are the sum of the intervals: the clock of each line has the jitter of its way back."""
    column: Column | None = None
    t_us = 0
    times, rates = [], []
    for line, text in rows:
        sign = _found(_NUTTCP_SIGN, text)
        if sign and column is None:
            column = "down_bps" if sign["side"] == "r" else "up_bps"
        match = _found(_NUTTCP, text)
        if match:
            times.append(t_us)
            t_us += max(1, round(number(match["for"], line, "the interval", 86_400) * 10**6))
            rates.append(round(number(match["rate"], line, "the rate", 10**6) * 10**6))
    if not times:
        raise TraceError(0, "no interval of nuttcp; a line is '1.0625 MB /   0.50 sec =   17.8223 Mbps'")
    return Series(name, tuple(times), t_us, {column or "rate_bps": tuple(rates)}, recorded="saturating")


def read_ping(rows: Rows, name: str) -> Series:
    """Times by sequence number; the interval is that of the summary, else one second, which is ping's own."""
    rtts: dict[int, float] = {}
    step_us, told = 10**6, ""
    for line, text in rows:
        match = _found(_PING, text)
        if match and "DUP!" not in match["rest"]:
            rtts.setdefault(int(match["seq"]), number(match["rtt"], line, "the round trip", 120_000))
        end = _found(_PING_END, text)
        if end:
            sent = int(end["sent"])
            told = f"{sent - int(end['got'])} of {sent} pings lost, which is not replayed"
            if sent > 1 and end["time"] and int(end["time"]):
                step_us = max(1, round(int(end["time"]) * 1000 / (sent - 1)))
    if not rtts:
        raise TraceError(0, "no answer to a ping; a line is '64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=9.1 ms'")
    clock = Clock()
    for sequence in sorted(rtts):
        clock.add_us(0, sequence * step_us, str(sequence))
    delays = tuple(round(rtts[sequence] * 500) for sequence in sorted(rtts))
    made = ("delay is half the round trip", *([told] if told and not told.startswith("0 ") else []))
    return Series(name, tuple(clock.t_us), clock.t_us[-1] + step_us, {"delay_us": delays}, {}, "probing", made)
