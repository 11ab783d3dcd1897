import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.trace import regimes
from testbed.trace.agreement import markdown
from testbed.trace.datasets import by_digest
from testbed.trace.edit import cut
from testbed.trace.export import to_csv, to_mahimahi, to_seconds
from testbed.trace.formats import MAX_ROWS, TraceError, parse
from testbed.trace.lookup import PROJECT_TRACES, find, read_trace
from testbed.trace.radio import DRIVING, URBAN, Card, card_from_json, card_to_json, generate
from testbed.trace.series import Series, resample, statistics, step_count, steps

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT.parent / "shared" / "traces"
KNOWN_FORMATS = ("mahimahi", "lumos5g", "nyc_lte", "oboe", "hsdpa_norway", "fcc_fixed")


def carried(series: Series, column: str = "rate_bps") -> float:
    pairs = zip(series.columns[column], series.widths_us(), strict=True)
    return sum(rate * width for rate, width in pairs) / 8e6


def test_seconds_count_from_the_first_row_and_the_last_step_lasts_as_long_as_the_one_before():
    series = parse(b"10.0\t5.5\r\n\r\n# a remark\r\n12.0 0\r\n", "x")
    assert series == Series("x", (0, 2_000_000), 4_000_000, {"rate_bps": (5_500_000, 0)})


def test_csv_takes_the_columns_there_are():
    series = parse(b"t_ms,down_kbps,loss_pct\n0,100,0.5\n250.5,200,0\n", "x")
    assert series.columns == {"down_bps": (100_000, 200_000), "loss_ppm": (5000, 0)}
    assert series.t_us == (0, 250_500)
    assert series.rate_column("up") is None
    assert series.rate_column("down") == "down_bps"


def test_mahimahi_counts_packets_in_bins_and_repeats_after_its_last_line():
    series = parse(b"0\n0\n99\n100\n150\n", "x")
    assert series.length_us == 150_000
    assert series.t_us == (0, 100_000)
    assert series.columns["rate_bps"] == (3 * 12_000 * 10, 2 * 12_000 * 20)


def test_a_format_can_be_named():
    with pytest.raises(TraceError) as caught:
        parse(b"0 5\n", "x", "mahimahi")
    assert caught.value.line == 1


def test_too_many_rows_are_refused_before_they_are_read():
    with pytest.raises(TraceError, match="more than"):
        parse(b"1\n" * (MAX_ROWS + 1), "x")
    with pytest.raises(TraceError, match="16 MiB"):
        parse(b"1234567890123456 1\n" * 10**6, "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_trace_or_a_named_error(data):
    try:
        series = parse(data, "x")
    except TraceError as fault:
        assert 0 <= fault.line <= data.count(b"\n") + 1
    else:
        assert series.length_us > series.t_us[-1] >= 0


@pytest.mark.parametrize("folder", KNOWN_FORMATS)
def test_real_recordings_parse_and_convert(folder):
    if not (RECORDINGS / folder).is_dir():
        pytest.skip(f"no recordings in ../shared/traces/{folder}")
    for path in sorted((RECORDINGS / folder).iterdir())[:2]:
        series = read_trace(path)
        assert statistics(series, "rate_bps").mean > 100_000
        assert carried(resample(series, 1_000_000)) == pytest.approx(carried(series), rel=1e-6)
        for text, column in ((to_csv(series), "up_bps"), (to_seconds(series, "rate_bps"), "rate_bps")):
            again = parse(text.encode(), path.name)
            assert again.length_us == series.length_us
            assert again.columns[column][: len(series.t_us)] == series.columns["rate_bps"]
            assert carried(again, column) == pytest.approx(carried(series), rel=1e-12)


def test_mahimahi_keeps_its_bytes_through_import_and_export():
    path = RECORDINGS / "mahimahi" / "traces_TMobile-LTE-short.up"
    if not path.is_file():
        pytest.skip("no recordings in ../shared/traces/mahimahi")
    before = read_trace(path)
    after = parse(to_mahimahi(before, "rate_bps").encode(), "x")
    assert len(path.read_bytes().split()) * 1500 == pytest.approx(carried(before))
    pairs = zip(before.columns["rate_bps"], after.columns["rate_bps"], before.widths_us(), strict=True)
    assert all(abs(a - b) * width / 8e6 <= 1501 for a, b, width in pairs)


THREE = Series("x", (0, 10, 30), 40, {"rate_bps": (8, 0, 4)})


def test_end_policies():
    assert list(steps(THREE, "hold", 100)) == [(0, 0), (10, 1), (30, 2)]
    assert list(steps(THREE, "stop", 100)) == [(0, 0), (10, 1), (30, 2), (40, None)]
    assert list(steps(THREE, "loop", 75)) == [(0, 0), (10, 1), (30, 2), (40, 0), (50, 1), (70, 2)]
    assert list(steps(THREE, "stop", 20)) == [(0, 0), (10, 1)]


shapes = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), min_size=1, max_size=8)


def shaped(steps_of):
    edges = [0]
    for width, _ in steps_of:
        edges.append(edges[-1] + width)
    return Series("x", tuple(edges[:-1]), edges[-1], {"rate_bps": tuple(rate for _, rate in steps_of)})


@given(shapes, st.sampled_from(["hold", "loop", "stop"]), st.integers(1, 400))
def test_each_moment_has_the_value_that_its_end_policy_says(steps_of, end, until):
    series = shaped(steps_of)
    changes = list(steps(series, end, until))
    assert changes[0] == (0, 0)
    assert all(before < after for (before, _), (after, _) in pairwise(changes))
    assert changes[-1][0] < until
    rates = series.columns["rate_bps"]
    for (start, row), (after, _) in pairwise([*changes, (until, None)]):
        for t in {start, (start + after) // 2, after - 1}:
            inside = {"loop": t % series.length_us, "hold": min(t, series.length_us - 1), "stop": t}[end]
            if inside >= series.length_us:
                assert row is None
            else:
                assert rates[row] == series.at("rate_bps", inside)


@given(shapes, st.sampled_from(["hold", "loop", "stop"]), st.integers(0, 300), st.integers(1, 300))
def test_a_cut_is_what_the_end_policy_says_between_its_times(steps_of, end, start, length):
    series = shaped(steps_of)
    try:
        piece = cut(series, start, start + length, end)
    except TraceError:
        assert end == "stop"
        assert start >= series.length_us
        return
    assert piece.length_us == (min(start + length, series.length_us) - start if end == "stop" else length)
    for t in {*piece.t_us, piece.length_us - 1}:
        there = start + t
        inside = there % series.length_us if end == "loop" else min(there, series.length_us - 1)
        assert piece.at("rate_bps", t) == series.at("rate_bps", inside)


def test_a_byte_order_mark_and_carriage_returns_are_read_over():
    plain = parse(b"t_ms,up_kbps\n0,5\n500,6\n", "x")
    assert parse(b"\xef\xbb\xbft_ms,up_kbps\r\n0,5\r\n500,6\r\n", "x") == plain
    assert parse(b"\xef\xbb\xbf0\r\n0\r\n100\r\n", "x") == parse(b"0\n0\n100\n", "x")


@given(st.integers(1, 200))
def test_steps_are_counted_as_they_come(until):
    for end in ("hold", "loop"):
        assert step_count(THREE, end, until) == len(list(steps(THREE, end, until)))


def test_values_hold_until_the_next():
    assert [THREE.at("rate_bps", t) for t in (0, 9, 10, 29, 30, 39)] == [8, 8, 0, 0, 4, 4]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1000)), min_size=1, max_size=20), st.integers(1, 60))
def test_resampling_keeps_what_is_carried(widths_and_rates, step):
    edges = [0]
    for width, _ in widths_and_rates:
        edges.append(edges[-1] + width)
    rates = tuple(rate * 10**6 for _, rate in widths_and_rates)
    series = Series("x", tuple(edges[:-1]), edges[-1], {"rate_bps": rates})
    again = resample(series, step)
    assert again.length_us == series.length_us
    assert carried(again) == pytest.approx(carried(series), abs=1e-3)


def test_statistics_are_weighted_by_time():
    found = statistics(THREE, "rate_bps")
    assert (found.mean, found.zero_share, found.p50, found.p95) == (3.0, 0.5, 0, 8)


def test_a_card_makes_the_same_trace_again():
    card = Card(seed=5, duration_s=60, regimes=DRIVING, step_ms=100)
    again = card_from_json(card_to_json(card))
    assert again == card
    assert generate(again) == generate(card)
    assert generate(Card(6, 60, DRIVING, 100)) != generate(card)


def test_generated_rates_have_the_mean_of_their_regimes():
    one = URBAN[0]
    rates = statistics(generate(Card(seed=1, duration_s=4000, regimes=(one,))), "up_bps")
    assert rates.mean == pytest.approx(one.up_kbps * 1000, rel=0.02)
    assert rates.variation == pytest.approx(one.variation, rel=0.1)


def test_a_bad_card_is_refused():
    for text in (
        "",
        "[]",
        "{}",
        '{"seed": 1, "duration_s": 0, "regimes": []}',
        '{"seed":1,"duration_s":9,"regimes":[{}]}',
    ):
        with pytest.raises(TraceError):
            card_from_json(text)


def test_the_traces_of_the_project_are_those_of_their_cards():
    cards = sorted(PROJECT_TRACES.glob("*.json"))
    assert sorted(PROJECT_TRACES.glob("*.csv")) == [path.with_suffix(".csv") for path in cards]
    for path in cards:
        trace, text = path.with_suffix(".csv").read_text(), path.read_text()
        fitted = json.loads(text)["model"] == regimes.MODEL
        if fitted:
            series = regimes.generate(regimes.card_from_json(text), path.stem)
            assert json.loads(text)["sha256"] == hashlib.sha256(trace.encode()).hexdigest()
        else:
            series = generate(card_from_json(text), path.stem)
        assert to_csv(series) == trace


@pytest.mark.parametrize("name", ["mmwave-walk", "midband-drive", "lte-drive", "bus", "leo-drive"])
def test_a_fitted_trace_names_its_recordings_and_how_well_it_agrees_with_them(name):
    fitted = json.loads((PROJECT_TRACES / f"{name}.json").read_text())["fitted"]
    assert fitted["recordings"]
    for one in fitted["recordings"]:
        assert (one["name"], one["of"]) == ((known := by_digest(one["sha256"])).name, known.of)
    columns = read_trace(PROJECT_TRACES / f"{name}.csv").columns
    assert set(fitted["agreement"]) == set(columns)
    for column, told in fitted["agreement"].items():
        assert told["distance"] < 0.06, column
        assert told["distance"] < told["halves"], "closer to the recordings than their halves to each other"
        assert all(abs(was - now) < 0.25 for was, now in told["correlation"].values()), column
        assert told["outage"] is None or abs(told["outage"][0] - told["outage"][1]) < 0.02, column


def test_the_table_of_the_documentation_is_that_of_the_cards():
    names = ("mmwave-walk", "midband-drive", "lte-drive", "bus", "leo-drive")
    cards = {name: regimes.card_from_json((PROJECT_TRACES / f"{name}.json").read_text()) for name in names}
    assert markdown(cards) in (ROOT / "docs" / "traces.md").read_text()


def test_names_stay_inside_their_folders(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "in.csv").write_text("t_ms,up_kbps\n0,5\n")
    (tmp_path / "out.csv").write_text("t_ms,up_kbps\n0,5\n")
    (home / "link.csv").symlink_to(tmp_path / "out.csv")
    (home / "near.csv").symlink_to(home / "in.csv")
    assert find("in", [home]) == find("in.csv", [home]) == home / "in.csv"
    assert read_trace(find("near.csv", [home])).columns == {"up_bps": (5000,)}
    for name in ("link.csv", "../out.csv", str(tmp_path / "out.csv"), "no.csv", "", "a\0b", "..", "x" * 300):
        with pytest.raises(TraceError):
            find(name, [home])


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_any_seed_gives_rates_above_zero(seed):
    series = generate(Card(seed, 20, DRIVING))
    assert min(series.columns["up_bps"]) >= 1000
