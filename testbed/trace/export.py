"""Series to trace files: the inverse of `formats`. Pure: text out."""

from testbed.trace.formats import MTU_BITS
from testbed.trace.series import Column, Series

_TITLES: dict[Column, tuple[str, int]] = {
    "up_bps": ("up_kbps", 1000),
    "down_bps": ("down_kbps", 1000),
    "delay_us": ("delay_ms", 1000),
    "jitter_us": ("jitter_ms", 1000),
    "loss_ppm": ("loss_pct", 10_000),
}


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".")


def to_csv(series: Series) -> str:
    """Exact. A rate without direction is written as both."""
    columns = dict(series.columns)
    both = columns.pop("rate_bps", None)
    if both is not None:
        columns = {"up_bps": both, "down_bps": both, **columns}
    titles = [column for column in _TITLES if column in columns]
    lines = [",".join(["t_ms", *(_TITLES[c][0] for c in titles)])]
    for row, t_us in enumerate(series.t_us):
        lines.append(",".join([_decimal(t_us, 1000), *(_decimal(columns[c][row], _TITLES[c][1]) for c in titles)]))
    return "\n".join(lines) + "\n"


def to_seconds(series: Series, column: Column) -> str:
    """ "<seconds> <Mbit/s>" a line, of one rate column; exact."""
    return "".join(
        f"{_decimal(t_us, 10**6)} {_decimal(rate, 10**6)}\n"
        for t_us, rate in zip(series.t_us, series.columns[column], strict=True)
    )


def to_mahimahi(series: Series, column: Column) -> str:
    """A chance to send each time another 1500 bytes have passed; up to any moment within one packet of the series.

    The last line is the period, as the format has it: if no chance falls there, one more is added.
    """
    times: list[int] = []
    owed = 0  # bit-microseconds towards the next packet
    packet = MTU_BITS * 10**6
    for start, width, rate in zip(series.t_us, series.widths_us(), series.columns[column], strict=True):
        total = owed + rate * width
        times.extend((start + (k * packet - owed) // rate) // 1000 for k in range(1, total // packet + 1))
        owed = total % packet
    period = -(-series.length_us // 1000)
    if not times or times[-1] < period:
        times.append(period)
    return "".join(f"{t}\n" for t in times)
