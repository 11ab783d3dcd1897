"""The modelled processor in plain numbers, then the threads that live by it."""

import threading
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.clock import MonotonicClock, Timer
from nodes.compute.device import Job, batches, device_of
from nodes.compute.processor import Processor, Sharing, Speed
from nodes.slices import Work

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
        Speed(0)


def test_a_block_takes_as_long_as_the_slower_of_processor_and_memory():
    speed = Speed(GIGA, GIGA // 10)  # ten operations go by while a byte is read
    assert speed.effort([(Work(1_000, 50, 50),)]) == 1_000
    assert speed.effort([(Work(1_000, 150, 50),)]) == 2_000
    assert speed.effort([(Work(1_000, 50, 50), Work(0, 150, 50))]) == 3_000  # one block after another
    assert Speed(GIGA).effort([(Work(1_000, 10**9, 10**9),)]) == 1_000  # no bandwidth is known


def test_a_batch_that_memory_holds_up_is_nearly_free_and_one_that_computes_is_not():
    speed = Speed(GIGA, GIGA)
    reading, computing = (Work(10, 1_000, 5),), (Work(1_000, 10, 5),)
    assert speed.effort([reading] * 8) == 1_040
    assert speed.effort([computing] * 8) == 8_000
    assert speed.effort([reading] * 200) == 2_000  # 200 times 10 operations or 1000 + 200 times 5 bytes
    assert speed.effort([reading] * 300) == 3_000  # now it computes


def test_shared_jobs_have_equal_parts_of_the_time():
    sharing = Sharing(GIGA)
    sharing.begin("long", 30_000_000, 0)  # 30 ms alone
    sharing.begin("short", 10_000_000, 10_000)
    assert sharing.next_end_us() == 30_000  # 10 ms of work at half the speed
    assert sharing.queue_us(20_000) == 20_000
    assert sharing.ended(60_000) == [("short", 30_000), ("long", 40_000)]
    assert (sharing.busy_us, sharing.next_end_us(), len(sharing)) == (40_000, None, 0)


def test_a_change_of_load_applies_to_what_is_left_of_all_shared_jobs():
    sharing = Sharing(GIGA)
    for job in "ab":
        sharing.begin(job, 10_000_000, 0)
    sharing.set_load(500_000, 10_000)  # 5 ms of work left of each, at a quarter of the speed
    assert sharing.next_end_us() == 30_000
    sharing.set_load(0, 20_000)
    assert sharing.ended(25_000) == [("a", 25_000), ("b", 25_000)]


def test_what_ended_before_a_job_came_does_not_slow_it_down():
    sharing = Sharing(GIGA)
    sharing.begin("early", 1_000_000, 0)
    sharing.begin("late", 1_000_000, 5_000)
    assert sharing.ended(10_000) == [("early", 1_000), ("late", 6_000)]


def test_time_zero_may_be_set_while_nothing_is_shared():
    sharing = Sharing(GIGA)
    assert sharing.queue_us(10**12) == 0  # asked before the experiment begins
    sharing.begin("first", 1_000_000, 0)
    assert sharing.ended(1_000) == [("first", 1_000)]


def test_shared_jobs_that_are_cleared_never_end():
    sharing = Sharing(GIGA)
    sharing.begin("lost", 1_000_000, 0)
    sharing.clear(500)
    sharing.begin("kept", 1_000_000, 500)
    assert sharing.ended(10**6) == [("kept", 1_500)]


def test_what_is_shared_takes_as_long_in_all_as_one_after_another():
    efforts = [7_000_000, 1_000_000, 12_000_000, 500_000]
    sharing = Sharing(GIGA)
    for i, effort in enumerate(efforts):
        sharing.begin(i, effort, 1_000 * i)
    ended = sharing.ended(10**9)
    assert max(end_us for _, end_us in ended) == pytest.approx(sum(efforts) / 1_000, abs=len(efforts))
    assert [job for job, _ in ended] == [1, 3, 0, 2]


def fluid(jobs, loads):
    """The ends by another way: floating point, from one change to the next. `loads`: (time, share left)."""
    t, rate, ends, live, waiting = 0.0, 1.0, {}, {}, sorted(enumerate(jobs), key=lambda job: job[1])
    changes = sorted(loads)
    while waiting or live:
        first = min(live, key=live.get, default=None)
        end = t + live[first] * len(live) / (1_000 * rate) if live else float("inf")
        arrival = waiting[0][1][0] if waiting else float("inf")
        change = changes[0][0] if changes else float("inf")
        now = min(end, arrival, change)
        for job in live:
            live[job] -= (now - t) * 1_000 * rate / len(live)
        t = now
        if now == end:
            ends[first] = now
            del live[first]
        elif now == arrival:
            job, (_, effort) = waiting.pop(0)
            live[job] = float(effort)
        else:
            rate = changes.pop(0)[1]
    return ends


TIMES = st.integers(0, 50_000)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(TIMES, st.integers(1_000, 20_000_000)), min_size=1, max_size=8),
    st.lists(st.tuples(TIMES, st.sampled_from([1.0, 0.75, 0.5, 0.25])), max_size=3, unique_by=lambda load: load[0]),
)
def test_shared_jobs_end_when_a_fluid_would(jobs, loads):
    sharing, asked = Sharing(GIGA), []
    for t_us, left in loads:
        asked.append((t_us, 0, partial(sharing.set_load, round((1 - left) * 1e6), t_us)))
    for i, (t_us, effort) in enumerate(jobs):
        asked.append((t_us, 1, partial(sharing.begin, i, effort, t_us)))
    for _, _, do in sorted(asked, key=lambda one: one[:2]):
        do()
    slowest = min([1.0, *(left for _, left in loads)])  # a microsecond of rounding at full speed is 1 / slowest later
    assert dict(sharing.ended(10**9)) == pytest.approx(fluid(jobs, loads), abs=(2 + len(jobs)) / slowest)


def test_jobs_run_together_if_they_are_alike_in_the_order_of_their_first():
    jobs = [
        Job((), i, int, print, alike, limit) for i, (alike, limit) in enumerate(zip("abaaba", [2] * 6, strict=True))
    ]
    assert [[job.arrival_us for job in together] for together in batches(jobs)] == [[0, 2], [1, 4], [3, 5]]
    uneven = [Job((Work(1),) * blocks, blocks, int, print, "a", 9) for blocks in (3, 2, 3)]
    assert [[job.arrival_us for job in together] for together in batches(uneven)] == [[3, 3], [2]]
    alone = [Job((), i, int, print, "a") for i in range(3)]
    assert [[job.arrival_us for job in together] for together in batches(alone)] == [[0], [1], [2]]


class Ends:
    def __init__(self, expected):
        self.list, self.event, self.expected = [], threading.Event(), expected

    def job(self, flops, arrival_us, name):
        return Job((Work(flops),), arrival_us, lambda: name, self.done)

    def done(self, start_us, end_us, late_us, result):
        self.list.append((result, start_us, end_us, late_us))
        if len(self.list) == self.expected:
            self.event.set()


@pytest.fixture
def clock():
    return MonotonicClock(MonotonicClock().now_us())


def test_jobs_run_in_order_back_to_back(clock):
    device, ends = device_of("fifo", Speed(GIGA), clock), Ends(3)
    now_us = clock.now_us()
    for name in "abc":
        device.submit(ends.job(20_000_000, now_us, name))
    assert device.state()[1] > 20_000
    assert ends.event.wait(60)
    assert [name for name, *_ in ends.list] == ["a", "b", "c"]
    for (_, _, end_us, _), (_, start_us, _, _) in zip(ends.list, ends.list[1:], strict=False):
        assert start_us == end_us
    assert clock.now_us() >= now_us + 60_000
    assert device.state()[1:3] == (0, 0)
    device.close()


def test_a_change_of_load_wakes_the_device(clock):
    device, ends = device_of("fifo", Speed(1000), clock), Ends(1)
    device.set_load(999_999)
    device.submit(ends.job(1, clock.now_us(), "slow"))  # 1000 s at this load, 1 ms without
    device.set_load(0)
    assert ends.event.wait(60)
    device.close()


def test_a_late_run_is_an_overrun_and_moves_the_end(clock):
    device, ends = device_of("fifo", Speed(GIGA), clock), Ends(1)
    slow = ends.job(1_000, clock.now_us(), "late")
    device.submit(Job(slow.work, slow.arrival_us, lambda: clock.sleep_until(clock.now_us() + 5_000), slow.done))
    assert ends.event.wait(60)
    [(_, start_us, end_us, late_us)] = ends.list
    assert late_us >= 4_999 and end_us - start_us == 1 + late_us
    device.close()


def test_cleared_work_ends_in_silence(clock):
    device, ends = device_of("fifo", Speed(1), clock), Ends(1)
    device.submit(ends.job(1_000, clock.now_us(), "lost"))
    device.submit(ends.job(1_000, clock.now_us(), "lost too"))
    device.clear()
    device.submit(ends.job(0, clock.now_us(), "kept"))
    assert ends.event.wait(60)
    assert [name for name, *_ in ends.list] == ["kept"]
    device.close()


def test_shared_jobs_end_by_the_model(clock):
    device, ends = device_of("ps", Speed(GIGA), clock), Ends(3)
    now_us = clock.now_us() + 20_000  # ahead, so that all have been computed
    for name, flops in (("a", 30_000_000), ("b", 10_000_000), ("c", 20_000_000)):
        device.submit(ends.job(flops, now_us, name))
    assert device.state()[2] == 3
    assert ends.event.wait(60)
    assert ends.list == [
        ("b", now_us, now_us + 30_000, 0),
        ("c", now_us, now_us + 50_000, 0),
        ("a", now_us, now_us + 60_000, 0),
    ]
    assert device.state() == (0, 0, 0, 60_000)
    device.close()


def test_a_late_run_of_a_shared_job_is_an_overrun(clock):
    device, ends = device_of("ps", Speed(GIGA), clock), Ends(1)
    slow = ends.job(1_000, clock.now_us(), "late")
    device.submit(Job(slow.work, slow.arrival_us, lambda: clock.sleep_until(clock.now_us() + 5_000), slow.done))
    assert ends.event.wait(60)
    [(_, start_us, end_us, late_us)] = ends.list
    assert late_us >= 4_990 and end_us - start_us == 1 + late_us
    device.close()


def test_cleared_shared_work_ends_in_silence(clock):
    device, ends = device_of("ps", Speed(1000), clock), Ends(1)
    device.submit(ends.job(1_000, clock.now_us(), "lost"))
    device.clear()
    device.submit(ends.job(1, clock.now_us(), "kept"))
    assert ends.event.wait(60)
    assert [name for name, *_ in ends.list] == ["kept"]
    device.close()


def test_waiting_requests_of_a_slice_run_together_and_each_is_computed_by_itself(clock):
    device, ends, computed = device_of("fifo", Speed(GIGA, GIGA), clock), Ends(5), []
    arrival_us = clock.now_us()

    def job(name, alike, batch):
        work = (Work(1_000, 20_000_000, 100_000),)  # 20.1 ms of reading
        return Job(work, arrival_us, lambda: computed.append(name) or name, ends.done, alike, batch)

    with device._condition:  # all are there when the device looks
        for name, alike in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")):
            device.submit(job(name, alike, 3))
        assert device.state()[1:3] == (20_300 + 20_200, 5)
    assert ends.event.wait(60)
    first, second = arrival_us, arrival_us + 20_300
    late = [end[3] for end in ends.list]
    assert [(name, start_us) for name, start_us, *_ in ends.list] == [
        *((name, first) for name in ("a1", "a2", "a3")),
        *((name, second + late[0]) for name in ("b1", "b2")),
    ]
    assert computed == ["a1", "a2", "a3", "b1", "b2"]
    assert ends.list[-1][2] == second + late[0] + 20_200 + late[-1]
    device.close()


def test_where_compute_is_not_modelled_a_job_takes_what_it_takes(clock):
    device, ends = device_of("fifo", Speed(1), clock, modelled=False), Ends(1)
    device.submit(ends.job(10**9, clock.now_us(), "fast"))  # 31 years by the model
    assert ends.event.wait(60)
    [(_, start_us, end_us, late_us)] = ends.list
    assert late_us == 0 and start_us <= end_us <= clock.now_us()
    device.close()


def test_the_timer_calls_in_order_of_time(clock):
    timer, called, ready = Timer(clock), [], threading.Event()
    now_us = clock.now_us()
    timer.at(now_us + 30_000, lambda: (called.append("late"), ready.set()))
    timer.at(now_us + 10_000, lambda: called.append("early"))
    timer.at(now_us + 20_000, lambda: called.append("cancelled")).cancel()
    assert ready.wait(60)
    assert called == ["early", "late"]
    timer.close()
