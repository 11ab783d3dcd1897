import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import quantity as q


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (q.duration_us, "10ms", 10_000),
        (q.duration_us, "0s", 0),
        (q.duration_us, "1.5 min", 90_000_000),
        (q.rate_bps, "100Mbit", 100_000_000),
        (q.rate_bps, "2.5Gbit", 2_500_000_000),
        (q.size_bytes, "2GiB", 2 * 2**30),
        (q.size_bytes, "256kB", 256_000),
        (q.share_ppm, "50%", 500_000),
        (q.share_ppm, "0.01%", 100),
        (q.scale_ppm, "250%", 2_500_000),
        (q.period_us, "1/s", 1_000_000),
        (q.period_us, "30/min", 2_000_000),
        (q.period_us, "3/min", 20_000_000),
        (q.flops_per_s, "2TFLOPS", 2 * 10**12),
        (q.bytes_per_s, "60GB/s", 60 * 10**9),
        (q.jitter_us, "2s", 2_000_000),
        (q.framing_bytes, "0B", 0),
        (q.packets, "1packet", 1),
    ],
)
def test_suffixed_values_become_integers(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "value", "says"),
    [
        (q.duration_us, 10, "10 has no unit; write a duration like '10ms'"),
        (q.duration_us, "10", "10 has no unit"),
        (q.rate_bps, 1.5, "1.5 has no unit; write a rate like '100Mbit'"),
        (q.rate_bps, "100Mbps", "write '100Mbit'"),
        (q.rate_bps, "100MBIT", "write '100Mbit'"),
        (q.rate_bps, "0bit", "too little"),
        (q.rate_bps, True, "True is not a rate"),
        (q.rate_bps, None, "None is not a rate"),
        (q.duration_us, "-1ms", "must not be negative"),
        (q.duration_us, "1e3ms", "is not a duration"),
        (q.duration_us, "١ms", "is not a duration"),
        (q.duration_us, "9" * 500 + "s", "is not a duration"),
        (q.duration_us, "1ms; touch x", "is not a duration"),
        (q.duration_us, "nan s", "is not a duration"),
        (q.share_ppm, "100.1%", "at most 100%"),
        (q.period_us, "0/s", "is never"),
        (q.jitter_us, "2001ms", "too much for a jitter; at most 2s"),
        (q.framing_bytes, "1kB", "no unit 'kB'"),
        (q.packets, "0packets", "too little"),
        (q.queue, 50, "write one like '50packets', '100ms' or '256KiB'"),
    ],
)
def test_errors_say_what_would_be_right(parse, value, says):
    with pytest.raises(q.QuantityError) as caught:
        parse(value)
    assert says in str(caught.value)


def test_a_queue_keeps_the_unit_of_its_author():
    assert q.queue("50packets").packets(10**9) == 50
    assert q.queue("100ms").packets(12_000_000) == 100
    assert q.queue("1500B").packets(1) == 1
    assert q.queue("1501B").packets(1) == 2


@given(st.integers(1, 10**12))
def test_what_is_shown_is_near_what_was_meant(rate):
    assert abs(q.rate_bps(q.show_rate(rate)) - rate) <= rate * 0.005 + 1


@given(st.text(max_size=60))
def test_any_text_is_a_quantity_or_a_named_error(text):
    for parse in (q.duration_us, q.rate_bps, q.size_bytes, q.share_ppm, q.period_us, q.queue):
        try:
            parse(text)
        except q.QuantityError as fault:
            assert len(str(fault)) < 300
