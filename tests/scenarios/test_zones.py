"""Ten thousand random problems: no policy ever places a block where its data may not be. No guest."""

from tests.unit.zones import POLICIES, answers, broken

PROBLEMS = 10_000
RARE = {"exact": 50}  # it takes a hundred times longer: every fiftieth of its problems


def test_no_policy_ever_breaks_a_zone():
    placed = 0
    for seed in range(PROBLEMS):
        name = POLICIES[seed % len(POLICIES)]
        if seed // len(POLICIES) % RARE.get(name, 1):
            name = "joint"
        for made, nodes in answers(name, seed):
            placed += sum(map(len, nodes.values()))
            assert broken(made, nodes) == [], (name, seed)
    assert placed > PROBLEMS
