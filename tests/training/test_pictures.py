"""Fixed validation examples in TensorBoard."""

import numpy as np
import tensorflow as tf

from imaging.painting import display_image, paint_classes
from tests.training.keyed_records import FOREGROUND, VALIDATION, keys_of, opened
from training.pictures import FixedExamples


def test_examples_with_objects_come_first_and_are_the_same_each_time(records, tmp_path):
    with opened(records, tmp_path / "run") as data:
        first, again = (FixedExamples.choose(records[1], data.validation_batches(), None) for _ in range(2))
    keys = keys_of(first.images)
    assert len(keys) == 4
    assert set(keys) <= set(VALIDATION)
    assert [key in FOREGROUND for key in keys] == sorted([key in FOREGROUND for key in keys], reverse=True)
    np.testing.assert_array_equal(first.images, again.images)


def test_a_picture_is_image_truth_and_prediction_side_by_side(records, tmp_path):
    with opened(records, tmp_path / "run") as data:
        examples = FixedExamples.choose(records[1], data.validation_batches(), None)
    predictions = np.zeros_like(examples.masks)
    predictions[0, 2:5, 3:8] = 1
    drawn = examples.draw(predictions)
    number, height, width, _ = examples.images.shape
    assert drawn.shape == (number, height, 3 * width, 3)
    image, truth, prediction = np.split(drawn[0], 3, axis=1)
    shown = display_image(examples.images[0])
    np.testing.assert_array_equal(image, shown)
    np.testing.assert_array_equal(truth, paint_classes(shown, examples.masks[:1] == 1))
    np.testing.assert_array_equal(prediction, paint_classes(shown, predictions[:1] == 1))


def test_a_run_shows_predictions_in_every_epoch(uninterrupted):
    shown = {}
    for path in uninterrupted[0].tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "image, truth, prediction":
                    width, height, *pictures = tf.make_ndarray(value.tensor)
                    shown[event.step] = int(width), int(height), len(pictures)
    assert shown == {1: (30, 6, 4), 2: (30, 6, 4)}  # three panels of 6x10
