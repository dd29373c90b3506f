"""Laws of probabilities averaged over symmetries and models."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from inference.averaging import SYMMETRIES, mean_probabilities, turn, turn_back
from inference.run import TrainedModel, combine
from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet
from tests.conftest import predictor_of

IMAGES = np.random.default_rng(0).integers(0, 256, [2, 8, 12, 1]).astype(np.uint8)


def made_run(seed: int, classes=("background", "nucleus"), **settings) -> TrainedModel:
    """Returns a run of random weights."""
    labels = Labels(len(classes))
    network = build_unet(ModelConfig(depth=1, filters=8), 1, labels, [128.0], [70.0], seed=seed)
    return TrainedModel(network, list(classes), 1, "uint8", "f", multiple=2, digest=f"digest{seed}", **settings)


@pytest.fixture(scope="module")
def runs() -> list[TrainedModel]:
    return [made_run(seed) for seed in range(3)]


def test_a_square_has_eight_symmetries_and_each_is_turned_back():
    turned = {turn(tf.constant(IMAGES[:, :, :8]), *symmetry).numpy().tobytes() for symmetry in SYMMETRIES}
    assert len(turned) == 8
    for symmetry in SYMMETRIES:
        back = turn_back(turn(tf.constant(IMAGES), *symmetry), *symmetry)
        np.testing.assert_array_equal(back, IMAGES)


def test_a_turn_is_numpys():
    for mirrored, turns in SYMMETRIES:
        expected = np.rot90(IMAGES[:, :, ::-1] if mirrored else IMAGES, turns, (1, 2))
        np.testing.assert_array_equal(turn(tf.constant(IMAGES), mirrored, turns), expected)


def test_the_mean_over_symmetries_turns_with_the_image(runs):
    trained = combine(runs[:1], ["a"], tta=True)
    plain = trained.probabilities(tf.constant(IMAGES))
    for symmetry in SYMMETRIES:
        turned = trained.probabilities(turn(tf.constant(IMAGES), *symmetry))
        np.testing.assert_allclose(turn_back(turned, *symmetry), plain, atol=1e-6)
    alone = runs[0].probabilities(turn(tf.constant(IMAGES), True, 1))
    assert np.abs(turn_back(alone, True, 1) - runs[0].probabilities(tf.constant(IMAGES))).max() > 1e-3


def test_means_as_computed_by_hand():
    def top(images):
        """Gives every pixel the value of its image's top left corner, which symmetries move."""
        return tf.ones_like(images) * images[:, :1, :1]

    images = tf.constant([[[[1.0], [2.0]], [[3.0], [10.0]]]])
    np.testing.assert_allclose(mean_probabilities([top], images, tta=False), np.full([1, 2, 2, 1], 1.0))
    # Of the eight symmetries each corner is the top left one of two.
    np.testing.assert_allclose(mean_probabilities([top], images, tta=True), np.full([1, 2, 2, 1], 4.0))
    np.testing.assert_allclose(mean_probabilities([top, lambda x: x], images, tta=False), (1 + images) / 2)


def test_an_ensemble_is_the_mean_of_its_runs_in_any_order(runs):
    names = ["a", "b", "c"]
    expected = np.mean([run.probabilities(tf.constant(IMAGES)) for run in runs], axis=0)
    one = combine(runs, names, tta=False)
    other = combine(runs[::-1], names, tta=False)
    np.testing.assert_allclose(one.probabilities(tf.constant(IMAGES)), expected, atol=1e-6)
    np.testing.assert_allclose(*(each.probabilities(tf.constant(IMAGES)) for each in (one, other)), atol=1e-6)
    assert one.digest == other.digest not in [run.digest for run in runs]
    mask = predictor_of(one).mask(IMAGES[0])
    np.testing.assert_array_equal(mask, (expected[0, :, :, 0] >= 0.5).astype(np.uint8))


def test_a_run_alone_is_itself(runs):
    assert combine(runs[:1], ["a"], tta=False) is runs[0]
    digests = {combine(runs[:count], "abc"[:count], tta).digest for count in (1, 2, 3) for tta in (False, True)}
    assert len(digests) == 6


def test_an_ensembles_images_must_suit_all_of_its_runs(runs):
    others = [dataclasses.replace(runs[0], multiple=4), dataclasses.replace(runs[1], multiple=6)]
    assert combine(others, ["a", "b"], tta=False).multiple == 12


def test_a_model_twice_is_no_ensemble(runs):
    with pytest.raises(ValueError, match="ensemble: expected different models, found that of c twice"):
        combine([*runs[:2], runs[0]], ["a", "b", "c"], tta=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["background", "ship"]}, "with classes .*nucleus.* and b with .*ship"),
        ({"crop": 64}, "with crop None and b with 64"),
        ({"channels": 3}, "with channels 1 and b with 3"),
        ({"task": "classify"}, "expected runs that segment, found b of --task classify"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(runs, changes, message):
    with pytest.raises(ValueError, match=message):
        combine([runs[0], dataclasses.replace(runs[1], **changes)], ["a", "b"], tta=False)
