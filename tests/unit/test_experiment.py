from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.experiment import ExperimentError, load_experiment
from testbed.experiment.reader import read

ROOT = Path(__file__).resolve().parents[2]
SMALL = Path(__file__).with_name("small.yaml")
URBAN = ROOT / "topologies" / "urban-mec.yaml"
RECORDINGS = ROOT.parent / "shared" / "traces"


def refused(path, **options) -> str:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path, **options)
    return str(caught.value)


def test_plain_scalars_are_what_they_look_like():
    text = b"a: [1, -2, 1.5, true, false, null, ~, yes, 010, 1e9, 12:30:45, 2024-01-01, '1', 0x1f, 1_000]"
    assert read(text).value == {
        "a": [1, -2, 1.5, True, False, None, None, "yes", "010", "1e9", "12:30:45", "2024-01-01", "1", "0x1f", "1_000"]
    }


def test_every_value_knows_its_line():
    lines = read(b"a:\n  b: 1\n  c:\n    - x\n    - y: 2\n").lines
    assert lines["a",] == 1
    assert lines["a", "b"] == 2
    assert lines["a", "c", 1] == 5
    assert lines["a", "c", 1, "y"] == 5


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused_with_a_line(data):
    document = read(data)
    assert document.faults or isinstance(document.value, dict)


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"\n \t,?%@`", max_size=80))
def test_any_punctuation_is_read_or_refused(text):
    document = read(text.encode())
    assert document.faults or isinstance(document.value, dict)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10**6,
        b"{a: " * 10**5,
        b"a: [" + b"1," * 500_000 + b"]",
        b"a: " + b"x" * 2**20,
        b"? " * 10**5,
        b"- " * 10**5,
    ],
    ids=["brackets", "braces", "items", "big", "keys", "dashes"],
)
def test_hostile_files_are_refused(data):
    assert read(data).faults


def test_the_experiments_of_the_project_load():
    for path in sorted((ROOT / "topologies").glob("*.yaml")):
        assert load_experiment(path).duration_us > 0


def test_a_link_merges_the_nearest_word():
    link = load_experiment(
        SMALL, sets=["links.site.up.delay=2ms", "links.site.both.loss=1%", "links.site.down.queue=9packets"]
    ).links["site"]
    up, down = link.way("up"), link.way("down")
    assert (up.delay_us, down.delay_us) == (2000, 100)
    assert up.loss == down.loss == 10_000
    assert up.rate_bps == 10**10
    assert up.queue is None
    assert down.queue.amount == 9


def test_overrides_set_scalars_and_add_keys():
    experiment = load_experiment(
        SMALL,
        sets=["duration=30s", "events.0.at=3s", "nodes.edge1.load=20%", "workload.cam.phones=[ue1]", "numerics=off"],
        seed=9,
        policy="static",
    )
    assert experiment.duration_us == 30_000_000
    assert experiment.events[0].at_us == 3_000_000
    assert experiment.nodes["edge1"].load_ppm == 200_000
    assert experiment.numerics is False
    assert (experiment.seed, experiment.policy.name) == (9, "static")


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("duration=10", "--set duration=10: duration: 10 has no unit"),
        ("links.radio.uup.rate=1Mbit", "links.radio.uup: unknown key; did you mean 'up'?"),
        ("links.zz.up.rate=1Mbit", "--set links.zz.up.rate=1Mbit: links.zz.from: is missing"),
        ("events.3.at=2s", "there is no item '3'; the list has 1"),
        ("seed.x=1", "seed: is a single value"),
        ("nothing", "write it as path.to.key=value"),
        ("=1", "write it as path.to.key=value"),
        ("seed=.nan", "a finite number is right"),
        ("links.radio.up.trace=/no/such", "there is no file '/no/such'"),
    ],
)
def test_a_bad_option_is_named(assignment, says):
    assert says in refused(SMALL, sets=[assignment])


def test_a_trace_of_the_command_line_may_lie_anywhere(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "mine.txt").write_text("0 5\n1 6\n")
    monkeypatch.chdir(tmp_path / "deep")
    for name in ("../mine.txt", str(tmp_path / "mine.txt")):
        experiment = load_experiment(SMALL, sets=[f"links.radio.up.trace={name}"])
        assert experiment.trace("radio", "up").columns["rate_bps"] == (5_000_000, 6_000_000)
        assert experiment.trace("radio", "down") is None
        assert "lasts 2s, then begins anew" in experiment.notes[0]


def test_a_trace_folder_can_be_given(tmp_path):
    (tmp_path / "mine.csv").write_text("t_ms,up_kbps,down_kbps\n0,5,6\n")
    experiment_file = tmp_path / "elsewhere" / "e.yaml"
    experiment_file.parent.mkdir()
    text = SMALL.read_text().replace("    to: bs1\n", "    to: bs1\n    trace: mine\n")
    experiment_file.write_text(text)
    assert "there is no trace 'mine'" in refused(experiment_file)
    experiment = load_experiment(experiment_file, trace_dirs=[tmp_path])
    assert experiment.trace("radio", "up") is experiment.trace("radio", "down")


@pytest.mark.parametrize(
    "name",
    [
        "mahimahi/traces_TMobile-LTE-short.up",
        "lumos5g/Lumous5G_5G_5g_trace_2_driving",
        "oboe/traces_oboe_oboe_trace_101.txt",
    ],
)
def test_real_recordings_replace_a_trace(name):
    if not (RECORDINGS / name).is_file():
        pytest.skip(f"no recording ../shared/traces/{name}")
    experiment = load_experiment(URBAN, sets=[f"links.ue1.up.trace={RECORDINGS / name}"])
    assert experiment.trace("ue1", "up").name == Path(name).name
    assert experiment.trace("ue1", "down").name == "urban_ue1.csv"


def test_all_faults_are_told_together():
    text = refused(SMALL, sets=["duration=10", "sla.window=5", "models.tiny.inputs=0"])
    assert len(text.splitlines()) == 3
    text = refused(SMALL, families=["minilm"], policies=["static"])
    assert "no model family 'vit_tiny'" in text
    assert "no policy 'joint'" in text


def test_a_huge_trace_is_refused_quickly(tmp_path):
    with (tmp_path / "huge.up").open("wb") as file:
        file.truncate(10**9)
    assert "more than 16 MiB" in refused(SMALL, sets=[f"links.radio.up.trace={tmp_path / 'huge.up'}"])


def test_a_flood_of_steps_is_refused(tmp_path):
    (tmp_path / "fast.csv").write_text("t_ms,up_kbps\n0,5\n0.001,6\n")
    assert "steps of all traces" in refused(SMALL, sets=[f"links.radio.up.trace={tmp_path / 'fast.csv'}"])


def test_no_terminal_escape_gets_through(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text('"\\e[2Jx": 1\nname: bad\n')
    text = refused(path)
    assert "unknown key" in text
    assert "\x1b" not in text


def test_a_thousand_faults_are_counted_not_printed(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("".join(f"key{number}: 1\n" for number in range(20_000)))
    assert len(refused(path).splitlines()) <= 52


def test_what_is_no_file_is_told():
    assert "No such file" in refused("/no/such.yaml")
    assert "not a file" in refused(ROOT)
