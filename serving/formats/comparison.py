"""An export beside the Keras model: do they answer alike, how large are they, how fast?"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from rich.table import Table

from inference.predictor import Predictor
from serving.formats.examples import Examples

TOLERANCE = 1e-3
"""Largest difference of a probability that may come of the order in which float32 numbers are added. Mostly it is below
1e-5; but a deep network may amplify it where it is not sure."""

_TURNS = 5


class Exported(NamedTuple):
    """Something that gives probabilities.

    Attributes:
      name: for the table.
      run: from some of the examples' pixels, or of their files, to probabilities [batch, height, width, outputs].
      reads: "pixels" or "files".
      size: bytes.
      tolerance: largest difference that is right; None: any.
    """

    name: str
    run: Callable[[Any], np.ndarray]
    reads: str
    size: int
    tolerance: float | None


class Compared(NamedTuple):
    """What was found of an export: differences of probabilities, share of pixels whose class differs, images/s."""

    exported: Exported
    largest: float
    mean: float
    differing: float
    rate: float

    @property
    def is_right(self) -> bool:
        """Whether no probability differs by more than it may."""
        tolerance = self.exported.tolerance
        return bool(np.isfinite(self.largest)) and (tolerance is None or self.largest <= tolerance)


def keras_model(predictor: Predictor, size: int) -> Exported:
    """Returns what all are compared with.

    Args:
      predictor: the run.
      size: bytes of its file.
    """
    predict = tf.function(predictor.trained.probabilities, reduce_retracing=True)
    return Exported("Keras", lambda images: predict(tf.constant(images)).numpy(), "pixels", size, 0.0)


def compare(
    predictor: Predictor, reference: Exported, exports: Sequence[Exported], examples: Examples, batch_size: int
) -> list[Compared]:
    """Returns what was found of the reference and of each export.

    Args:
      predictor: the run, whose thresholds make classes of probabilities.
      reference: what is right.
      exports: what is compared with it.
      examples: images.
      batch_size: images at once.
    """
    everything = [reference, *exports]
    batches = [slice(start, start + batch_size) for start in range(0, len(examples.files), batch_size)]
    found = [_Differences(predictor) for _ in everything]
    for batch in batches:
        right = reference.run(examples.pixels[batch])
        for exported, differences in zip(everything, found, strict=True):
            differences.add(exported.run(getattr(examples, exported.reads)[batch]), right)
    rates = _rates(everything, examples, batches[0])
    return [Compared(one, *of_it.finish(), rate) for one, of_it, rate in zip(everything, found, rates, strict=True)]


class _Differences:
    """Sums over batches."""

    def __init__(self, predictor: Predictor):
        self._predictor = predictor
        self._largest, self._sum, self._values, self._differing, self._pixels = 0.0, 0.0, 0, 0, 0

    def add(self, probabilities: np.ndarray, right: np.ndarray) -> None:
        if probabilities.shape != right.shape:
            raise ValueError(f"expected probabilities {list(right.shape)}, found {list(probabilities.shape)}")
        differences = np.abs(probabilities.astype(np.float64) - right)
        self._largest = float(np.maximum(self._largest, differences.max()))  # keeps NaN, which max() would lose
        self._sum += float(differences.sum())
        self._values += differences.size
        differs = self._classify(probabilities) != self._classify(right)
        self._differing += int(differs.sum())
        self._pixels += differs.size

    def finish(self) -> tuple[float, float, float]:
        """Returns the largest and the mean difference, and the share of pixels whose class differs."""
        return self._largest, self._sum / self._values, self._differing / self._pixels

    def _classify(self, probabilities: np.ndarray) -> np.ndarray:
        return self._predictor.trained.labels.classify(tf.constant(probabilities), self._predictor.thresholds).numpy()


def _rates(everything: Sequence[Exported], examples: Examples, batch: slice) -> list[float]:
    """Returns images a second of each: the median of some turns, in each of which all have theirs."""
    inputs = [getattr(examples, one.reads)[batch] for one in everything]
    seconds = [[] for _ in everything]
    for _ in range(_TURNS):
        for one, images, times in zip(everything, inputs, seconds, strict=True):
            start = time.perf_counter()
            one.run(images)
            times.append(time.perf_counter() - start)
    return [len(images) / statistics.median(times) for images, times in zip(inputs, seconds, strict=True)]


def comparison_table(compared: Sequence[Compared], title: str) -> Table:
    """Returns the table of what was found, the reference in its first row."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("max diff.", "allowed", "mean diff.", "other class", "MiB", "images/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(compared):
        tolerance = row.exported.tolerance
        allowed = "any" if tolerance is None else f"{tolerance:g}"
        judged = [f"{row.largest:.1e}", allowed, f"{row.mean:.1e}", f"{row.differing:.4%}"] if number else [""] * 4
        table.add_row(row.exported.name, *judged, f"{row.exported.size / 2**20:.2f}", f"{row.rate:.1f}")
    return table
