"""Each formula of arXiv 2505.02533, section A of the papers' facts, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from controller.heads.costs import Each, demand, head_phase_s, latencies_s, latency_s, migration_s, times, used_of
from controller.heads.model import UNREACHABLE_S, HeadModel, Scene, kind, named, numbered
from controller.heads.task import fits, objective_s, task

MIB = 2**20
LARGE = HeadModel("large", 1, 32, 2048, 4, 512)
TINY = HeadModel("tiny", 1, 2, 4, 1, 10)  # D = 4, h = 2, d = 2, b = 1, L0 = 10


def scene(speed=(100.0, 200.0), rate=10.0, delay=0.0, memory=1e6, source=0, token=0):
    size = len(speed)
    delays = np.full((size, size), delay) * (1 - np.eye(size))
    rates = np.full((size, size), float(rate)) if np.isscalar(rate) else np.array(rate, dtype=float)
    return Scene(np.full(size, memory), np.array(speed), rates, delays, source, token)


def test_table_one_has_the_figures_of_the_large_model():
    need = demand(LARGE, "paper", token=0)
    assert need.resident_bytes[0] == 1.875 * MIB
    assert need.flops == (3 * 512 * 2048 * 64 + 512**2 * 64, 512 * 2048**2, 8 * 512 * 2048**2, 0)
    assert round(need.flops[0] / 1e6, 1) == 218.1 and round(need.flops[2] / 1e9, 2) == 17.18
    assert need.resident_bytes[1:] == (512 * 2048 * 4, 4 * 512 * 2048 * 4, 0)


def test_the_papers_cache_is_d_wide_for_every_head_and_the_physical_one_is_k_and_v_of_all_tokens():
    grown, at_start = (demand(LARGE, "paper", token=token).resident_bytes[0] for token in (1000, 0))
    assert grown - at_start == 1000 * 2048 * 4 + 3 * 1000 * 64 * 4
    head = demand(LARGE, "physical", token=1000).resident_bytes[0]
    assert head == 3 * 2048 * 64 * 4 + 2 * (512 + 1000) * 64 * 4


def test_physical_decode_computes_one_token_beside_a_cache():
    need = demand(LARGE, "physical", token=88)
    assert need.flops == (3 * 2048 * 64 + 2 * 600 * 64, 2048**2, 8 * 2048**2, 0)
    assert need.resident_bytes[1:] == (2048**2 * 4, 8 * 2048**2 * 4, 0)
    assert (need.input_bytes, need.head_bytes, need.proj_bytes) == (2048 * 4, 64 * 4, 2048 * 4)


def test_a_migration_carries_what_the_interval_before_held():
    need = demand(LARGE, "paper", token=20, interval_tokens=5)
    assert need.moving_bytes == demand(LARGE, "paper", token=15).resident_bytes
    staged = demand(LARGE, "physical", token=20, interval_tokens=5, weights_move=False)
    assert staged.moving_bytes == (2 * (512 + 15) * 64 * 4, 0, 0, 0)


def test_equation_1_sums_the_blocks_of_a_device():
    plan = np.array([[0, 1, 1, 0]])
    assert used_of(plan, Each(3.0, 5.0, 7.0), 2).tolist() == [3 + 7, 3 + 5]
    asked = task(TINY, scene(), "paper")
    head, proj, ffn, _ = asked.need.resident_bytes
    assert (head, proj, ffn) == (3 * 10 * 2 + 3 * 4 * 2, 40, 160)
    assert fits(replace(asked, memory=np.array([head + ffn, head + proj])), plan)
    assert not fits(replace(asked, memory=np.array([head + ffn - 1, head + proj])), plan)


def test_equations_2_and_7_sum_the_migrations():
    spent = times(scene(), demand(TINY, "paper", token=0))
    before, after = np.array([[0, 1, 0, 0]]), np.array([[1, 1, 0, 1]])
    assert migration_s(after, before, spent) == pytest.approx(84 / 10 + 160 / 10)
    assert migration_s(after, None, spent) == 0


def test_equations_3_to_6_by_hand():
    """L = 10: a head 3*10*4*2 + 100*2 = 440, proj 160, FFN 1280 FLOP; input 40, head's output 20, proj's 40 bytes."""
    spent = times(scene(), demand(TINY, "paper", token=0))
    assert spent.head.tolist() == [4.4, 2.2] and spent.proj.tolist() == [1.6, 0.8] and spent.ffn.tolist() == [12.8, 6.4]
    alone = latency_s(np.array([[0, 0, 0, 0]]), spent, 0)
    assert alone == pytest.approx(2 * 4.4 + 1.6 + 12.8)
    split = np.array([[0, 1, 0, 1]])  # device 1: input 4, head 2.2, back 2; then proj on 0, over to 1, FFN there
    assert latency_s(split, spent, 0) == pytest.approx(max(4.4, 4 + 2.2 + 2) + 1.6 + 4 + 6.4)
    both = np.array([[1, 1, 0, 0]])  # the input once, the heads and their transfers one after the other
    assert latency_s(both, spent, 0) == pytest.approx(4 + 2 * 2.2 + 2 * 2 + 1.6 + 12.8)


def test_columns_of_the_ffn_run_side_by_side_and_their_sums_meet_at_the_projection():
    """Two blocks of 640 FLOP; what the projection sends, and each sum, is 40 bytes."""
    model = replace(TINY, columns=2)
    spent = times(scene(), demand(model, "paper", token=0), model.columns)
    assert spent.column.tolist() == [6.4, 3.2] and spent.ffn.tolist() == [0, 0]
    phases = 2 * 4.4 + 1.6  # heads and projection on device 0
    beside = latency_s(np.array([[0, 0, 0, 1, 0, 0]]), spent, 0)  # to device 1 and back, 4 s each
    assert beside == pytest.approx(phases + max(6.4, 4 + 3.2 + 4))
    there = latency_s(np.array([[0, 0, 1, 1, 0, 1]]), spent, 0)
    assert there == pytest.approx(latency_s(np.array([[0, 0, 0, 1]]), times(scene(), demand(TINY, "paper", 0)), 0))
    elsewhere = np.array([[[0, 0, 0, 1, 0, 1]], [[0, 0, 1, 1, 0, 0]]])  # several do not end there, nor one here
    assert (latencies_s(elsewhere, spent, 0) > 1e8).all()
    need = demand(model, "paper", 0).resident_bytes
    assert used_of(np.array([[0, 0, 0, 1, 0, 0]]), need, 2, columns=2).tolist() == [2 * 84 + 80 + 40, 80]
    before, after = np.array([[0, 0, 0, 0, 0, 0]]), np.array([[0, 0, 0, 1, 0, 1]])
    assert migration_s(after, before, spent) == pytest.approx(80 / 10)  # the end itself has nothing


def test_the_authors_code_sums_the_transfers_and_has_no_input():
    spent = times(scene((100.0,) * 3), demand(replace(TINY, heads=4, width=8), "code", token=0))
    heads = np.array([2, 1, 1])
    one = float(spent.gather[1, 0])
    assert head_phase_s(spent, heads, 0, 0, summed=True) == pytest.approx(2 * spent.head[0] + 2 * one)
    assert head_phase_s(spent, heads, 0, 0) == pytest.approx(max(2 * spent.head[0], spent.head[0] + one))


def test_in_physical_mode_each_transfer_is_late_by_the_delay_and_the_answer_comes_home():
    model = replace(TINY, prompt_tokens=100)
    plan, late = np.array([[1, 1, 0, 1]]), 0.5
    now, then = (latency_s(plan, times(scene(delay=delay), demand(model, "physical", 0)), 0) for delay in (0.0, late))
    assert then - now == pytest.approx(4 * late)  # to the heads, back, to the FFN, home
    paper = [latency_s(plan, times(scene(delay=delay), demand(model, "paper", 0)), 0) for delay in (0.0, late)]
    assert paper[0] == paper[1]


def test_layers_follow_each_other_from_ffn_to_ffn():
    model = replace(TINY, layers=2)
    spent = times(scene(), demand(model, "paper", 0))
    plan = np.array([[0, 0, 0, 1], [1, 1, 1, 1]])
    first = 2 * 4.4 + 1.6 + 4 + 6.4
    assert latency_s(plan, spent, 0) == pytest.approx(first + 2 * 2.2 + 0.8 + 6.4)
    assert latency_s(plan[::-1], spent, 0) == pytest.approx(
        4 + 2 * 2.2 + 0.8 + 6.4 + 4 + 2 * 4.4 + 2 * 0 + 1.6 + 4 + 6.4
    )


def test_background_load_slows_what_runs():
    slow, free = (times(scene(speed), demand(TINY, "paper", 0)).head[0] for speed in ((50.0, 200.0), (100.0, 200.0)))
    assert slow == 2 * free


def test_what_is_down_or_unlinked_is_no_place():
    asked = task(TINY, scene((100.0, 0.0)), "paper")
    assert objective_s(asked, np.array([[0, 1, 0, 0]])) == float("inf")
    cut = task(TINY, scene(rate=[[0, 0], [0, 0]]), "paper")
    assert objective_s(cut, np.array([[0, 0, 0, 0]])) < UNREACHABLE_S
    assert objective_s(cut, np.array([[0, 0, 0, 1]])) == float("inf")


def test_the_load_limit_is_the_work_of_a_token_within_the_interval():
    plan = np.zeros((1, 4), dtype=int)  # 2 * 440 + 160 + 1280 = 2320 FLOP on 100 FLOP/s
    assert fits(task(TINY, scene(), "paper", interval_s=23.2), plan)
    assert not fits(task(TINY, scene(), "paper", interval_s=23.1), plan)


def test_a_migration_is_weighed_against_the_horizon():
    plan, before = np.array([[1, 1, 1, 1]]), np.array([[0, 0, 0, 0]])
    now, later = (objective_s(task(TINY, scene(), "paper", before, horizon=k), plan) for k in (1, 10))
    assert now - later == pytest.approx((2 * 84 + 40 + 160) / 10 * 0.9)


def test_plans_have_names_outside_and_kinds():
    plan = np.array([[0, 1, 0, 2], [2, 2, 2, 2]])
    placement = named(plan, ("ue", "edge", "mec"))
    assert placement.layers[0].heads == ("ue", "edge") and placement.layers[0].proj == "ue"
    assert placement.layers[0].ffn == "mec" and (numbered(placement, ("ue", "edge", "mec")) == plan).all()
    found = [kind(plan), kind(plan[1:]), kind(plan[:1]), kind(np.array([[1, 1, 1], [0, 0, 0]]))]
    assert found == ["hybrid", "whole", "split", "pipeline"]


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"layers": 0}, {"width": 0}])
def test_a_model_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="tiny"):
        replace(TINY, **wrong)
