"""How far decisions are above the optimum, as a scenario test asks for it."""

import re

import pytest

from testbed.decisions import above, decisions
from testbed.report import summary_of
from testbed.scenario import ScenarioFailed, ScenarioRun
from tests.unit.journal_factory import a_proof, a_run, written


@pytest.fixture
def made(tmp_path):
    """A run of two decisions with these gaps, and proofs."""

    def made(gaps, *proofs):
        records = a_run()
        for record, gap in zip((one for one in records if one["kind"] == "decision"), gaps, strict=True):
            record["gap"] = gap
        folder = written(tmp_path, [*records, *proofs])
        return ScenarioRun(folder, summary_of(folder))

    return made


def test_a_decision_has_its_last_proof():
    first, last = a_proof(2, gap=0.3, open="why"), a_proof(2, gap=0.1)
    one, other = decisions([*a_run(), first, last])
    assert "proof" not in one and above(one).certain
    assert other["proof"]["gap"] == 0.1 and not {"kind", "t_us", "n"} & set(other["proof"])
    assert (above(other).share, above(other).certain) == (0.1, True)


@pytest.mark.parametrize(
    ("gaps", "proofs", "within"),
    [
        ((0.0, 0.0), (), "0%"),
        ((0.0, None), (), "0%"),
        ((0.0, 0.004), (), "0.5%"),
        ((0.0, 0.5), (a_proof(2),), "0%"),
        ((0.0, 0.5), (a_proof(2, gap=0.01, open="why"),), "1%"),
    ],
)
def test_decisions_that_are_near_enough_pass(made, gaps, proofs, within):
    made(gaps, *proofs).assert_optimal(within=within)


@pytest.mark.parametrize(
    ("gaps", "proofs", "within", "said"),
    [
        ((0.0, 0.004), (), "0%", "decision 2 may not be near enough: at most 0.4 % above the optimum, limit 0%"),
        ((0.2, 0.5), (a_proof(2, gap=0.1),), "5%", "decision 1, and 1 more, may not be near enough: at most 20 %"),
        ((None, None), (), "100%", "no decision has a bound: nothing can be said of the optimum"),
    ],
)
def test_others_fail_with_the_worst_first(made, gaps, proofs, within, said):
    with pytest.raises(ScenarioFailed, match=re.escape(said)) as failed:
        made(gaps, *proofs).assert_optimal(within=within)
    assert ('{"kind":"decision"' in str(failed.value)) == (gaps[0] is not None)
