"""Training on GPUs, and the same on the CPU, so that what is asserted is known to hold where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STEPS = 4 * (14 // 4)
CLOSE = 1e-3
"""Of losses of about 1 that differ by nothing but the order of sums, on GPUs from run to run, a dozen steps long."""


@pytest.fixture(
    scope="module", params=[pytest.param("CPU", marks=pytest.mark.slow), pytest.param("GPU", marks=pytest.mark.gpu)]
)
def result(request, nuclei_records, tmp_path_factory) -> dict:
    """What device_runs.py writes; made once for each kind of device."""
    if request.param == "GPU":
        skip_without_gpu()
    folder = tmp_path_factory.mktemp("device")
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if request.param == "CPU" else {}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("device_runs.py"), request.param, nuclei_records, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | hidden,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text()) | {"device": request.param}


def skip_without_gpu() -> None:
    if not os.environ.get("TEST_GPU"):
        pytest.skip("GPUs are hidden from tests; make test-gpu shows them")
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow finds no GPU on this machine")


def losses(result: dict, name: str) -> np.ndarray:
    found = np.array(result["runs"][name]["losses"])
    assert found.shape == (STEPS,)
    assert np.isfinite(found).all()
    return found


def test_training_learns(result):
    one = losses(result, "one")
    assert one[-3:].mean() < one[:3].mean()


def test_sixteen_bit_learns_as_float32_does(result):
    policies = [name for name in result["runs"] if name.startswith("mixed")]
    if not policies:
        pytest.skip("this GPU has no 16-bit floats in hardware")
    for policy in policies:
        one, mixed = losses(result, "one"), losses(result, policy)
        assert not np.array_equal(mixed, one)  # it was on
        assert mixed[0] == pytest.approx(one[0], rel=0.01)
        # Loss scaling leaves out the first steps until gradients fit into float16, so single steps are no measure.
        assert mixed[-3:].mean() == pytest.approx(one[-3:].mean(), rel=0.03), policy


def test_all_devices_together_learn_as_one_does(result):
    if result["num_devices"] == 1:
        pytest.skip("there is one GPU only")
    np.testing.assert_allclose(losses(result, "all"), losses(result, "one"), rtol=0, atol=CLOSE)
    for one, every in zip(result["runs"]["one"]["history"], result["runs"]["all"]["history"], strict=True):
        assert every["val_loss"] == pytest.approx(one["val_loss"], abs=CLOSE)
        assert every["val_dice_per_image"] == pytest.approx(one["val_dice_per_image"], abs=0.02)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(result):
    np.testing.assert_allclose(losses(result, "resumed"), losses(result, "one"), rtol=0, atol=CLOSE)
    histories = [[row["val_loss"] for row in result["runs"][name]["history"]] for name in ("one", "resumed")]
    np.testing.assert_allclose(*histories, rtol=0, atol=CLOSE)


def test_batches_lie_on_their_devices_ahead_of_time(result):
    kind, count = result["device"], result["num_devices"]
    assert result["places"] == {"one": [f"{kind}:0"], "all": [f"{kind}:{index}" for index in range(count)]}
