"""A trace drawn with block characters, or as a PNG."""

from collections.abc import Sequence
from pathlib import Path

from testbed.trace.series import RATES, Column, Series, resample

BLOCKS = " ▁▂▃▄▅▆▇█"
LABEL = 9  # characters left of the drawing
# column -> title, unit, units inside per unit shown
SHOWN: dict[Column, tuple[str, str, int]] = {
    "rate_bps": ("rate", "Mbit/s", 10**6),
    "up_bps": ("up", "Mbit/s", 10**6),
    "down_bps": ("down", "Mbit/s", 10**6),
    "delay_us": ("delay", "ms", 1000),
    "jitter_us": ("jitter", "ms", 1000),
    "loss_ppm": ("loss", "%", 10**4),
}


def draw(series: Series, column: Column, width: int, height: int = 5) -> list[str]:
    """Lines of at most `width` characters: means over equal times, from zero to the largest of them."""
    room = max(10, width - LABEL - 1)
    means = resample(series, max(1, -(-series.length_us // room))).columns[column]
    title, unit, per = SHOWN[column]
    most = max(means)
    lines = [f"{title}, {unit}"]
    for level in reversed(range(height)):
        label = f"{most / per:.4g}" if level == height - 1 else "0" if level == 0 else ""
        lines.append(f"{label:>{LABEL - 1}} ┤{''.join(_block(value, most, level, height) for value in means)}".rstrip())
    foot = f"{series.length_us / 1e6:.4g} s"
    lines.append(" " * (LABEL + 1) + "0" + foot.rjust(max(0, len(means) - 1)))
    return lines


def _block(value: int, most: int, level: int, height: int) -> str:
    """What a value fills of one row of characters; something small still shows, nothing does not."""
    eighths = 0 if most == 0 else max(round(value / most * height * 8), 1 if value else 0)
    return BLOCKS[min(8, max(0, eighths - level * 8))]


def save_png(all_series: Sequence[Series], path: Path) -> None:
    """Rates over delays, one line a column; the time axis in seconds. Raises OSError and ValueError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    panes: tuple[tuple[Column, ...], ...] = (RATES, ("delay_us",))
    kinds = [kind for kind in panes if any(column in series.columns for series in all_series for column in kind)]
    figure = Figure(figsize=(10, 2.6 * max(1, len(kinds))), layout="constrained")
    panels = figure.subplots(max(1, len(kinds)), 1, sharex=True, squeeze=False)[:, 0]
    for panel, kind in zip(panels, kinds, strict=False):
        for series in all_series:
            for column in kind:
                if column in series.columns:
                    title, unit, per = SHOWN[column]
                    values = [value / per for value in series.columns[column]]
                    edges = [t / 1e6 for t in (*series.t_us, series.length_us)]
                    panel.step(edges, [*values, values[-1]], where="post", label=f"{series.name} {title}", linewidth=1)
                    panel.set_ylabel(unit)
        panel.set_ylim(bottom=0)
        panel.legend(fontsize="small")
    panels[-1].set_xlabel("s")
    figure.savefig(path, dpi=120, format="png")
