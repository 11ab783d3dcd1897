"""The picture of a run: the latency of each request over time, what the links gave, what happened.

At the head the names of the events, whose lines cross everything. Then one panel a policy, all on the same scale: each
request a dot at the time it was sent, the SLA percentile of the sliding window a line, failed requests crosses at
the top, moves triangles at the foot. Below them the rates of the links that changed, up and down apart.
"""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.percentile import UNANSWERED
from testbed.summary import Record, first_records, latency_us, real_moves, windows

INK, QUIET, ALARM, EVENT = "#22303c", "#8a96a3", "#c0392b", "#9a6f00"
COLOURS = ("#2f6f9f", "#d98324", "#3a8f5c", "#8458a5", "#b3486b", "#3f9aa5", "#8a7420", "#5b6472")
LABEL_ROWS = 3  # events close to each other are named on different lines
LONGEST_LABEL = 48
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """One latency axis for all panels, in ms on a log scale; `failed` is where the crosses are."""

    low: float
    high: float
    failed: float


def draw(runs: Mapping[str, Sequence[Record]]) -> bytes:
    """A PNG of the runs (policy -> journal) of one experiment; of an empty journal, a picture that says so."""
    with matplotlib.rc_context(STYLE):
        out = io.BytesIO()
        FigureCanvasAgg(_figure(runs)).print_figure(out, format="png", metadata={"Software": "testbed"})
    return out.getvalue()


def _figure(runs: Mapping[str, Sequence[Record]]) -> Figure:
    settings = [record for records in runs.values() for record in records if record["kind"] == "run"]
    if not settings:
        return _nothing()
    setting, journal = settings[0], next(iter(runs.values()))
    rates = _rates(journal)
    events = _event_texts(journal)
    heights = [0.2 * min(LABEL_ROWS, len(events)) + 0.05]
    heights += [3.6 if len(runs) == 1 else 2.6] * len(runs)
    heights += [1.5] * len(rates)
    figure = Figure(figsize=(11.5, sum(heights) + 0.35 * len(heights)), dpi=130, layout="constrained")
    head, *panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    title = f"{setting['name']} · seed {setting['seed']} · {setting['clock']} time, {setting['kernel']} kernel"
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    requests = {name: first_records(r for r in records if r["kind"] == "request") for name, records in runs.items()}
    scale = _scale([r for own in requests.values() for r in own], setting["sla"]["latency_us"] / 1000)
    for place, (axes, name) in enumerate(zip(panels[: len(runs)], runs, strict=True)):
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold")
        _latency(axes, requests[name], setting, scale, COLOURS[place % len(COLOURS)])
        _moves(axes, runs[name])
        _legend(axes)
    links = sorted({link for own in rates.values() for link in own})
    for axes, (direction, own) in zip(panels[len(runs) :], rates.items(), strict=True):
        _links(axes, direction, own, links, setting["duration_us"] / 1e6)
    _events(head, panels, events, setting["duration_us"] / 1e6)
    for axes in panels:
        axes.set_xlim(0, setting["duration_us"] / 1e6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e8ec", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[-1].set_xlabel("time in the experiment (s)")
    return figure


def _nothing() -> Figure:
    figure = Figure(figsize=(11.5, 2), dpi=130)
    figure.text(0.5, 0.5, "the run never started", ha="center", color=ALARM)
    return figure


def _scale(requests: Sequence[Record], sla_ms: float) -> Scale:
    """The top seventh stays free for failures, the foot for moves."""
    answered = [latency_us(r) / 1000 for r in requests if latency_us(r) != UNANSWERED]
    low, high = max(min([*answered, sla_ms]), 0.01), max([*answered, sla_ms])
    room = max(high / low, 3) ** 0.15
    return Scale(low / room, high * room, high * room**0.6)


def _latency(axes: Axes, requests: Sequence[Record], setting: Record, scale: Scale, colour: str) -> None:
    sla = setting["sla"]
    answered = [r for r in requests if latency_us(r) != UNANSWERED]
    failed = [r["sent_us"] / 1e6 for r in requests if latency_us(r) == UNANSWERED]
    axes.set_yscale("log")
    axes.set_ylim(scale.low, scale.high)
    times, latencies = [r["sent_us"] / 1e6 for r in answered], [latency_us(r) / 1000 for r in answered]
    dot = max(4, min(18, 15_000 / max(1, len(answered))))
    axes.scatter(times, latencies, s=dot, color=colour, alpha=0.5, linewidths=0, label="request")
    known = [(end_us / 1e6, us) for end_us, us, _ in windows(requests, sla, setting["duration_us"]) if us is not None]
    levels = [scale.failed if us == UNANSWERED else us / 1000 for _, us in known]
    label = f"p{sla['percentile']} of the last {sla['window_us'] / 1e6:g} s"
    axes.plot([end_s for end_s, _ in known], levels, color=INK, linewidth=1.5, label=label)
    limit_ms = sla["latency_us"] / 1000
    axes.axhline(limit_ms, color=ALARM, linewidth=1.2, linestyle=(0, (6, 3)), label=f"SLA {limit_ms:g} ms")
    if failed:
        style: dict[str, Any] = {"marker": "x", "s": 26, "color": ALARM, "linewidths": 1.3}
        axes.scatter(failed, [scale.failed] * len(failed), label=f"failed ({len(failed)})", **style)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("latency (ms)")


def _moves(axes: Axes, records: Sequence[Record]) -> None:
    """A triangle at each switch, a cross at each move that was aborted."""
    moves = real_moves(r for r in records if r["kind"] == "move")
    place = axes.get_xaxis_transform()
    for phase, marker, colour, label in (("switch", "^", INK, "move"), ("abort", "X", ALARM, "move aborted")):
        at = [move["t_us"] / 1e6 for move in moves if move["phase"] == phase and move["slice"] is None]
        if at:
            axes.vlines(at, 0, 1, transform=place, color=colour, linewidth=0.8, alpha=0.4)
            style: dict[str, Any] = {"transform": place, "marker": marker, "s": 50, "color": colour, "zorder": 5}
            axes.scatter(at, [0.06] * len(at), label=f"{label} ({len(at)})", **style)


def _event_texts(records: Sequence[Record]) -> list[tuple[float, str]]:
    texts: dict[int, list[str]] = defaultdict(list)
    for record in records:
        if record["kind"] == "event":
            texts[record["asked_us"]].append(record["text"])
    return [(t_us / 1e6, ", ".join(dict.fromkeys(each))) for t_us, each in sorted(texts.items())]


def _events(head: Axes, panels: Sequence[Axes], events: Sequence[tuple[float, str]], duration_s: float) -> None:
    """A line through all panels, its name in the strip at the head, towards the middle of the picture."""
    head.axis("off")
    head.set_ylim(0, 1)
    rows = max(1, min(LABEL_ROWS, len(events)))
    for place, (t_s, text) in enumerate(events):
        height = 1 - (place % rows + 0.5) / rows
        for axes in panels:
            axes.axvline(t_s, color=EVENT, linewidth=1.1, alpha=0.8, zorder=1.5)
        head.vlines(t_s, 0, height, color=EVENT, linewidth=1.1, alpha=0.8)
        left = t_s < 0.6 * duration_s
        shown = f"{t_s:g} s  " + (text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…")
        style: dict[str, Any] = {"va": "center", "ha": "left" if left else "right", "fontsize": 9, "color": EVENT}
        offset = (4 if left else -4, 0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        head.annotate(shown, (t_s, height), xytext=offset, textcoords="offset points", bbox=box, **style)


def _rates(records: Sequence[Record]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """direction -> link -> (time in s, Mbit/s) of the links whose rate changes."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {"up": defaultdict(list), "down": defaultdict(list)}
    for record in records:
        if record["kind"] == "step":
            at = (record["applied_us"] / 1e6, max(record["rate_bps"], 1000) / 1e6)
            found[record["direction"]][record["link"]].append(at)
    changing = {
        direction: {link: steps for link, steps in own.items() if len({rate for _, rate in steps}) > 1}
        for direction, own in found.items()
    }
    return {direction: own for direction, own in changing.items() if own}


def _links(
    axes: Axes, direction: str, rates: Mapping[str, list[tuple[float, float]]], links: Sequence[str], end_s: float
) -> None:
    for link, steps in sorted(rates.items()):
        colour = COLOURS[links.index(link) % len(COLOURS)]
        times = [t_s for t_s, _ in steps] + [end_s]
        levels = [rate for _, rate in steps] + [steps[-1][1]]
        axes.step(times, levels, where="post", color=colour, linewidth=1.3, alpha=0.85, label=link)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # labels also where no power of ten is in sight
    axes.yaxis.set_major_formatter(FuncFormatter(lambda mbps, _: f"{mbps:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("rate (Mbit/s)")
    axes.set_title(f"links, {direction}", loc="left", fontsize=11, fontweight="bold")
    _legend(axes)


def _legend(axes: Axes) -> None:
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "borderaxespad": 0.2, "columnspacing": 1.4}
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=8, handletextpad=0.5, **style)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
