"""One replica against two logical CPU devices."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
TIMINGS = {"images_per_second", "input_wait"}


NAMES = ["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("augmented", "overlapping", "classify"))]


@pytest.fixture(scope="module")
def run(nuclei_records, tmp_path_factory) -> Callable[[str], tuple[dict, Path]]:
    """Returns a function from the name of a run to (its result.json, its folder)."""

    @functools.cache
    def of(name: str) -> tuple[dict, Path]:
        folder = tmp_path_factory.mktemp(name)
        script = Path(__file__).with_name("two_replicas.py")
        done = subprocess.run(
            [sys.executable, script, nuclei_records, folder, name],
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((folder / "result.json").read_text()), folder

    return of


@pytest.mark.parametrize("name", NAMES)
def test_step_losses_do_not_depend_on_the_number_of_replicas(run, name):
    result, _ = run(name)
    one, two = (result["losses"][f"{name}-{count}"] for count in (1, 2))
    # 14 training examples in batches of 4, twice; as many of two folds.
    assert len(one) == len(two) == 6
    assert len(set(one)) == 6
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)


def test_a_run_begun_on_two_replicas_goes_on_on_one_and_says_so(run):
    result, _ = run("plain")
    losses, told = result["moved"]["losses"], result["moved"]["told"]
    np.testing.assert_allclose(list(losses.values()), result["losses"]["plain-1"], rtol=0, atol=1e-5)
    (line,) = (index for index, line in enumerate(told) if "begun on other devices (replicas: 2 there, 1 here)" in line)
    assert "going on from epoch 2, step 2 " in told[line - 1]


@pytest.mark.slow
def test_augmentation_was_on(run):
    plain, augmented = (run(name)[0]["losses"][f"{name}-1"] for name in ("plain", "augmented"))
    assert not np.allclose(plain, augmented, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_epoch_scores_do_not_depend_on_the_number_of_replicas(run, name):
    result, _ = run(name)
    # The last validation batch holds one image and three of padding: the second replica gets padding alone.
    for one, two in zip(result["history"][f"{name}-1"], result["history"][f"{name}-2"], strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - TIMINGS:
            # A pixel at the threshold may fall on either side.
            assert two[key] == pytest.approx(one[key], abs=1e-5 if "loss" in key else 1e-3), key


@pytest.mark.slow
def test_batch_norm_dropout_and_noise_train_on_two_replicas(run):
    result, folder = run("random")
    losses = result["losses"]["random-2"]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert (folder / "random-2" / "model.keras").is_file()


@pytest.mark.parametrize("name", ["eval", "gated"])
def test_evaluation_depends_neither_on_batch_size_nor_on_replicas(run, name):
    result, folder = run("plain")
    expected = result["metrics"][f"{name}-1-1"]
    assert expected["num_examples"] == 14
    assert 0 < expected.get("num_cleared", 7) < 14
    assert 0 < expected["dice_pooled"] < 1
    tables = []
    for count in (1, 2):
        for batch_size in (1, 7, 32):
            found = result["metrics"][f"{name}-{count}-{batch_size}"]
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert found[key] == pytest.approx(value, abs=1e-5), (key, count, batch_size)
            table = pd.read_csv(folder / f"{name}-{count}-{batch_size}" / "per_image.csv")
            tables.append(table.sort_values("source_id", ignore_index=True))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], atol=1e-5)
