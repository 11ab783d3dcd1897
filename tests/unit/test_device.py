import threading

import pytest

from nodes.clock import MonotonicClock, Timer
from nodes.device import Device, Job, Memory, MemoryRefused, Processor

GIGA = 10**9


def test_time_is_flops_over_speed():
    processor = Processor(GIGA)
    processor.begin(50_000_000, 1_000)
    assert processor.end_us() == 51_000
    processor.waiting_flops = 10_000_000
    assert processor.queue_us(now_us=21_000) == 40_000


def test_a_change_of_load_applies_to_what_is_left():
    processor = Processor(GIGA)
    processor.begin(100_000_000, 0)  # 100 ms alone
    processor.set_load(500_000, now_us=40_000)  # 60 ms of work left at half the speed
    assert processor.end_us() == 160_000
    processor.set_load(0, now_us=100_000)  # 30 ms left
    assert processor.end_us() == 130_000


def test_load_before_a_job_and_full_load():
    processor = Processor(GIGA)
    processor.set_load(750_000, 0)
    processor.begin(1_000_000, 10)
    assert processor.end_us() == 4_010
    processor.set_load(1_000_000, 10)
    assert processor.end_us() > 10**9
    with pytest.raises(ValueError, match="1000001 ppm"):
        processor.set_load(1_000_001, 10)


def test_time_is_rounded_up_and_speed_must_be_positive():
    processor = Processor(3)
    processor.begin(1, 0)
    assert processor.end_us() == 333_334
    with pytest.raises(ValueError, match="more than nothing"):
        Processor(0)


def test_a_block_is_counted_once():
    memory = Memory("mec", 1_000)
    memory.hold(("vit", 0, 2), {0: 100, 1: 200}, 50)
    memory.hold(("vit", 1, 3), {1: 200, 2: 300}, 40)
    memory.hold(("vit", 1, 3), {1: 200, 2: 300}, 40)
    assert memory.used_bytes == 100 + 200 + 300 + 50
    memory.drop(("vit", 0, 2))
    assert memory.used_bytes == 200 + 300 + 40
    memory.drop(("vit", 0, 2))
    memory.drop(("vit", 1, 3))
    assert memory.used_bytes == 0


def test_a_refusal_names_node_need_and_free():
    memory = Memory("edge1", 1_000)
    memory.hold(("vit", 0, 1), {0: 900}, 0)
    with pytest.raises(MemoryRefused, match=r"edge1: vit\[1:2\] needs 150 bytes, 100 are free"):
        memory.hold(("vit", 1, 2), {1: 120}, 30)
    memory.take("request 1", 100)
    with pytest.raises(MemoryRefused, match="request 2 needs 1 bytes, 0 are free"):
        memory.take("request 2", 1)
    memory.give(100)
    assert memory.used_bytes == 900


class Ends:
    def __init__(self, expected):
        self.list, self.event, self.expected = [], threading.Event(), expected

    def job(self, flops, arrival_us, name):
        return Job(flops, arrival_us, lambda: name, self.done)

    def done(self, start_us, end_us, late_us, result):
        self.list.append((result, start_us, end_us, late_us))
        if len(self.list) == self.expected:
            self.event.set()


@pytest.fixture
def clock():
    return MonotonicClock(MonotonicClock().now_us())


def test_jobs_run_in_order_back_to_back(clock):
    device, ends = Device(GIGA, clock), Ends(3)
    now_us = clock.now_us()
    for name in "abc":
        device.submit(ends.job(20_000_000, now_us, name))
    assert device.state()[1] > 20_000
    assert ends.event.wait(5)
    assert [name for name, *_ in ends.list] == ["a", "b", "c"]
    for (_, _, end_us, _), (_, start_us, _, _) in zip(ends.list, ends.list[1:], strict=False):
        assert start_us == end_us
    assert clock.now_us() >= now_us + 60_000
    assert device.state()[1:3] == (0, 0)
    device.close()


def test_a_change_of_load_wakes_the_device(clock):
    device, ends = Device(1000, clock), Ends(1)
    device.set_load(999_999)
    device.submit(ends.job(1, clock.now_us(), "slow"))  # 1000 s at this load, 1 ms without
    device.set_load(0)
    assert ends.event.wait(5)
    device.close()


def test_a_late_run_is_an_overrun_and_moves_the_end(clock):
    device, ends = Device(GIGA, clock), Ends(1)
    slow = ends.job(1_000, clock.now_us(), "late")
    device.submit(Job(slow.flops, slow.arrival_us, lambda: clock.sleep_until(clock.now_us() + 5_000), slow.done))
    assert ends.event.wait(5)
    [(_, start_us, end_us, late_us)] = ends.list
    assert late_us >= 4_999 and end_us - start_us == 1 + late_us
    device.close()


def test_cleared_work_ends_in_silence(clock):
    device, ends = Device(1, clock), Ends(1)
    device.submit(ends.job(1_000, clock.now_us(), "lost"))
    device.submit(ends.job(1_000, clock.now_us(), "lost too"))
    device.clear()
    device.submit(ends.job(0, clock.now_us(), "kept"))
    assert ends.event.wait(5)
    assert [name for name, *_ in ends.list] == ["kept"]
    device.close()


def test_the_timer_calls_in_order_of_time(clock):
    timer, called, ready = Timer(clock), [], threading.Event()
    now_us = clock.now_us()
    timer.at(now_us + 30_000, lambda: (called.append("late"), ready.set()))
    timer.at(now_us + 10_000, lambda: called.append("early"))
    timer.at(now_us + 20_000, lambda: called.append("cancelled")).cancel()
    assert ready.wait(5)
    assert called == ["early", "late"]
    timer.close()
