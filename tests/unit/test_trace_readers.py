import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.trace.formats import TraceError, parse
from testbed.trace.lookup import find, read_trace
from testbed.trace.readers import FORMATS, recognise
from testbed.trace.rows import rows_of
from testbed.trace.series import Series

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
INDEX = RECORDINGS / "INDEX.csv"
NO_TRACE = {"sigcomm21_handover/Driving-Wild_data-processed_run112.csv": "neither a rate nor a delay"}
# How the index weighted these two kinds is not said: rows of the same second (up to 0.4 % apart), and a car off the
# road with round trips of 8 s (4.1 % apart). The others are its numbers to the last digit it shows, but for the ends
# of mahimahi files, of which it leaves out what is no whole second (0.3 %).
TOLERANCE = {"cicv5g": 0.05, "ucc5g": 0.01}


def told(row: dict[str, str], series: Series) -> tuple[float, float]:
    """What the index has as mean (of the rows, unweighted), and what was read."""
    if row["mean_ms"]:
        return float(row["mean_ms"]), 2 * sum(series.columns["delay_us"]) / len(series.t_us) / 1e3
    column = series.rate_column("up" if row["direction"] == "up" else "down")
    assert column, row["file"]
    return float(row["mean_mbps"]), sum(series.columns[column]) / len(series.t_us) / 1e6


def test_all_recordings_are_read_as_their_index_says_or_refused_by_name():
    if not INDEX.is_file():
        pytest.skip("no recordings in ../shared/traces")
    rows = list(csv.DictReader(INDEX.open()))
    assert len(rows) == 50
    for row in rows:
        path = RECORDINGS / row["file"]
        if row["file"] in NO_TRACE:
            with pytest.raises(TraceError, match=NO_TRACE[row["file"]]):
                read_trace(path)
            continue
        series = read_trace(path)
        expected, mean = told(row, series)
        assert mean == pytest.approx(expected, rel=TOLERANCE.get(row["dataset"], 0.004), abs=0.006), row["file"]
        if row["duration_s"]:
            # It mostly ends where the last step begins, and for mahimahi at the last whole second but one.
            last_s = series.widths_us()[-1] / 1e6 + 2 if row["dataset"] != "mtu_5g_uplink" else 12
            assert 0 <= series.length_us / 1e6 - float(row["duration_s"]) + 0.1 <= last_s + 0.1, row["file"]
        assert all(len(texts) == len(series.t_us) for texts in series.extras.values())


IPERF3 = b"""Connecting to host 10.0.0.1, port 5201
Reverse mode, remote host 10.0.0.1 is sending
[ ID] Interval           Transfer     Bitrate
[  5]   0.00-1.00   sec  1.2 MBytes  10.0 Mbits/sec                  (omitted)
[  5]   0.00-1.00   sec  1.2 MBytes  10.0 Mbits/sec
[  7]   0.00-1.00   sec  1.2 MBytes  10.0 Mbits/sec
[SUM]   0.00-1.00   sec  2.4 MBytes  20.0 Mbits/sec
- - - - - - - - - - - - - - - - - - - - - - - - -
[  5]   1.00-1.50   sec  1.2 MBytes  500 Kbits/sec
[  7]   1.00-1.50   sec  1.2 MBytes  0.00 bits/sec
[SUM]   1.00-1.50   sec  1.2 MBytes  500 Kbits/sec
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Retr
[SUM]   0.00-1.50   sec  3.6 MBytes  13.5 Mbits/sec    5             sender
"""


def test_iperf3_says_which_way_and_sums_its_streams():
    series = parse(IPERF3, "x")
    assert series == Series("x", (0, 1_000_000), 1_500_000, {"down_bps": (20_000_000, 500_000)}, recorded="saturating")


def test_lumps_of_a_sender_are_told():
    lines = b"".join(
        b"[  5]   %.2f-%.2f   sec  0 Bytes  %d Mbits/sec    0   27.0 KBytes\n" % (t / 10, (t + 1) / 10, t % 2)
        for t in range(8)
    )
    series = parse(lines, "x")
    assert list(series.columns) == ["up_bps"]
    assert "resample to 1s" in series.made[0]


def test_nuttcp_times_are_the_sum_of_its_intervals():
    text = b"[2024-11-03T12:54:39-0700] nuttcp-r: v8\n[a]  1.0 MB /   0.50 sec =   17.8223 Mbps\n"
    text += b" 2.0 MB /   0.51 sec =   0.0000 Mbps\n"
    series = parse(text, "x")
    assert (series.t_us, series.length_us) == ((0, 500_000), 1_010_000)
    assert series.columns == {"down_bps": (17_822_300, 0)}


def test_ping_is_half_a_round_trip_at_the_interval_of_its_summary():
    text = b"""1659922379417
PING 10.0.0.1 (10.0.0.1) 38(66) bytes of data.
46 bytes from 10.0.0.1: icmp_seq=3 ttl=56 time=30.0 ms
46 bytes from 10.0.0.1: icmp_seq=1 ttl=56 time=20.6 ms
46 bytes from 10.0.0.1: icmp_seq=1 ttl=56 time=21.0 ms (DUP!)
3 packets transmitted, 2 received, 33% packet loss, time 400ms
"""
    series = parse(text, "x")
    assert (series.t_us, series.length_us, series.recorded) == ((0, 400_000), 600_000, "probing")
    assert series.columns == {"delay_us": (10_300, 15_000)}
    assert series.made[1].startswith("1 of 3 pings lost")


def test_gnettrack_rows_of_one_second_are_averaged_and_a_missing_ping_holds():
    head = "Timestamp,Longitude,Latitude,CellID,NetworkMode,RSRP,DL_bitrate,UL_bitrate,PINGAVG\n"
    body = "2020.01.16_12.59.59,1,2,11,5G,-90,100,10,-\n2020.01.16_12.59.59,1,2,11,5G,-90,300,20,40\n"
    series = parse((head + body + "2020.01.16_13.00.01,1,2,12,LTE,-90,7,8,-\n").encode(), "x")
    assert (series.t_us, series.length_us) == ((0, 2_000_000), 4_000_000)
    assert series.columns == {"down_bps": (200_000, 7000), "up_bps": (15_000, 8000), "delay_us": (20_000, 20_000)}
    assert (series.extras["cell"], series.extras["technology"]) == (("11", "12"), ("5G", "LTE"))


def test_gaps_between_drives_are_closed_and_the_parts_kept():
    head = "time,throughput,speed,latitude,longtitu\n"
    times = ("2023-04-12 10:40:20", "2023-04-12 10:40:21", "2023-04-13 08:00:00", "2023-04-13 08:00:01")
    series = parse((head + "".join(f"{t} CDT,5,0,1,2\n" for t in times)).encode(), "x")
    assert (series.t_us, series.length_us) == ((0, 1_000_000, 2_000_000, 3_000_000), 4_000_000)
    assert series.extras["part"] == ("1", "1", "2", "2")


def test_lists_of_runs_follow_each_other_and_may_have_times():
    series = parse(b"###\nRun 1\n0.0,0.3\n5,6\n###\nRun 2\n7,7,8\n", "throughput_x.list")
    assert (series.t_us, series.length_us) == ((0, 300_000, 400_000, 500_000, 600_000), 700_000)
    assert series.columns == {"rate_bps": (5_000_000, 6_000_000, 7_000_000, 7_000_000, 8_000_000)}
    assert series.extras["part"] == ("1", "1", "2", "2", "2")
    assert parse(b"Run 1\n30.0,30.0\n", "x", "memu22-rtt").columns == {"delay_us": (15_000, 15_000)}


def test_cicv5g_rows_keep_position_and_cell_and_some_have_none():
    head = (
        b"pub_time(ms) sub_time(ms) delay(ms) utmX(m) utmY(m) heading(rad) velocity(m/s) cellid(db) sinr(db) rsrp(db)\n"
    )
    series = parse(head + b"1000 1020 20 1.5 2.5 0.1 3 5C4 9 -84\n1050 1090 40 1.5 2.5 0.1 3  7 -85\n", "x")
    assert series.columns == {"delay_us": (10_000, 20_000)}
    assert (series.extras["x_m"], series.extras["cell"], series.extras["rsrp_dbm"]) == (
        ("1.5", "1.5"),
        ("5C4", ""),
        ("-84", "-85"),
    )


def test_mecperf_samples_hold_until_their_answers():
    series = parse(b"2020-04-06 18:56:15.000000_100.0,2020-04-06 18:56:15.083000_83.0", "x")
    assert (series.t_us, series.length_us) == ((0, 100_000), 183_000)
    assert series.columns == {"delay_us": (50_000, 41_500)}


def test_any_csv_is_read_with_a_map_of_its_columns():
    text = b'Name,Time,UL,Ping\n"a, b",1.5,2,30\nc,2,3,\n'
    series = parse(text, "x", columns={"t_s": "Time", "up_mbps": "UL", "rtt_ms": "Ping"})
    assert (series.t_us, series.columns) == (
        (0, 500_000),
        {"up_bps": (2_000_000, 3_000_000), "delay_us": (15_000, 15_000)},
    )


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"t_s": "time", "up_mbps": "UL"}, "no column 'time'; did you mean 'Time'"),
        ({"t_s": "Time", "up_mbs": "UL"}, "did you mean 'up_mbps'"),
        ({"up_mbps": "UL"}, "one column must be the time"),
        ({"t_s": "Time", "cell": "UL"}, "at least one rate or delay"),
        ({"t_s": "Time", "up_mbps": "UL", "up_kbps": "UL"}, "each once"),
    ],
)
def test_a_map_that_cannot_be_says_what_can(columns, why):
    with pytest.raises(TraceError, match=why):
        parse(b"Time,UL\n1,2\n", "x", columns=columns)


def test_two_files_of_one_name_are_the_two_directions(tmp_path):
    (tmp_path / "drive.up").write_text("0\n100\n")
    (tmp_path / "drive.down").write_text("0\n0\n100\n200\n")
    (tmp_path / "drive.up.json").write_text('{"recorded": "saturating", "made": ["by hand"]}')
    series = read_trace(find("drive", [tmp_path]))
    assert (series.name, series.length_us) == ("drive", 100_000)
    assert series.columns == {"up_bps": (240_000,), "down_bps": (240_000,)}
    assert (series.recorded, series.made[0]) == ("unknown", "by hand")
    (tmp_path / "drive.down").write_text("5\n0\n")
    with pytest.raises(TraceError, match="of the pair"):
        read_trace(tmp_path / "drive")


def test_the_texts_beside_the_numbers_go_through_our_csv():
    text = "t_ms,up_kbps,cell,lat\n0,5,A1,51.5\n1000,6,,51.6\n"
    assert parse(text.encode(), "x").extras == {"cell": ("A1", ""), "lat": ("51.5", "51.6")}


def test_an_unknown_format_is_named():
    with pytest.raises(TraceError, match="no trace format 'pcap'; there are iperf3"):
        parse(b"0 1\n", "x", "pcap")


HEADS = [b"", b"Run 1\n", b"pub_time(ms) sub_time(ms) delay(ms)\n", b"2020-04-06 18:56:15_", b"Time,RATE(MBit/s)\n"]


@given(
    st.sampled_from(sorted(FORMATS)), st.sampled_from(HEADS), st.text("0123456789.,- \nRun:eE/MBsecps=[]_", max_size=80)
)
def test_every_reader_reads_or_refuses_by_name(form, head, text):
    data = head + text.encode()
    try:
        series = parse(data, "x", form)
    except TraceError as fault:
        assert 0 <= fault.line <= data.count(b"\n") + 1
    else:
        assert series.length_us > series.t_us[-1] >= 0


def test_every_format_of_the_index_is_recognised():
    assert recognise(list(rows_of(IPERF3))) == "iperf3"
    assert recognise([(1, "t_ms,up_kbps")]) == "csv"


@pytest.mark.parametrize(
    "text", ["1" * 10**6 + "x", "Time,RATE(MBit/s)\n" + "1" * 10**6 + ",5x", "seq=1 " * 10**5 + "\nPING x bytes"]
)
def test_a_line_beyond_measure_is_refused_at_once(text):
    with pytest.raises(TraceError):
        parse(text.encode(), "x")


def test_a_stray_quote_or_carriage_return_is_no_accident():
    for row in ('"' + "a" * 200_000 + '",5', '"a\rb",5', '"', '"a,5'):
        with pytest.raises(TraceError):
            parse(f"Time,RATE(MBit/s)\n{row}\n".encode(), "x")
