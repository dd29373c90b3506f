import dataclasses
import math

import cv2
import numpy as np
import pytest
import tensorflow as tf

from model.augment import augment
from model.config import AugmentConfig
from model.labels import IGNORE, IGNORE_BIT

NONE = AugmentConfig.none()
TURNS = dataclasses.replace(NONE, horizontal_flip=True, vertical_flip=True, quarter_turns=True)
ALL = AugmentConfig(affine=1.0)


def only(**settings) -> AugmentConfig:
    still = dict.fromkeys(("rotation", "scale", "shift"), 0.0) if "affine" in settings else {}
    return dataclasses.replace(NONE, **still | settings)


def step_of(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)


def random_batch(batch: int = 8, height: int = 16, width: int = 16) -> tuple[tf.Tensor, tf.Tensor]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [batch, height, width, 3]).astype(np.uint8)
    return tf.constant(images), tf.constant(generator.integers(0, 2, [batch, height, width]), tf.uint8)


def discs(batch: int, size: int = 64, radius: int = 16) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.repeat((x**2 + y**2 < radius**2)[None].astype(np.uint8), batch, axis=0)


def augmented(images, masks, config, seed=0, step=0, **share) -> tuple[np.ndarray, np.ndarray]:
    images, masks = augment(images, masks, config, seed, step_of(step), **share)
    assert (images.dtype, masks.dtype) == (tf.float32, tf.uint8)
    return images.numpy(), masks.numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nothing_on_changes_nothing(dtype):
    images = np.random.default_rng(1).integers(0, 256, [4, 8, 6, 3]).astype(dtype)
    masks = np.random.default_rng(2).integers(0, 256, [4, 8, 6]).astype(np.uint8)
    found, found_masks = augmented(tf.constant(images), tf.constant(masks), NONE)
    np.testing.assert_allclose(found, images, atol=1e-3)
    np.testing.assert_array_equal(found_masks, masks)


def test_flips_and_turns_move_image_and_mask_together_exactly():
    masks = np.random.default_rng(3).integers(0, 256, [32, 8, 8]).astype(np.uint8)
    images = np.stack([masks, 255 - masks], -1)
    found, found_masks = augmented(tf.constant(images), tf.constant(masks), TURNS)
    np.testing.assert_array_equal(np.rint(found[..., 0]), found_masks)
    np.testing.assert_array_equal(np.rint(found[..., 1]), 255 - found_masks)
    assert (found_masks != masks).any()


def test_flips_and_turns_give_all_eight_poses_and_no_other():
    mask = np.arange(9, dtype=np.uint8).reshape(3, 3)
    poses = [np.rot90(side, turns) for side in (mask, mask[:, ::-1]) for turns in range(4)]
    masks = tf.constant(np.repeat(mask[None], 800, axis=0))
    _, found = augmented(tf.zeros([800, 3, 3, 1]), masks, TURNS)
    counts = [sum(np.array_equal(one, pose) for one in found) for pose in poses]
    assert sum(counts) == 800
    # 100 each are expected; four deviations are 37.
    assert all(60 < count < 140 for count in counts)


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_flips_mirror_along_their_own_axes_and_do_not_turn(horizontal, vertical):
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    config = only(horizontal_flip=horizontal, vertical_flip=vertical)
    _, found = augmented(tf.zeros([40, 2, 3, 1]), tf.constant(np.repeat(mask[None], 40, axis=0)), config)
    rows, columns = ([1, -1] if chosen else [1] for chosen in (vertical, horizontal))
    poses = {mask[::row, ::column].tobytes() for row in rows for column in columns}
    assert {one.tobytes() for one in found} == poses


def test_images_that_are_not_square_are_not_turned():
    images, masks = random_batch(6, 8, 12)
    found, found_masks = augmented(images, masks, only(quarter_turns=True))
    np.testing.assert_allclose(found, images, atol=1e-3)
    np.testing.assert_array_equal(found_masks, masks)


def test_affine_transforms_move_image_and_mask_together():
    blocks = np.random.default_rng(4).integers(0, 2, [16, 8, 8]).repeat(8, axis=1).repeat(8, axis=2)
    masks = tf.constant(blocks, tf.uint8)
    config = only(affine=1.0, rotation=30.0, scale=0.3, shift=0.1)
    found, found_masks = augmented(masks[..., None] * 100, masks, config)
    # Bilinear interpolation gives 0 or 100 only where all four neighbours agree; one of them is the nearest.
    for label, value in ((0, 0), (1, 100)):
        certain = (np.abs(found[..., 0] - value) < 1e-3) & (found_masks != IGNORE)
        assert certain.mean() > 0.2
        np.testing.assert_array_equal(found_masks[certain], label)
    assert (found_masks != blocks).mean() > 0.1


def test_outside_of_the_frame_is_ignored_and_has_the_images_mean():
    masks = tf.ones([16, 32, 32], tf.uint8)
    images = tf.constant(np.random.default_rng(5).integers(0, 256, [16, 32, 32, 2]), tf.uint8)
    found, found_masks = augmented(images, masks, only(affine=1.0, shift=0.5))
    outside = found_masks == IGNORE
    assert set(np.unique(found_masks)) == {1, IGNORE}
    assert 0.2 < outside.mean() < 0.7
    means = np.broadcast_to(np.mean(images, axis=(1, 2), keepdims=True), found.shape)
    # Pixels beside the image's border mix with it.
    beyond = np.stack([cv2.erode(one.astype(np.uint8), np.ones((3, 3))) for one in outside]) == 1
    beyond[:, [0, -1]] = beyond[:, :, [0, -1]] = False
    assert beyond.sum() > 1000
    np.testing.assert_allclose(found[beyond], means[beyond], atol=0.01)


def test_a_rotation_keeps_a_centred_disc():
    masks = discs(12)
    _, found = augmented(tf.zeros([12, 64, 64, 1]), tf.constant(masks), only(affine=1.0, rotation=45.0))
    both = ((found == 1) & (masks == 1)).sum((1, 2)) / ((found == 1) | (masks == 1)).sum((1, 2))
    assert both.min() > 0.93
    assert (found == IGNORE).any()


def test_a_change_of_scale_stays_within_its_bounds():
    masks = discs(64, radius=15)
    _, found = augmented(tf.zeros([64, 64, 64, 1]), tf.constant(masks), only(affine=1.0, scale=0.5))
    factors = np.sqrt((found == 1).sum((1, 2)) / masks.sum((1, 2)))
    assert 1 / 1.55 < factors.min() < 0.75
    assert 1.35 < factors.max() < 1.55


def test_a_shift_moves_by_at_most_its_share():
    masks = discs(64, radius=8)
    _, found = augmented(tf.zeros([64, 64, 64, 1]), tf.constant(masks), only(affine=1.0, shift=0.25))
    y, x = np.mgrid[:64, :64] - 31.5
    area = (found == 1).sum((1, 2))
    centres = np.stack([((found == 1) * axis).sum((1, 2)) / area for axis in (y, x)])
    np.testing.assert_allclose(area, masks[0].sum(), rtol=0.05)
    assert (np.abs(centres) < 0.25 * 64 + 0.6).all()
    assert (np.abs(centres).max(1) > 12).all()
    assert abs(np.corrcoef(centres)[0, 1]) < 0.5


def test_affine_is_a_probability():
    masks = discs(400, size=16, radius=4)
    _, found = augmented(tf.zeros([400, 16, 16, 1]), tf.constant(masks), only(affine=0.25, shift=0.4))
    moved = np.any(found != masks, axis=(1, 2)).mean()
    # Some shifts are less than a pixel; three deviations of the share are 0.065.
    assert moved == pytest.approx(0.25, abs=0.075)


def test_contrast_stretches_about_the_mean():
    images, masks = random_batch(64)
    found, found_masks = augmented(images, masks, only(contrast=0.5))
    original = np.array(images, np.float32)
    mean = original.mean((1, 2), keepdims=True)
    factors = found.std((1, 2)) / original.std((1, 2))
    np.testing.assert_allclose(found, (original - mean) * factors[:, :1][:, None, None] + mean, atol=0.05)
    assert 1 / 1.501 < factors.min() < 0.75
    assert 1.35 < factors.max() < 1.501
    np.testing.assert_array_equal(found_masks, masks)


def test_brightness_shifts_by_a_share_of_the_images_range():
    images, masks = random_batch(64)
    found, found_masks = augmented(images, masks, only(brightness=0.1))
    original = np.array(images, np.float32)
    change = found - original
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1, :1], change.shape), atol=1e-3)
    # The range is measured around each channel's mean.
    centred = original - original.mean((1, 2), keepdims=True)
    shares = change[:, 0, 0, 0] / np.ptp(centred, axis=(1, 2, 3))
    assert -0.1001 < shares.min() < -0.08
    assert 0.08 < shares.max() < 0.1001
    np.testing.assert_array_equal(found_masks, masks)


def test_masks_keep_their_labels():
    labels = [0, 1, 2, 17, 254]
    masks = tf.constant(np.random.default_rng(6).choice(labels, [8, 24, 24]), tf.uint8)
    _, found = augmented(tf.zeros([8, 24, 24, 1]), masks, ALL)
    assert set(np.unique(found)) == {*labels, IGNORE}


def test_bit_fields_keep_every_value_and_are_ignored_outside_of_the_frame():
    bits = np.array([0, 1, 2**14, 0b101, 2**15 - 1, IGNORE_BIT, 2**16 - 1], np.uint16)
    masks = tf.constant(np.random.default_rng(7).choice(bits, [16, 24, 24]))
    _, found = augment(tf.zeros([16, 24, 24, 1]), masks, only(affine=1.0, shift=0.4, rotation=20.0), 0, step_of(0))
    assert found.dtype == tf.uint16
    assert set(np.unique(found)) == set(bits)
    outside = np.mean(found.numpy() == IGNORE_BIT)
    assert outside > np.mean(masks.numpy() == IGNORE_BIT) + 0.1


def test_bit_fields_and_indices_are_moved_alike():
    images, masks = random_batch()
    _, indices = augmented(images, masks, ALL, seed=1, step=2)
    _, fields = augment(images, tf.cast(masks, tf.uint16), ALL, 1, step_of(2))
    np.testing.assert_array_equal(np.where(fields == IGNORE_BIT, IGNORE, fields), indices)


def test_seed_and_step_decide():
    images, masks = random_batch()
    first, first_masks = augmented(images, masks, ALL, seed=1, step=2)
    same, same_masks = augmented(images, masks, ALL, seed=1, step=2)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first_masks, same_masks)
    for seed, step in ((1, 3), (2, 2), (2, 1)):
        other, other_masks = augmented(images, masks, ALL, seed=seed, step=step)
        assert (first != other).any()
        assert (first_masks != other_masks).any()


def test_examples_are_augmented_each_in_its_own_way():
    images, masks = random_batch(1)
    found, _ = augmented(tf.repeat(images, 8, axis=0), tf.repeat(masks, 8, axis=0), ALL)
    assert len(np.unique(found.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("replicas", [2, 4])
def test_a_replicas_share_equals_the_rows_of_the_whole_batch(replicas):
    images, masks = random_batch(8)
    whole, whole_masks = augmented(images, masks, ALL, seed=3, step=4)
    share = 8 // replicas
    for first in range(0, 8, share):
        rows = slice(first, first + share)
        found, found_masks = augmented(
            images[rows], masks[rows], ALL, seed=3, step=4, first=tf.constant(first), global_batch_size=8
        )
        np.testing.assert_allclose(found, whole[rows], atol=1e-3)
        np.testing.assert_array_equal(found_masks, whole_masks[rows])


def test_eager_equals_a_graph():
    images, masks = random_batch()
    graph = tf.function(lambda images, masks, step: augment(images, masks, ALL, 5, step))
    for step in range(2):
        found, found_masks = graph(images, masks, step_of(step))
        expected, expected_masks = augmented(images, masks, ALL, seed=5, step=step)
        np.testing.assert_allclose(found, expected, atol=1e-2)
        np.testing.assert_array_equal(found_masks, expected_masks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"affine": 1.5}, "augment.affine: expected a probability, found 1.5"),
        ({"affine": math.nan}, "augment.affine: expected a probability, found nan"),
        ({"shift": -0.1}, "augment.shift: expected at least 0, found -0.1"),
        ({"rotation": math.nan}, "augment.rotation: expected at least 0, found nan"),
        ({"scale": math.inf}, "augment.scale: expected at least 0, found inf"),
        ({"affine": 0.0, "rotation": 30.0}, "augment.rotation: found 30.0, which only --augment.affine above 0 reads"),
        ({"affine": 0.0, "scale": 0.3}, "augment.scale: found 0.3, which only --augment.affine above 0 reads"),
        ({"affine": 0.0, "shift": 0.3}, "augment.shift: found 0.3, which only --augment.affine above 0 reads"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**settings)
