"""`testbed why`: the words, and that the coordinator records what they need."""

import json
import shutil
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from testbed.cli import app
from testbed.decisions import decisions
from testbed.journal import Journal, merge, read
from testbed.progress import Lines
from testbed.proof import finished
from testbed.proof.certificate import ATTEMPTS
from testbed.proof.recalled import Question
from testbed.report import write_results
from testbed.report.why import NoDecision, detail, overview, pick
from tests.unit.journal_factory import a_run, written
from tests.unit.test_coordinator import SECOND, World, coordinator
from tests.unit.test_recalled import certificate, decided, elsewhere


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    world = World()
    loop = coordinator(world, tmp_path_factory.mktemp("ledger"))
    loop.begin(0)
    loop.run(10 * SECOND)
    world.load_ppm = 800_000
    loop.run(20 * SECOND)
    return [json.loads(json.dumps(record)) for record in world.records]


def test_a_decision_says_everything(records):
    text = "\n".join(detail(pick(decisions(records), None)))
    for part in (
        "decision 2 at 12.000 s: REMAP, epoch 2",
        "triggered  load edge: 0 % -> 80 %",
        "seen       edge: load 80 %, backlog 0.0 ms",
        "seen       ue -> mec: 4.0 ms, 1000.00 Mbit/s",
        "seen       s: 100.0 ms measured",
        "candidate  keep:",
        "lost: the gain of moving is worth its cost",
        "candidate  optimum:",
        "chosen",
        "s: mec[0-3]: compute 80.0 ms, queue",
        "propagation 8.0 ms",
        "moves 40.0 MB in",
        "% above the bound",
        "bound      no placement is below",
    ):
        assert part in text, part


def test_what_was_expected_stands_beside_what_was_seen(records):
    record = pick(decisions(records), None)
    seen = record["seen"]
    nodes = [node | {"load_ppm": 900_000 if node["node"] == "edge" else node["load_ppm"]} for node in seen["nodes"]]
    paths = [path | {"rate_bps": 0 if path["to"] == "mec" else path["rate_bps"]} for path in seen["paths"]]
    text = "\n".join(detail({**record, "expected": {"nodes": nodes, "paths": paths}}))
    assert "seen       edge: load 80 %, backlog 0.0 ms; expected: load 90 %, backlog 0.0 ms" in text
    assert "seen       ue -> mec: 4.0 ms, 1000.00 Mbit/s; expected: no path" in text
    assert text.count("expected") == 1 + sum(path["to"] == "mec" for path in paths)


def test_overview_has_a_line_a_decision(records):
    lines = list(overview(decisions(records)))
    assert len(lines) == 2 and "RESPLIT" in lines[0] and "load edge" in lines[1]


def test_picks(records):
    found = decisions(records)
    assert pick(found, 1)["n"] == 1
    with pytest.raises(NoDecision, match="no decision 9; there are 1 to 2"):
        pick(found, 9)
    with pytest.raises(NoDecision, match="holds no decision"):
        pick([], None)


def test_what_is_refused_or_unreachable_is_said(records):
    record = {**decisions(records)[0], "refused": "the policy raised ValueError", "lower_bound_us": 0, "gap": None}
    candidate = {**record["candidates"][0], "why_not": "no path", "move_bytes": 0}
    parts = dict.fromkeys(("compute_us", "queue_us", "transfer_us", "propagation_us", "total_us"), 10**12)
    text = "\n".join(
        detail({**record, "candidates": [{**candidate, "predicted": {"s": parts}, "nodes": {"s": ["ue"]}}]})
    )
    assert "refused    the policy raised" in text and "unreachable" in text and "bound" not in text


def proof(**changes):
    return {"bound_us": 100_000.0, "found_us": 100_000.0, "gap": 0.0, "better": {}, "open": ""} | changes


BETTER = {"s": ["ue", "edge", "edge", "edge"]}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (proof(), ["  proven     no placement is below 100.0 ms: the chosen one is optimal"]),
        (
            proof(gap=0.0026, better=BETTER),
            [
                "  proven     no placement is below 100.0 ms; "
                "the chosen one is 0.26 % above it, which this one is not:",
                "             s: ue[0-0] edge[1-3]",
            ],
        ),
        (
            proof(gap=4e-6, open="more than 40 rounds"),
            [
                "  not proven more than 40 rounds; no placement is below 100.0 ms; "
                "the chosen one is at most 0.0004 % above it"
            ],
        ),
        (
            proof(gap=0.05, found_us=103_000.0, better=BETTER, open="it takes too long"),
            [
                "  not proven it takes too long; no placement is below 100.0 ms; "
                "the chosen one is at most 5.00 % above it; a better one has 103.0 ms:",
                "             s: ue[0-0] edge[1-3]",
            ],
        ),
        (proof(gap=None, bound_us=0.0, open="why"), ["  not proven why; no placement is below 0.0 ms"]),
    ],
)
def test_a_proof_is_said_below_the_bound(records, found, lines):
    record = pick(decisions(records), None)
    plain, said = list(detail(record)), list(detail(record | {"proof": found}))
    at = next(n for n, line in enumerate(plain) if line.startswith("  bound ")) + 1
    assert said == [*plain[:at], *lines, *plain[at:]]


def test_of_a_better_placement_that_was_weighed_only_the_name_is_said(records):
    record = pick(decisions(records), None)
    keep = next(candidate for candidate in record["candidates"] if candidate["name"] == "keep")
    for found, said in (
        (proof(gap=0.05, better=keep["nodes"]), "5.00 % above it, which the candidate keep is not"),
        (proof(gap=0.05, better=keep["nodes"], open="why"), "above it; the candidate keep has 100.0 ms"),
    ):
        added = [line for line in detail(record | {"proof": found}) if line not in list(detail(record))]
        assert len(added) == 1 and added[0].endswith(said)


def test_a_proof_says_when_some_streams_were_not_looked_at(records):
    record = pick(decisions(records), None)
    kept, chosen = (dict(candidate) for candidate in record["candidates"][:2])
    chosen["predicted"] = {"s": chosen["predicted"]["s"]}
    text = "\n".join(detail(record | {"candidates": [kept, chosen], "proof": proof()}))
    said = "no placement is below 100.0 ms, the streams not looked at staying, their longer waits counted: the chosen"
    assert said in text


def test_what_is_weighed_is_said_where_it_is_not_the_sum(records):
    record = pick(decisions(records), None)
    kept, chosen = (dict(candidate) for candidate in record["candidates"][:2])
    total_us = sum(parts["total_us"] for parts in chosen["predicted"].values())
    candidates = [kept, chosen | {"weighted_us": 4 * total_us}]
    text = "\n".join(detail(record | {"candidates": candidates, "weights": {"s": 4.0}}))
    share = 100 * (4 * total_us / record["lower_bound_us"] - 1)
    assert f"{total_us / 1e3:.1f} ms, counted as {4 * total_us / 1e3:.1f} ms, {share:.1f} % above the bound" in text
    assert "  weight 4   s\n" in text and " ms, by weight; " in text and text.count("counted") == 1
    both = [
        list(detail(record | {"candidates": [kept, chosen | more]})) for more in ({}, {"weighted_us": total_us + 1})
    ]
    assert both[0] == both[1]


def call(*words):
    return CliRunner().invoke(app, ["why", *map(str, words)])


def test_command(tmp_path, records):
    folder = tmp_path / "run"
    with Journal(folder, "coordinator") as journal:
        for record in records:
            journal.record(**record)
    assert "decision 2 at" in call(folder).stdout and "RESPLIT" in call(folder).stdout
    assert call(folder, "--decision", 1).stdout.startswith("decision 1 at")
    assert json.loads(call(folder, "--decision", 2, "--json").stdout)["action"] == "REMAP"
    assert len(json.loads(call(folder, "--json").stdout)["decisions"]) == 2
    assert call(folder, "--decision", 7).exit_code == 2
    assert call(tmp_path / "none").exit_code == 2


def test_an_older_journal_is_shown_without_what_it_lacks(tmp_path):
    assert "decision 2 at" in call(written(tmp_path, a_run())).stdout


@pytest.fixture
def run(tmp_path):
    """A folder with the plan and the journal of a run, in which decisions do not know that they are the best."""
    folder, made = decided(tmp_path / "run")
    with Journal(folder, "coordinator") as journal:
        for record in made:
            doubt = record["n"] / 1_000
            bound_us = record["lower_bound_us"] * (1 - doubt)
            journal.record(**record | {"lower_bound_us": round(bound_us), "gap": round(1 / (1 - doubt) - 1, 6)})
    return folder


def forget(run):
    """The proofs that were kept."""
    (run / "parts" / "proof.jsonl").unlink()


@pytest.fixture
def certify(monkeypatch):
    """Stands in for the search: its certificates are what the test says."""
    asked = SimpleNamespace(questions=[], attempts=[], known=[], answer={}, gaps=[])

    def certify(problem, snapshot, looked, rows, *, weights, sought, known_us, attempts, so_far):
        for gap in asked.gaps:
            so_far(gap)
        asked.attempts.append(attempts)
        asked.known.append(known_us)
        asked.questions.append(Question(problem, snapshot, looked, rows, weights, 100_000, sought))
        answer = dict(asked.answer)
        if node := answer.pop("node", None):
            answer["rows"] = elsewhere(asked.questions[-1], node)
        return certificate(asked.questions[-1], **answer)

    monkeypatch.setattr(finished, "certify", certify)
    return asked


def test_command_proves_one_decision(run, certify):
    plain = call(run, "--decision", 2)
    assert not certify.questions and "proven" not in plain.stdout
    certify.answer = {"bound": 0.4, "found": 0.4, "node": 1}
    told = call(run, "--decision", 2, "--prove")
    assert told.exit_code == 0 and told.stderr == "seeking the optimum of decision 2\n"
    added = [line for line in told.stdout.splitlines() if line not in plain.stdout.splitlines()]
    assert added[0].startswith("  proven     no placement is below 40.0 ms; the chosen one is ")
    assert added[1:] == ["             cam.ue2: ue2[0-5]"]
    assert [question.snapshot.now_us for question in certify.questions] == [10 * SECOND]
    again = call(run, "--decision", 2, "--prove")
    assert (again.stdout, again.stderr) == (told.stdout, "") and call(run, "--decision", 2).stdout == told.stdout
    assert len(certify.questions) == 1 and certify.attempts == [ATTEMPTS]
    forget(run)
    certify.gaps = [0.0123, 0.0123, 0.002]
    seeking = "seeking the optimum of decision 2"
    lines = [seeking, f"{seeking}: at most 1.23 % above it", f"{seeking}: at most 0.20 % above it"]
    assert call(run, "--decision", 2, "--prove").stderr.splitlines() == lines


def test_proofs_in_json(run, certify):
    one = json.loads(call(run, "--decision", 1, "--prove", "--json").stdout)
    assert one["n"] == 1 and set(one["proof"]) == {"bound_us", "found_us", "gap", "better", "open", "attempts"}
    assert one["proof"]["better"] == {} and one["proof"]["open"] == ""
    every = json.loads(call(run, "--prove", "--json").stdout)["decisions"]
    assert ["proof" in record for record in every] == [True, True]
    assert len(certify.questions) == 2  # one of them was proven before


def test_the_overview_says_how_far_each_is_above_the_optimum(run, certify):
    def columns(*options):
        lines = call(run, *options).stdout.split("\n\n")[0].splitlines()
        return [line.split(":")[0].split("  ")[-2].strip() for line in lines]

    assert columns() == ["≤ 0.10 %", "≤ 0.20 %"]
    assert columns("--prove") == ["optimal", "optimal"] == columns()
    forget(run)
    certify.answer = {"bound": 0.5, "found": 0.5, "node": 1}
    assert all(column.endswith(" %") and "≤" not in column for column in columns("--prove"))


def test_a_decision_that_cannot_be_proven_says_why(tmp_path, certify):
    folder = written(tmp_path, a_run())
    told = call(folder, "--decision", 2, "--prove", "--json")
    assert told.exit_code == 2 and not certify.questions
    assert json.loads(told.stdout)["error"].startswith("decision 2 cannot be proven: it weighed nothing")
    every = call(folder, "--prove")
    assert every.exit_code == 0 and "  not proven decision 2 cannot be proven: it weighed nothing" in every.stdout


def test_the_search_itself_proves_what_joint_decides(run):
    for number in (1, 2):
        proof = json.loads(call(run, "--decision", number, "--prove", "--json").stdout)["proof"]
        assert proof["gap"] <= 1e-6 and (proof["better"], proof["open"]) == ({}, "")


def test_a_proof_that_stayed_open_is_sought_again_with_more_and_begins_with_its_bound(run, certify):
    def sought(attempts):
        certify.attempts.clear()
        one = pick(decisions(read(merge(run))), 2)
        finished.proven(run, one, Lines(print), attempts)
        return certify.attempts

    certify.answer = {"bound": 9.0, "found": 10.0, "why": "2 cases are left after 1"}
    assert sought(finished.QUICK) == [finished.QUICK] and sought(finished.QUICK) == []
    assert sought(ATTEMPTS) == [ATTEMPTS] and certify.known == [certify.known[0], 900_000 - 1]
    assert sought(ATTEMPTS) == sought(finished.QUICK) == []


def test_a_run_seeks_the_optimum_of_its_worst_decisions(run, certify, monkeypatch):
    said, gaps = [], {one["n"]: one["gap"] for one in decisions(read(merge(run)))}
    certify.gaps = [0.02]
    finished.prove_worst(run, Lines(said.append))
    assert [question.snapshot.now_us for question in certify.questions] == [0, 10 * SECOND]
    assert said[0] == "seeking the optimum of 2 decisions" and "of decision 2: at most 2.00 % above it" in said[-1]
    assert all(one["proof"]["gap"] == 0 for one in decisions(read(merge(run)))) and all(gaps.values())
    forget(run)
    monkeypatch.setattr(finished, "MOST", 1)
    finished.prove_worst(run, Lines(said.append))
    (one,) = [one["n"] for one in decisions(read(merge(run))) if "proof" in one]
    assert one == 2 and gaps[one] == max(gaps.values())


def test_of_a_merged_journal_alone_nothing_is_lost(run, certify):
    whole = merge(run).read_bytes()
    shutil.rmtree(run / "parts")
    assert "  proven  " in call(run, "--decision", 2, "--prove").stdout
    assert (run / "journal.jsonl").read_bytes() == whole and not (run / "parts").exists()


def test_the_report_of_a_run_says_what_was_proven_since(run, certify):
    write_results(run)
    assert "≤" in gap_row(run)
    call(run, "--prove")
    assert "0 %, 2 of 2 certain" in gap_row(run)


def gap_row(run):
    return next(line for line in (run / "report.md").read_text().splitlines() if "gap to the optimum" in line)
