"""All that is written of what was found: each frame in a thread, in the order of the frames what lies in one file."""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from inference.config import OutputKind
from inference.images import decide
from inference.inputs.frames import Frame, describe_error
from inference.outputs.found import Found
from inference.outputs.pictures import Arrays, Instances, Masks, Overlays, Probabilities
from inference.outputs.shapes import Coco, Contours, RunLengths
from inference.outputs.table import Summary
from inference.predictor import Predictor

_OUTPUTS = {
    "mask": Masks,
    "overlay": Overlays,
    "probability": Probabilities,
    "array": Arrays,
    "instances": Instances,
    "contours": Contours,
    "coco": Coco,
    "rle": RunLengths,
}

_WRITERS = 4
"""Threads; encoding and compression leave Python to them."""

_OF_NAMES = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
"""Errors of one file's name; others, such as a full disk, concern all files."""


class Outputs:
    """The files of a folder. A context: when it is left without an error, they are complete."""

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[OutputKind],
        predictor: Predictor,
        fail: Callable[[Frame, str], None],
        more=(),
    ):
        """Takes the folder, which it makes, and what is to be written there beside predictions.csv.

        Args:
          folder: where.
          kinds: what; each once, however often it is named.
          predictor: decides what is found.
          fail: gets a frame that cannot be written as it should be, and why; the rest goes on.
          more: further outputs, as those of this package.
        """
        folder.mkdir(parents=True, exist_ok=True)
        trained = predictor.trained
        self._outputs = [
            Summary(folder, trained),
            *(_OUTPUTS[kind](folder, trained) for kind in dict.fromkeys(kinds)),
            *more,
        ]
        self._predictor, self._fail = predictor, fail
        self._threads = ThreadPoolExecutor(_WRITERS)
        self._waiting: deque[tuple[Frame, Future]] = deque()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._collect(0)
                for output in self._outputs:
                    if hasattr(output, "close"):
                        output.close()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def write(self, frame: Frame, probabilities: np.ndarray, cleared: bool) -> None:
        """Takes a frame and its probabilities, see `inference.images.predict_images`; waits where many are not written.

        Raises:
          OSError: the disk is full, or the like.
        """
        self._waiting.append((frame, self._threads.submit(self._write, frame, probabilities, cleared)))
        self._collect(2 * _WRITERS)

    def add_row(self, row: dict) -> None:
        """Adds a row to predictions.csv, of what was written otherwise; behind all that was taken before."""
        self._collect(0)
        self._outputs[0].collect(row)

    def _write(self, frame: Frame, probabilities: np.ndarray, cleared: bool) -> list:
        height, width = frame.image.shape[:2]
        found = Found(frame, decide(self._predictor, probabilities, height, width, cleared), self._predictor.trained)
        return [output.write(found) for output in self._outputs]

    def _collect(self, left: int) -> None:
        """Hands on the results that are first in order, until no more than `left` wait."""
        while len(self._waiting) > left:
            frame, written = self._waiting.popleft()
            try:
                results = written.result()
            except (ValueError, MemoryError) as error:
                self._fail(frame, describe_error(error))
                continue
            except OSError as error:
                if error.errno not in _OF_NAMES:
                    raise
                self._fail(frame, describe_error(error))
                continue
            for output, result in zip(self._outputs, results, strict=True):
                if hasattr(output, "collect"):
                    output.collect(result)
