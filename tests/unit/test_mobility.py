"""Where phones are attached over time: schedules, recordings, the radio model; and what probes say of a handover."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from testbed.compile import ModelFiles, compile_plan
from testbed.emulation.routes import path_arrays, present, ways
from testbed.experiment import load_experiment
from testbed.fidelity import assess
from testbed.mobility import radio, recording
from testbed.mobility.attachment import Attachment, Handover, handovers, hurried
from testbed.mobility.interruption import Interruption, extended, interruption, numbers
from testbed.plan import from_json, to_json
from testbed.report.rows import Cell, sections
from testbed.summary import summarise
from testbed.trace.lookup import read_trace
from testbed.trace.series import Series
from tests.unit.journal_factory import a_run

ROOT = Path(__file__).resolve().parents[2]
DRIVING = ROOT / "topologies" / "driving.yaml"
RECORDINGS = ROOT.parent / "shared" / "traces"
SECOND = 1_000_000
MS = 1000
STATIONS = {"bs1": (0.0, 0.0), "bs2": (100.0, 0.0)}
STREET = (radio.Waypoint(0, (0.0, 0.0)), radio.Waypoint(10 * SECOND, (100.0, 0.0)))


def compiled(*sets, path=DRIVING):
    experiment = load_experiment(path, sets=sets)
    return compile_plan(experiment, {model: ModelFiles("w", "a", 8) for model in experiment.models})


def moves(plan, link="ue1"):
    return [(c.t_us, c.what, c.place) for c in plan.changes if c.target == link and c.what in ("detach", "attach")]


def drive(model, first="bs1", gauss=lambda: 0.0, until_us=10 * SECOND, interruption_us=50 * MS):
    return list(
        radio.attachments(
            model, STATIONS, STREET, first=first, interruption_us=interruption_us, until_us=until_us, gauss=gauss
        )
    )


# -- attachments


def test_only_changes_of_the_base_station_are_handovers():
    wanted = [Attachment(0, "a"), Attachment(5, "b"), Attachment(6, "b"), Attachment(7, "a"), Attachment(20, "b")]
    assert handovers("a", wanted, 20) == (Handover(5, "a", "b"), Handover(7, "b", "a"))


def test_a_handover_before_the_last_is_over_is_hurried():
    found = handovers("a", [Attachment(5, "b"), Attachment(8, "a"), Attachment(20, "b")], 100)
    assert list(hurried(found, 3)) == [(found[0], found[1])]
    assert not list(hurried(found, 2))


# -- the radio model


def test_the_level_falls_by_the_exponent():
    model = radio.Radio(3.5, 3000, 0)
    assert radio.level_db(model, (0, 0), (10, 0)) == pytest.approx(-35)
    assert radio.level_db(model, (0, 0), (3, 4)) - radio.level_db(model, (0, 0), (30, 40)) == pytest.approx(35)
    assert radio.level_db(model, (0, 0), (0, 0)) == 0  # path loss begins at 1 m


def test_a_phone_moves_steadily_and_stands_at_the_ends():
    path = (radio.Waypoint(SECOND, (0.0, 0.0)), radio.Waypoint(3 * SECOND, (10.0, -20.0)))
    places = [radio.position(path, t_us) for t_us in (0, SECOND, 2 * SECOND, 3 * SECOND, 9 * SECOND)]
    assert places == [(0, 0), (0, 0), (5, -10), (10, -20), (10, -20)]


def test_without_hysteresis_and_trigger_the_middle_is_the_border():
    (one,) = drive(radio.Radio(3.5, 0, 0))
    assert one.station == "bs2"
    assert 5 * SECOND < one.t_us <= 5 * SECOND + radio.SAMPLE_US


@pytest.mark.parametrize(("hysteresis_mdb", "trigger_us"), [(3000, 0), (0, 160_000), (3000, 160_000), (6000, 640_000)])
def test_hysteresis_and_time_to_trigger_hold_the_handover_back(hysteresis_mdb, trigger_us):
    """Levels differ by h dB where the distances' ratio is 10^(h / 10 n); 10 m a second."""
    ratio = 10 ** (hysteresis_mdb / 1000 / 35)
    border_us = 100 * ratio / (1 + ratio) * SECOND / 10
    (one,) = drive(radio.Radio(3.5, hysteresis_mdb, trigger_us))
    assert border_us < one.t_us - trigger_us <= border_us + radio.SAMPLE_US


def test_a_better_neighbour_that_does_not_stay_so_is_no_reason():
    """With shadowing, levels cross to and fro around the middle; a longer time to trigger hands over less often."""
    counts = [len(drive(radio.Radio(3.5, 0, us, 4000, 5.0), gauss=partial_gauss(2))) for us in (0, 160_000, 1_000_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]


def partial_gauss(seed):
    chance = Random(seed)
    return lambda: chance.gauss(0.0, 1.0)


def test_shadowing_is_the_same_for_the_same_seed():
    model = radio.Radio(3.5, 1000, 80_000, 6000, 10.0)
    first, again, other = (drive(model, gauss=partial_gauss(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_nothing_is_measured_during_an_interruption():
    found = drive(radio.Radio(3.5, 0, 0, 8000, 1.0), gauss=partial_gauss(3), interruption_us=SECOND)
    assert len(found) > 2
    assert all(after.t_us - before.t_us >= SECOND for before, after in pairwise(found))


# -- recordings


def recorded(*found: str) -> Series:
    times = tuple(SECOND * number for number in range(len(found)))
    return Series("drive", times, len(found) * SECOND, {"delay_us": (1,) * len(found)}, {"cell": found})


def test_cells_come_in_order_of_appearance_round_and_round():
    series = recorded("", "x", "y", "x", "", "z", "-")
    assert recording.cells(series) == ("x", "y", "z")
    assert recording.spread(("x", "y", "z"), ["bs1", "bs2"]) == {"x": "bs1", "y": "bs2", "z": "bs1"}


def test_ping_pong_is_kept_and_a_row_without_a_cell_changes_nothing():
    series = recorded("x", "y", "x", "", "y")
    found = handovers("bs1", recording.attachments(series, {"x": "bs1", "y": "bs2"}), 10 * SECOND)
    assert [(one.t_us // SECOND, one.target) for one in found] == [(1, "bs2"), (2, "bs1"), (4, "bs2")]


def test_a_recording_drives_a_phone(tmp_path):
    rows = [f"{1000 * n} {1000 * n + 20} 20 0 0 0 0 {cell} 9 -84" for n, cell in enumerate("AABBCA")]
    drive_file = tmp_path / "drive.txt"
    drive_file.write_text("\n".join(["pub_time(ms) sub_time(ms) delay(ms)", *rows, ""]))
    sets = ("mobility.ue1.path=null", "mobility.ue1.radio=null", f"mobility.ue1.trace={drive_file}")
    found = [(t_us / SECOND, place) for t_us, what, place in moves(compiled(*sets)) if what == "attach"]
    assert found == [(2.05, "bs2"), (4.05, "bs3"), (5.05, "bs1")]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cicv5g/data_Arterial_road_n78_50_arterial_n78_v50_run01.txt", 5),
        ("ucc5g/Download_Driving_B_2020.01.16_12.10.03.csv", 12),
    ],
)
def test_real_drives(name, count):
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"no recording beside the checkout: {path}")
    series = read_trace(path)
    known = recording.spread(recording.cells(series), [f"bs{n}" for n in range(1, 7)])
    found = handovers("bs1", recording.attachments(series, known), series.length_us)
    assert len(found) == count
    assert not list(hurried(found, 50 * MS))


# -- the plan


def test_the_driving_experiment_has_its_handovers():
    plan = compiled()
    assert from_json(to_json(plan)) == plan
    for link, places in (("ue1", ["bs2", "bs3", "bs4", "bs5", "bs6"]), ("ue2", ["bs5", "bs4", "bs3", "bs2", "bs1"])):
        found = moves(plan, link)
        assert [place for _, what, place in found if what == "attach"] == places
        assert [what for _, what, _ in found] == ["detach", "attach"] * 5
    texts = [change.text for change in plan.changes if change.what == "detach"]
    assert texts[0] == "ue1: handover bs1 to bs2"
    assert len(texts) == 10


def test_a_schedule_is_played_as_written(tmp_path):
    text, _, rest = DRIVING.read_text().partition("mobility:\n")
    schedule = "attach: [{at: 5s, to: bs4}, {at: 9s, to: bs1}]"
    (tmp_path / "scheduled.yaml").write_text(
        f"{text}mobility:\n  ue1: {{interruption: 20ms, {schedule}}}\nmodels:{rest.partition('models:')[2]}"
    )
    plan = compiled(path=tmp_path / "scheduled.yaml")
    assert moves(plan) == [
        (5 * SECOND, "detach", "bs1"),
        (5 * SECOND + 20 * MS, "attach", "bs4"),
        (9 * SECOND, "detach", "bs4"),
        (9 * SECOND + 20 * MS, "attach", "bs1"),
    ]
    assert {c.value for c in plan.changes if c.what == "detach"} == {20 * MS}


def test_a_handover_that_would_not_end_in_time_does_not_begin():
    assert len(moves(compiled("duration=5.4s"))) == 0
    assert len(moves(compiled("duration=5.42s"))) == 2


def test_the_shadows_of_a_phone_are_its_own():
    plain, shadowed = compiled("seed=5"), compiled("seed=5", "mobility.ue1.radio.shadowing=6dB")
    assert moves(plain, "ue2") == moves(shadowed, "ue2")
    assert moves(plain, "ue1") != moves(shadowed, "ue1")


# -- what the controller knows


def test_paths_follow_the_phone():
    plan = compiled()
    names = [host.name for host in plan.hosts]
    phone, mec = names.index("ue1"), names.index("mec")

    def delay_us(stations):
        return path_arrays(plan, ways(present(plan, stations), {}, {}))[0][phone, mec]

    assert delay_us({}) == 8000 + 500 + 1000
    assert delay_us({"ue1": "bs3"}) == 8000 + 3 * 500 + 1000
    assert delay_us({"ue1": "bs6"}) == 8000 + 500 + 1000


# -- measuring


SENT = [n * MS for n in range(200)]


def test_the_gap_in_what_was_heard_is_the_interruption():
    """The radio is away from 90 to 140; lost are also answers to 86..89, and to 140..145: no route was known yet."""
    heard = {n for n in range(200) if not 90 <= n < 140}
    answered = {n for n in heard if n < 86 or n >= 146}
    assert interruption(SENT, answered, heard, 90 * MS, 145 * MS) == Interruption(51 * MS, 61 * MS, 60)


def test_what_was_answered_was_heard():
    answered = {n for n in range(200) if not 90 <= n < 140}
    assert interruption(SENT, answered, set(), 90 * MS, 140 * MS) == Interruption(51 * MS, 51 * MS, 50)


@pytest.mark.parametrize("answered", [set(), set(range(90)), set(range(140, 200))])
def test_no_answer_before_or_after_is_no_measurement(answered):
    assert interruption(SENT, answered, answered, 90 * MS, 140 * MS) == Interruption(None, None, 200 - len(answered))


def test_runs_grow_and_the_oldest_are_forgotten():
    runs = []
    for number in (0, 1, 2, 5, 6, 9, 8):
        runs = extended(runs, number, 3)
    assert runs == [(5, 6), (9, 9), (8, 8)]
    assert numbers(runs) == {5, 6, 8, 9}


# -- judging


def journal(**changes):
    handover = {
        **{"kind": "handover", "t_us": 5 * SECOND, "phone": "ue1", "link": "ue1", "from": "bs1", "to": "bs2"},
        **{
            "asked_us": 5 * SECOND,
            "detached_us": 5 * SECOND + 400,
            "attached_us": 5_050_500,
            "interruption_us": 50 * MS,
        },
        **{"measured_us": 51_000, "silent_us": 57_000, "lost_probes": 56},
    }
    return [*a_run(), handover | changes]


def test_a_handover_is_in_the_summary():
    summary = summarise(journal())
    assert summary["fidelity"]["verdict"] == "valid"
    assert summary["handovers"]["count"] == 1
    (one,) = summary["handovers"]["each"]
    assert (one["t_s"], one["phone"], one["from"], one["to"]) == (5.0, "ue1", "bs1", "bs2")
    assert (one["asked_ms"], one["measured_ms"], one["silent_ms"], one["lost_probes"]) == (50.0, 51.0, 57.0, 56)
    assert summarise(a_run())["handovers"] == {"count": 0, "each": []}


@pytest.mark.parametrize(
    ("changes", "text", "mood"),
    [({}, "50 / 51 / 57", ""), ({"measured_us": None, "silent_us": None}, "50 / — / —", "bad")],
)
def test_a_handover_is_in_the_report(changes, text, mood):
    found = {section.title: section for section in sections({"joint": summarise(journal(**changes))})}
    assert found["Handovers (ms): asked / measured / silent"].rows == (("5 s: ue1 bs1 to bs2", (Cell(text, mood),)),)


def test_an_interruption_that_is_not_the_one_asked_for_makes_a_run_invalid():
    (reason,) = assess(journal(attached_us=5_056_000)).reasons
    assert reason == "the handover of ue1 at 5.000 s took 55.6 ms instead of 50.0 ms, limit 10%"
