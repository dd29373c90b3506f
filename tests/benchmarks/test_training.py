"""What the benchmark of training makes of its measurements."""

import itertools
import time

from benchmarks.steps import Measured, time_round
from benchmarks.training import results_table, verdict


def cells(table) -> list[list[str]]:
    return [list(column.cells) for column in table.columns]


def test_the_table_has_milliseconds_rates_and_ratios():
    table = results_table(Measured(constant=0.1, records=0.125, waiting=0.01, alone=0.05), 16, "title")
    names, milliseconds, rates, ratios = cells(table)
    assert names == ["one constant batch on the device", "batches from records", "the same batches, no model"]
    assert milliseconds == ["100.0", "125.0", "50.0"]
    assert rates == ["160.0", "128.0", "320.0"]
    assert ratios == ["1.000", "0.800", "2.000"]


def test_fast_input_leaves_the_model_as_the_limit():
    assert "The model is the limit" in verdict(Measured(0.1, 0.103, 0.0, 0.02), cores=2)


def test_slow_decoding_is_the_limit_and_the_cores_that_would_do_are_told():
    text = verdict(Measured(constant=0.1, records=0.4, waiting=0.3, alone=0.4), cores=2)
    assert "Decoding is the limit" in text
    assert "About 8 such cores" in text


def test_input_that_only_shares_the_cores_is_told_as_such():
    text = verdict(Measured(constant=0.1, records=0.12, waiting=0.03, alone=0.02), cores=2)
    assert "share the cores" in text
    assert "0.833" in text
    assert "25% is waiting" in text


def test_waiting_for_batches_is_told_apart_from_the_step():
    def slow_batches():
        for number in itertools.count():
            time.sleep(0.03)
            yield number

    def step(batch):
        time.sleep(0.01)
        return 0.0

    found = time_round(step, -1, slow_batches(), count=5, settling=2)
    # Sleep may last longer on a busy machine, never shorter.
    assert found.constant >= 0.01
    assert 0.03 <= found.waiting <= found.records - 0.01
    assert found.alone >= 0.03
