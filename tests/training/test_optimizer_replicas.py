"""The updater on one replica against two logical CPU devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # a minute

CASES = ["adam", "adamw with all", "lamb with all", "swa"]


@pytest.fixture(scope="module")
def results() -> dict:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("two_updaters.py")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def assert_close(found, expected, tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_replicas_compute_what_one_device_does(results, name):
    one, two = results[f"{name}/1"], results[f"{name}/2"]
    assert len(set(one["losses"])) == 6
    for part in ("losses", "raw", "averaged"):
        assert_close(two[part], one[part], 1e-5)


@pytest.mark.parametrize("name", CASES[1:])
def test_averages_are_other_weights(results, name):
    assert not np.allclose(results[f"{name}/2"]["raw"][0], results[f"{name}/2"]["averaged"][0], atol=1e-4)


def test_an_overflow_on_one_replica_is_skipped_on_all(results):
    one, two = results["overflow/1"], results["overflow/2"]
    for found in (one, two):
        assert np.isnan(found["losses"]).tolist() == [False, False, True, False, False, False]
    for part in ("raw", "averaged"):
        assert_close(two[part], one[part], 1e-5)


def test_float16_trains_on_replicas_as_on_one_device(results):
    one, two = results["float16/1"], results["float16/2"]
    for part in ("losses", "raw", "averaged"):
        assert_close(two[part], one[part], 5e-3)


@pytest.mark.parametrize("name", ["adamw with all", "lamb with all"])
def test_a_resumed_run_on_replicas_is_an_uninterrupted_one(results, name):
    found = results[f"resume {name}"]
    for one, other in zip(found["resumed"], found["straight"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("replicas", [1, 2])
def test_statistics_are_means_over_batches_and_replicas(results, replicas):
    found = results[f"statistics/{replicas}"]
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32) + 0.1  # the mean of three batches
    np.testing.assert_allclose(found["mean"], (x @ found["kernel"] + found["bias"]).mean(0), rtol=0, atol=5e-3)


@pytest.mark.parametrize("replicas", [1, 2])
def test_every_replica_gets_its_own_values_back(results, replicas):
    found = results[f"statistics/{replicas}"]
    for one, other in zip(found["after"], found["before"], strict=True):
        np.testing.assert_array_equal(one, other)
