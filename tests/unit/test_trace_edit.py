from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.trace.edit import cut, join, pair, scale
from testbed.trace.export import to_csv, to_mahimahi, to_seconds
from testbed.trace.formats import MAHIMAHI_BIN_US, TraceError, parse
from testbed.trace.picture import draw
from testbed.trace.series import Series, resample
from testbed.trace.sidecard import card_path, to_card, with_card

MTU_BITS = 12_000
THREE = Series("x", (0, 10, 30), 40, {"rate_bps": (8, 0, 4)}, {"cell": ("a", "b", "c")}, "goodput")


def bits(series: Series, column: str, edges: list[int]) -> list[float]:
    """What is carried between neighbouring edges."""
    ends = (*series.t_us[1:], series.length_us)
    steps = list(zip(series.t_us, ends, series.columns[column], strict=True))
    return [
        sum(rate * max(0, min(end, last) - max(start, first)) for start, end, rate in steps) / 1e6
        for first, last in pairwise(edges)
    ]


widths = st.lists(st.tuples(st.integers(1, 400_000), st.integers(0, 30_000_000)), min_size=1, max_size=12)


def series_of(steps: list[tuple[int, int]]) -> Series:
    edges = [0]
    for width, _ in steps:
        edges.append(edges[-1] + width)
    return Series("x", tuple(edges[:-1]), edges[-1], {"rate_bps": tuple(rate for _, rate in steps)})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=12))
def test_through_mahimahi_and_back_each_bin_keeps_its_bytes_to_one_packet(rates):
    before = series_of([(MAHIMAHI_BIN_US, rate) for rate in rates])
    if not any(rates):
        return
    after = parse(to_mahimahi(before, "rate_bps").encode(), "x")
    assert after.length_us == before.length_us
    edges = [*range(0, before.length_us, MAHIMAHI_BIN_US), before.length_us]
    for was, now in zip(bits(before, "rate_bps", edges), bits(after, "rate_bps", edges), strict=True):
        assert abs(was - now) <= MTU_BITS + 1
    assert abs(sum(bits(before, "rate_bps", edges)) - sum(bits(after, "rate_bps", edges))) <= MTU_BITS + 1


@settings(max_examples=100, deadline=None)
@given(widths)
def test_through_csv_and_seconds_and_back_nothing_is_lost(steps):
    before = series_of(steps)
    if not any(before.columns["rate_bps"]):
        return
    edges = [*before.t_us, before.length_us]
    for text, column in ((to_csv(before), "down_bps"), (to_seconds(before, "rate_bps"), "rate_bps")):
        after = parse(text.encode(), "x")
        if before.widths_us()[-1] > 1:  # a last step of one microsecond is no thing a CSV can say
            assert after.length_us == before.length_us
        assert bits(after, column, edges) == bits(before, "rate_bps", edges)


def test_scaling_is_of_rates_and_recorded():
    half = scale(scale(THREE, 500_000), 2_500_000)
    assert half.columns == {"rate_bps": (10, 0, 5)}
    assert (half.scale_ppm, half.made) == (1_250_000, ("rates scaled by 0.5", "rates scaled by 2.5"))
    assert scale(replace(THREE, columns={"rate_bps": (1, 1, 1), "delay_us": (7, 7, 7)}), 3_000_000).columns[
        "delay_us"
    ] == (7, 7, 7)
    with pytest.raises(TraceError, match="no rate to scale"):
        scale(replace(THREE, columns={"delay_us": (7, 7, 7)}), 1)
    for by in (0, -1, 10**10):
        with pytest.raises(TraceError, match="at most 1000"):
            scale(THREE, by)


def test_a_cut_begins_with_what_holds_there():
    piece = cut(THREE, 15, 35)
    assert (piece.t_us, piece.length_us) == ((0, 15), 20)
    assert (piece.columns["rate_bps"], piece.extras["cell"]) == ((0, 4), ("b", "c"))
    assert piece.recorded == "goodput"
    assert cut(THREE, 0).columns == THREE.columns
    with pytest.raises(TraceError, match="nothing is left"):
        cut(THREE, 40)


def test_beyond_its_end_a_cut_follows_the_end_policy():
    assert cut(THREE, 30, 100, "stop").length_us == 10
    held = cut(THREE, 30, 100, "hold")
    assert (held.t_us, held.length_us) == ((0,), 70)
    looped = cut(THREE, 35, 85, "loop")
    assert (looped.t_us, looped.length_us) == ((0, 5, 15, 35, 45), 50)
    assert looped.columns["rate_bps"] == (4, 8, 0, 4, 8)


@given(widths, st.integers(0, 10**6), st.integers(1, 10**6))
def test_two_cuts_joined_are_the_whole(steps, at, length):
    whole = series_of(steps)
    end = min(at + length, whole.length_us)
    if not 0 < at < end:
        return
    again = join([cut(whole, 0, at), cut(whole, at, end)])
    assert again.length_us == end
    assert all(again.at("rate_bps", t) == whole.at("rate_bps", t) for t in (0, at - 1, at, end - 1))


def test_joining_wants_the_same_columns():
    both = join([THREE, replace(THREE, extras={}, recorded="probing", name="y")])
    assert (both.t_us, both.length_us) == ((0, 10, 30, 40, 50, 70), 80)
    assert (both.extras["cell"], both.recorded) == (("a", "b", "c", "", "", ""), "unknown")
    with pytest.raises(TraceError, match="'x' has rate_bps but 'x' has up_bps"):
        join([THREE, replace(THREE, columns={"up_bps": (1, 1, 1)})])
    with pytest.raises(TraceError, match="scale them alike"):
        join([THREE, scale(THREE, 2)])


def test_a_pair_has_both_directions_on_one_time():
    found = pair(THREE, series_of([(20, 5), (30, 6)]), "both")
    assert (found.t_us, found.length_us) == ((0, 10, 20, 30), 40)
    assert found.columns == {"up_bps": (8, 0, 0, 4), "down_bps": (5, 5, 6, 6)}
    with pytest.raises(TraceError, match="no rate up"):
        pair(replace(THREE, columns={"down_bps": (1, 1, 1)}), THREE, "both")


def test_resampling_keeps_texts_and_how_it_was_recorded():
    found = resample(THREE, 20)
    assert (found.columns["rate_bps"], found.extras["cell"], found.recorded) == ((4, 2), ("a", "b"), "goodput")


def test_a_side_card_says_what_was_done(tmp_path):
    told = scale(replace(THREE, recorded="saturating"), 100_000)
    again = with_card(THREE, to_card(told, "d1"), "d1")
    assert (again.recorded, again.scale_ppm, again.made) == ("saturating", 100_000, ("rates scaled by 0.1",))
    assert with_card(THREE, '{"model": "any", "seed": 1}', "d1").recorded == "generated"
    assert with_card(THREE, '["not ours"]', "d1") == with_card(THREE, '{"sha256": 1}', "d1") == THREE
    for text in (
        "{",
        '{"recorded": 1}',
        '{"recorded": "probing", "made": ["\\u001b[2J"]}',
        '{"recorded": "probing", "scale_ppm": 0}',
    ):
        with pytest.raises(TraceError, match="side-card"):
            with_card(THREE, text, "d1")
    with pytest.raises(TraceError, match=r"digest of x is d2 but its side-card x\.json says d1"):
        with_card(THREE, to_card(told, "d1"), "d2")
    assert card_path(tmp_path / "a.csv").name == "a.json"
    assert card_path(tmp_path / "a.up").name == "a.up.json"


def test_a_drawing_is_as_wide_as_it_may_be():
    series = Series("x", (0, 500_000), 1_000_000, {"rate_bps": (1_000_000, 0)})
    lines = draw(series, "rate_bps", 50, height=3)
    assert lines[0] == "rate, Mbit/s"
    assert [len(line) for line in lines[1:]] == [30, 30, 30, 50]
    assert lines[1].split() == ["1", "┤" + "█" * 20]
    assert all(len(line) <= 50 for line in draw(series, "rate_bps", 50))
    assert draw(replace(series, columns={"rate_bps": (0, 0)}), "rate_bps", 50)[1].strip() == "0 ┤"
