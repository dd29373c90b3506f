"""One thread, one model, many requests."""

import contextlib
import threading
import time

import pytest

from serving.batcher import Batcher


class Model:
    """Doubles numbers; remembers its batches. `gate` holds it up; of "bad" it fails."""

    def __init__(self):
        self.batches: list[list] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, parts):
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(list(parts))
        if "bad" in parts:
            raise ValueError("a bad part")
        return [2 * part for part in parts]


@contextlib.contextmanager
def batcher_of(model, most=4, delay_s=0.0, prepare=lambda: None):
    sizes = []
    batcher = Batcher(model, most, delay_s, prepare, sizes.append)
    batcher.start()
    try:
        yield batcher, sizes
    finally:
        model.gate.set()
        batcher.close()


@contextlib.contextmanager
def held(model, batcher):
    """The model is at work on a batch of [0] until this is left, so that all else waits."""
    model.gate.clear()
    first = batcher.submit(iter([0]), 1)
    assert model.entered.wait(10)
    yield
    model.gate.set()
    assert first.result(10) == [0]


def test_what_waits_together_is_one_call_of_the_model():
    model = Model()
    with batcher_of(model) as (batcher, sizes):
        with held(model, batcher):
            futures = [batcher.submit(iter([number]), 1) for number in (1, 2, 3)]
            assert batcher.waiting == 3
        assert [future.result(10) for future in futures] == [[2], [4], [6]]
        assert model.batches == [[0], [1, 2, 3]]
        assert sizes == [1, 3]
        assert batcher.waiting == 0


def test_a_large_image_takes_turns_with_small_ones():
    model = Model()
    with batcher_of(model, most=2) as (batcher, _):
        with held(model, batcher):
            large = batcher.submit(iter(range(10, 15)), 5)
            small = batcher.submit(iter([1]), 1)
        assert small.result(10) == [2]
        assert large.result(10) == [20, 22, 24, 26, 28]
        assert model.batches[1:] == [[10, 1], [11, 12], [13, 14]]


def test_a_lonely_part_waits_for_others_but_not_for_long():
    model = Model()
    with batcher_of(model, delay_s=0.3) as (batcher, _):
        start = time.monotonic()
        futures = [batcher.submit(iter([1]), 1)]
        time.sleep(0.05)
        futures.append(batcher.submit(iter([2]), 1))
        assert [future.result(10) for future in futures] == [[2], [4]]
        assert model.batches == [[1, 2]]
        assert 0.3 <= time.monotonic() - start < 5


def test_a_full_batch_does_not_wait():
    model = Model()
    with batcher_of(model, most=2, delay_s=60) as (batcher, _):
        futures = [batcher.submit(iter([number]), 1) for number in (1, 2)]
        assert [future.result(10) for future in futures] == [[2], [4]]


def test_only_who_is_at_fault_fails():
    model = Model()
    with batcher_of(model) as (batcher, _):
        with held(model, batcher):
            good, bad, other = (batcher.submit(iter([part]), 1) for part in (1, "bad", 2))
        assert (good.result(10), other.result(10)) == ([2], [4])
        with pytest.raises(ValueError, match="a bad part"):
            bad.result(10)
        assert batcher.submit(iter([3]), 1).result(10) == [6]


def test_parts_that_cannot_be_made_fail_alone():
    def broken():
        yield 1
        raise OSError("no more")

    model = Model()
    with batcher_of(model) as (batcher, _):
        with held(model, batcher):
            bad, good = batcher.submit(broken(), 4), batcher.submit(iter([5, 6]), 2)
        assert good.result(10) == [10, 12]
        with pytest.raises(OSError, match="no more"):
            bad.result(10)
        assert batcher.waiting == 0


def test_what_nobody_waits_for_is_dropped():
    model = Model()
    with batcher_of(model) as (batcher, _):
        with held(model, batcher):
            gone, stays = batcher.submit(iter([7, 8]), 2), batcher.submit(iter([1]), 1)
            assert gone.cancel()
            assert batcher.waiting == 1
        assert stays.result(10) == [2]
        assert model.batches == [[0], [1]]


def test_closing_finishes_what_was_submitted_and_takes_no_more():
    model = Model()
    with batcher_of(model, delay_s=60) as (batcher, _):
        futures = [batcher.submit(iter([number]), 1) for number in (1, 2)]
        batcher.close()
        assert [future.result(0) for future in futures] == [[2], [4]]
        assert not batcher.is_alive
        with pytest.raises(RuntimeError, match="closed"):
            batcher.submit(iter([1]), 1)


def test_a_model_that_does_not_warm_up_is_known():
    def fail():
        raise MemoryError("too large")

    with batcher_of(Model(), prepare=fail) as (batcher, _), pytest.raises(MemoryError, match="too large"):
        batcher.ready.result(10)
