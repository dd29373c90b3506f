"""Numbers of the comparison, by hand."""

import numpy as np
import pytest
from rich.console import Console

from serving.formats.comparison import Exported, compare, comparison_table, keras_model
from serving.formats.examples import Examples, make_up_examples
from tests.conftest import predictor_of
from tests.serving.tiny import tiny_model


def exported(run, tolerance=0.1, reads="pixels") -> Exported:
    return Exported("other", run, reads, 2**20, tolerance)


def compared_with(run, tolerance=0.1, count=3):
    """What is found of `run` beside a reference that gives 0.4 everywhere, at a threshold of 0.5."""
    examples = Examples(np.zeros([count, 2, 5, 3], np.uint8), [b""] * count, False)
    reference = exported(lambda images: np.full([len(images), 2, 5, 1], 0.4, np.float32))
    return compare(predictor_of(tiny_model()), reference, [exported(run, tolerance)], examples, 2)


def one_pixel_of(value: float):
    """0.4 but for one pixel of each image."""

    def run(images):
        probabilities = np.full([len(images), 2, 5, 1], 0.4, np.float32)
        probabilities[:, 1, 2] = value
        return probabilities

    return run


def test_differences_are_counted_over_all_batches():
    same, other = compared_with(one_pixel_of(0.7), tolerance=0.25)
    assert (same.largest, same.mean, same.differing) == (0, 0, 0) and same.is_right
    assert other.largest == pytest.approx(0.3, abs=1e-6) and other.mean == pytest.approx(0.03, abs=1e-6)
    assert other.differing == 0.1 and not other.is_right and other.rate > 0
    assert compared_with(one_pixel_of(0.45))[1].differing == 0


def test_what_may_differ_is_right_but_never_what_is_no_number():
    assert compared_with(one_pixel_of(0.9), tolerance=None)[1].is_right
    assert not compared_with(one_pixel_of(np.nan), tolerance=None)[1].is_right
    with pytest.raises(ValueError, match=r"expected probabilities \[2, 2, 5, 1\], found \[2, 2, 5, 3\]"):
        compared_with(lambda images: np.zeros([len(images), 2, 5, 3], np.float32))


def test_the_keras_model_is_the_reference_and_the_table_shows_all():
    trained = tiny_model("exclusive")
    examples = make_up_examples(trained, 3)
    predictor = predictor_of(trained)
    reference = keras_model(predictor, 3 * 2**19)
    rows = compare(predictor, reference, [exported(reference.run)], examples, 2)
    assert [row.largest for row in rows] == [0, 0]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(comparison_table(rows, "title"))
    said = capture.get()
    assert "1.50" in said and "1.00" in said and "0.0000%" in said and "other" in said


def test_made_up_examples_are_of_the_models_kind_and_never_flat():
    scan = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}
    for settings, low, high in (
        ({}, 0, 255),
        ({"channels": 1, "dtype": "uint16"}, 0, 65535),
        ({"channels": 1, "dtype": "uint16", "intensity": scan}, 31768, 33768),
        ({"channels": 1, "dtype": "uint16", "intensity": scan, "window": (-100, 400)}, 32668, 33168),
    ):
        trained = tiny_model(**settings)
        examples = make_up_examples(trained, 2)
        assert examples.pixels.shape == (2, 16, 24, trained.channels) and examples.pixels.dtype == trained.dtype
        assert low <= examples.pixels.min() < examples.pixels.max() <= high
        assert examples.pixels.std() > (high - low) / 20 and not np.array_equal(*examples.pixels)
    assert make_up_examples(tiny_model(crop=16), 1).pixels.shape == (1, 16, 16, 3)
