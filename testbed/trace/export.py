"""Series to trace files: the inverse of `formats`. Pure: text out."""

from collections.abc import Iterator

from testbed.trace.formats import MAHIMAHI_BIN_US, MTU_BITS
from testbed.trace.series import EXTRAS, Column, Series

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
    """Exact, with the texts. A rate without direction is written as both."""
    columns = dict(series.columns)
    both = columns.pop("rate_bps", None)
    if both is not None:
        columns = {"up_bps": both, "down_bps": both, **columns}
    titles = [column for column in _TITLES if column in columns]
    texts = [extra for extra in EXTRAS if extra in series.extras]
    lines = [",".join(["t_ms", *(_TITLES[c][0] for c in titles), *texts])]
    for t_us, row in _written(series):
        values = [_decimal(columns[column][row], _TITLES[column][1]) for column in titles]
        lines.append(",".join([_decimal(t_us, 1000), *values, *(series.extras[text][row] for text in texts)]))
    return "\n".join(lines) + "\n"


def to_seconds(series: Series, column: Column) -> str:
    """ "<seconds> <Mbit/s>" a line, of one rate column; exact."""
    return "".join(
        f"{_decimal(t_us, 10**6)} {_decimal(rate, 10**6)}\n"
        for t_us, rate in ((t_us, series.columns[column][row]) for t_us, row in _written(series))
    )


def _written(series: Series) -> Iterator[tuple[int, int]]:
    """(time, row) of each line: the last row again where readers would take its step for another length.

    They give the last step the length of the one before, or one second if there is only one.
    """
    yield from ((t_us, row) for row, t_us in enumerate(series.t_us))
    widths = series.widths_us()
    width, row = widths[-1], len(widths) - 1
    if width < 2 or width == (widths[-2] if row else 10**6):
        return
    last = (width - 1) // 2 if width % 2 else width // 2
    if width % 2 and last:
        yield series.length_us - 2 * last, row
    yield series.length_us - max(1, last), row


def to_mahimahi(series: Series, column: Column) -> str:
    """A chance to send each time another 1500 bytes have passed; up to any moment within one packet of the series.

    The last line is the period, as the format has it. So the count begins with as much as makes the last packet full
    at the end; where nothing passes at the end, one chance more is added there.
    """
    packet = MTU_BITS * 10**6
    period = -(-series.length_us // 1000)
    values = series.columns[column]
    ends = [end for end, rate in zip((*series.t_us[1:], series.length_us), values, strict=True) if rate]
    full = bool(ends) and ends[-1] > (period * 1000 - 1) // MAHIMAHI_BIN_US * MAHIMAHI_BIN_US
    carried = sum(rate * width for rate, width in zip(values, series.widths_us(), strict=True))
    owed = -carried % packet if full else 0  # bit-microseconds towards the next packet
    times: list[int] = []
    for start, width, rate in zip(series.t_us, series.widths_us(), values, strict=True):
        total = owed + rate * width
        times.extend((start + (k * packet - owed) // rate) // 1000 for k in range(1, total // packet + 1))
        owed = total % packet
    if full:
        times[-1] = period
    else:
        times.append(period)
    return "".join(f"{t}\n" for t in times)
