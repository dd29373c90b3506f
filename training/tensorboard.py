"""TensorBoard's summaries of a run."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorflow as tf


class Summaries:
    """A context in which scalars and images go to a folder; that they cannot ends no run, and is told once."""

    def __init__(self, folder: Path, tell: Callable[[str], None]):
        """Folder: it is made; tell: shows a line to the user."""
        self._folder, self._tell, self._told = folder, tell, False
        self._writer = tf.summary.create_noop_writer()

    def __enter__(self) -> "Summaries":
        self._try(self._open)
        self._default = self._writer.as_default()
        self._default.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Open, the default writer would be flushed, and its error take the place of the one that ends the run.
        self._try(self._writer.close)
        self._default.__exit__(None, None, None)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes a number of a step."""
        self._try(lambda: tf.summary.scalar(name, value, step=step))

    def images(self, name: str, images: np.ndarray, step: int) -> None:
        """Writes images, uint8 [n, height, width, channels], of a step."""
        self._try(lambda: tf.summary.image(name, images, step=step, max_outputs=len(images)))

    def flush(self) -> None:
        """Lets all that was written reach the disk."""
        self._try(self._writer.flush)

    def _open(self) -> None:
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except tf.errors.OpError as error:
            if not self._told:
                reason = str(error).splitlines()[0]
                self._tell(f"{self._folder}: cannot be written ({reason}); training goes on")
            self._told = True
