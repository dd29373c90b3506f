import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.losses import boundary
from model.losses.boundary import boundary_distances, squared_distances
from tests.model.loss_examples import BINARY, THREE, ignored, random_example


def plain_squared_distances(seeds: np.ndarray) -> np.ndarray:
    """From every pixel to every seed of one map [height, width]; infinite without seeds."""
    points = np.argwhere(seeds)
    pixels = np.argwhere(np.ones_like(seeds))
    squares = ((pixels[:, None] - points[None]) ** 2).sum(-1).astype(float)
    return np.min(squares, axis=1, initial=np.inf).reshape(seeds.shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 999))
def test_distances_equal_the_least_over_all_seeds(height, width, share, seed):
    seeds = np.random.default_rng(seed).random([2, height, width, 2]) < share
    found = squared_distances(tf.constant(seeds)).numpy()
    for index in np.ndindex(2, 2):
        where = np.s_[index[0], :, :, index[1]]
        expected = plain_squared_distances(seeds[where])
        np.testing.assert_array_equal(found[where], np.where(np.isfinite(expected), expected, 0))


def test_distances_across_a_large_image_are_exact():
    seeds = np.zeros([1, 300, 900, 1], bool)
    seeds[0, 3, 5, 0] = True
    rows, columns = np.mgrid[:300, :900]
    found = squared_distances(tf.constant(seeds))[0, :, :, 0]
    np.testing.assert_array_equal(found, (rows - 3) ** 2 + (columns - 5) ** 2)


def test_distances_to_the_boundary_of_a_bar():
    inside = np.array([0, 0, 0, 1, 1, 1, 1, 0], bool).reshape(1, 1, 8, 1)
    found = boundary_distances(tf.constant(inside), tf.constant(~inside))
    np.testing.assert_array_equal(found[0, 0, :, 0], [2.5, 1.5, 0.5, 0.5, 1.5, 1.5, 0.5, 0.5])
    reached = boundary_distances(tf.constant(inside), tf.constant(~inside), reach=1)
    np.testing.assert_array_equal(reached[0, 0, :, 0], [1, 1, 0.5, 0.5, 1, 1, 0.5, 0.5])


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 20), st.floats(0, 1), st.integers(0, 999))
def test_a_reach_cuts_distances_off_and_changes_no_others(reach, share, seed):
    inside = np.random.default_rng(seed).random([2, 9, 12, 1]) < share**3
    whole = boundary_distances(tf.constant(inside), tf.constant(~inside))
    found = boundary_distances(tf.constant(inside), tf.constant(~inside), reach)
    np.testing.assert_allclose(found, np.minimum(whole, reach), rtol=1e-6)


def test_distances_are_measured_between_valid_pixels():
    # The pixel between object and background is ignored: the boundary lies 1 1/2 pixels from either.
    masks = ignored(BINARY, np.array([[[1, 0, 0]]], np.uint8), np.s_[0, 0, 1])
    logits = tf.zeros([1, 1, 3, 1])
    np.testing.assert_allclose(boundary(BINARY, tf.constant(masks), logits), [(1.5 * 0.5 + 1.5 * 0.5) / 2])


def test_the_gradient_is_that_of_the_signed_distance_times_the_probability():
    masks, logits = random_example(THREE, 0, 2, 7, 6)
    targets = THREE.targets(tf.constant(masks))[0].numpy()
    signed = np.empty_like(targets)
    for index in np.ndindex(2, 3):
        truth = targets[index[0], :, :, index[1]] > 0
        outside, inside = (np.sqrt(plain_squared_distances(kind)) - 0.5 for kind in (truth, ~truth))
        signed[index[0], :, :, index[1]] = np.where(truth, -inside, outside)
    logits = tf.constant(logits)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        found = boundary(THREE, tf.constant(masks), logits)
        published = tf.reduce_mean(signed * tf.nn.softmax(logits), [1, 2, 3])
    np.testing.assert_allclose(tape.gradient(found, logits), tape.gradient(published, logits), rtol=1e-4, atol=1e-7)
