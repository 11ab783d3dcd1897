"""AMP4EC's layer cost of the families."""

from nodes.costing.layercost import formula_costs
from nodes.costing.profile import profile


def test_mobilenets_stem_costs_as_the_papers_formula_says() -> None:
    """3x3 from 3 to 32 channels, depthwise 3x3 as a full one, pointwise 32 to 16, two parameters a norm's channel."""
    assert formula_costs("mobilenet_v2")[0] == (9 * 3 * 32 + 2 * 32) + (9 * 32 * 32 + 2 * 32) + (32 * 16 + 2 * 16)
    assert len(formula_costs("mobilenet_v2")) == len(profile("mobilenet_v2").units)


def test_a_transformers_layers_cost_their_parameters() -> None:
    assert formula_costs("vit_b16")[1] * 4 == profile("vit_b16").units[1].weight_bytes
