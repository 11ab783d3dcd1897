import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.experiment import load_experiment

SMALL = Path(__file__).with_name("small.yaml")


def call(*words: object) -> Any:
    return CliRunner().invoke(app, ["trace", *map(str, words)], prog_name="testbed")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "drive.out"
    lines = [f"[  5]   {t}.00-{t + 1}.00   sec  1 MBytes  {10 + t % 5}.0 Mbits/sec    0   27 KBytes" for t in range(40)]
    path.write_text("\n".join(lines) + "\n")
    return path


def shown(path: Path) -> Any:
    return json.loads(call("show", path, "--json").stdout)["traces"][0]


def test_what_is_done_to_a_trace_stays_in_its_side_card(log: Path, tmp_path: Path) -> None:
    one, two, three, all_of_it = (tmp_path / f"{name}.csv" for name in ("one", "two", "three", "all"))
    assert call("scale", log, one, "--by", "0.1").exit_code == 0
    assert call("resample", one, two, "--step", "2s").exit_code == 0
    assert call("cut", two, three, "--from", "10s", "--to", "50s", "--end", "loop").exit_code == 0
    assert call("join", three, three, "-o", all_of_it).exit_code == 0
    found = shown(all_of_it)
    assert (found["length_us"], found["recorded"], found["scale_ppm"]) == (80_000_000, "saturating", 100_000)
    assert found["made"][:3] == ["rates scaled by 0.1", "resampled to 2s", "cut 10s to 50s, end loop"]
    assert found["columns"]["up_bps"]["mean"] == pytest.approx(1_200_000, rel=0.02)


def test_show_draws_and_says_how_it_was_recorded(log: Path, tmp_path: Path) -> None:
    done = call("show", log, "--png", tmp_path / "a.png")
    assert done.exit_code == 0
    assert "recorded: saturating" in " ".join(done.stdout.split())
    assert "█" in done.stdout
    assert "13 to 17 %" in done.stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_how_it_was_recorded_can_be_told_and_two_files_be_one(log: Path, tmp_path: Path) -> None:
    (tmp_path / "low.txt").write_text("0 1\n10 2\n")
    both = tmp_path / "both.csv"
    assert call("convert", log, both, "--down", tmp_path / "low.txt", "--recorded", "goodput").exit_code == 0
    found = shown(both)
    assert (set(found["columns"]), found["recorded"], found["length_us"]) == (
        {"up_bps", "down_bps"},
        "goodput",
        20_000_000,
    )


def test_a_map_names_the_columns_of_another_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Time,UL\n0,5\n1,6\n")
    assert call("show", tmp_path / "a.csv", "--map", "t_s=Time,up_mbps=UL").exit_code == 0
    for mapping, why in (
        ("Time", "write ours=theirs"),
        ("t_s=Time,t_s=UL", "is there twice"),
        ("t_s=Time,up=UL", "to map to"),
    ):
        done = call("show", tmp_path / "a.csv", "--map", mapping)
        assert done.exit_code == 2
        assert why in done.stderr


def test_a_fitted_card_makes_traces(log: Path, tmp_path: Path) -> None:
    card, made = tmp_path / "card.json", tmp_path / "made.csv"
    done = call("fit", log, "-o", card, "--levels", "2", "--seed", "9")
    assert done.exit_code == 0
    assert "outage share" in done.stdout
    agreed = json.loads(card.read_text())["fitted"]["agreement"]["up_bps"]
    assert agreed["distance"] < 0.3
    assert call("generate", made, "--model", card, "--duration", "30s").exit_code == 0
    assert (shown(made)["length_us"], shown(made)["recorded"]) == (30_000_000, "generated")
    first = made.read_bytes()
    assert call("generate", made, "--model", made.with_suffix(".json")).exit_code == 0
    assert made.read_bytes() == first
    call("generate", made, "--model", card, "--duration", "30s", "--seed", "10")
    assert made.read_bytes() != first


def test_a_card_draws_to_standard_output_without_a_file(log: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    assert call("fit", log, "-o", card, "--levels", "2").exit_code == 0
    done = call("generate", "--model", card, "--seed", "2", "--duration", "5s")
    assert done.exit_code == 0
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["t_ms", "0", "1000", "2000", "3000", "4000"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "drive.out"]


def test_recordings_of_the_way_up_are_named_apart(log: Path, tmp_path: Path) -> None:
    down, card = tmp_path / "down.txt", tmp_path / "card.json"
    down.write_text("".join(f"{t} {50 + t % 9}\n" for t in range(60)))
    assert call("fit", down, "--up", log, "-o", card, "--levels", "2").exit_code == 0
    told = json.loads(card.read_text())["fitted"]
    assert [one["columns"] for one in told["chains"]] == [["down_bps"], ["up_bps"]]
    assert [one["name"] for one in told["recordings"]] == ["down.txt", "drive.out"]
    assert all(len(one["sha256"]) == 64 for one in told["recordings"])
    rows = call("table", card).stdout.splitlines()
    assert [row.split(" | ")[1] for row in rows[2:]] == ["down", "up"]


def test_a_trace_agrees_wholly_with_itself(log: Path) -> None:
    told = json.loads(call("compare", log, log, "--json").stdout)["agreement"]["up_bps"]
    assert told["distance"] == 0
    assert all(was == now for was, now in [*told["quantiles"].values(), *told["correlation"].values(), told["outage"]])
    assert "KS" in call("compare", log, log).stdout


def test_a_trace_that_was_changed_is_not_that_of_its_card(log: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.csv"
    assert call("convert", log, made).exit_code == 0
    made.write_text(made.read_text() + "41000,5\n")
    done = call("show", made)
    assert done.exit_code == 2
    assert f"{made}: the digest of made.csv is " in done.stderr
    assert "its side-card made.json says" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["scale", "{log}", "{out}", "--by", "0"], "--by"),
        (["scale", "{log}", "{out}", "--by", "nan"], "--by"),
        (["cut", "{log}", "{out}", "--from", "50s"], "nothing is left"),
        (["join", "{log}", "-o", "{out}"], "at least two"),
        (["resample", "{log}", "{out}", "--step", "1us"], "longer step"),
        (["fit", "{log}", "-o", "{out}", "--step", "1ms"], "10ms to 60s"),
        (["fit", "{log}", "--up", "traces/bus.csv", "-o", "{out}"], "no rate up"),
        (["compare", "{log}", "traces/bus.csv"], "no recording has any"),
        (["generate", "{out}", "--model", "traces/bus.json", "--step", "1s"], "leave the option out"),
        (["table", "{log}"], "not a side-card"),
        (["show", "{log}", "--format", "pcap"], "no trace format"),
        (["show", "{log}", "--png", "/no/such/a.png"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_says_what_can(words: list[str], why: str, log: Path, tmp_path: Path) -> None:
    done = call(*(word.format(log=log, out=tmp_path / "out.csv") for word in words))
    assert done.exit_code == 2
    assert why in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_is_no_side_card_is_not_written_over(log: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text('{"mine": 1}')
    done = call("convert", log, tmp_path / "out.csv")
    assert (done.exit_code, "is in the way" in done.stderr) == (2, True)
    assert not (tmp_path / "out.csv").exists()


def test_a_replay_of_a_saturating_recording_says_what_that_means(log: Path) -> None:
    notes = load_experiment(SMALL, sets=[f"links.radio.up.trace={log}"]).notes
    assert any("short flows meet 13 to 17 % less round-trip time" in note for note in notes)
