"""Twenty agents on one machine: forks of one parent, which share what they do not change. Bytes, no times."""

import pytest

from benchmarks.agents import measure

AGENTS = 20
LIMIT_BYTES = 3 << 29  # 1.5 GiB, all of them together


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_twenty_agents_with_a_model_each_need_less_than_one_and_a_half_gibibytes(runtime, tmp_path):
    found = measure(AGENTS, "vit_tiny", runtime, tmp_path)
    assert found.agents == AGENTS
    assert found.own_mean * AGENTS < found.pss_sum < LIMIT_BYTES, found
    assert found.pss_sum < found.rss_sum / 2, found  # most of what each sees is everybody's
