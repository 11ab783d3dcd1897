"""A direction with few probes: one outlier is allowed where a second look would have shown more."""

import pytest

from testbed.fidelity.delays import Probed
from testbed.fidelity.measured import judged_error_us


@pytest.mark.parametrize(
    ("errors_us", "judged_us"),
    [
        ([7], 7),
        ([1, -7], 7),
        ([1, 7, 2], 2),
        ([1, 7, -6], 6),
        ([*[1] * 16, 5, 6, 7], 6),
        ([*[1] * 17, 5, 6, 7], 6),  # 20: the p95 leaves out one in twenty
        ([*[1] * 38, 6, 7], 1),
        ([1, float("inf"), 2], 2),
        ([1, float("inf"), float("inf")], float("inf")),
    ],
)
def test_a_direction_is_judged_by_what_its_number_of_probes_can_tell(errors_us, judged_us):
    probes = [Probed("radio", "up", t_us, 5000.0, error_us) for t_us, error_us in enumerate(errors_us)]
    assert judged_error_us(probes) == judged_us
