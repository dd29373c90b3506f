"""Checkpoints of a run: the newest sound one is restored, and a failed save leaves it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from training.workers import PEER_ERRORS

_KEPT = 2


class Checkpoints:
    """The checkpoints in a folder.

    Args:
      folder: for them alone.
      source: folder to restore from, where that is another one.
      **parts: what is saved: anything that tf.train.Checkpoint tracks.
    """

    def __init__(self, folder: Path, source: Path | None = None, **parts):
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=_KEPT)
        self._folder, self._source = folder, source or folder

    def save(self) -> None:
        """Saves all parts.

        Raises:
          ValueError: it cannot be written; the checkpoints before it are as they were.
        """
        try:
            self._manager.save()
        except PEER_ERRORS:  # workers average some variables for it
            self._drop_unfinished()
            raise
        except (tf.errors.OpError, OSError) as error:
            self._drop_unfinished()
            last = self._manager.latest_checkpoint
            kept = f"the checkpoint before, {last}, is whole" if last else "there is none yet"
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{self._folder}: a checkpoint cannot be written ({reason}); {kept}; make room, and the same "
                "command goes on"
            ) from error

    def restore(self, tell: Callable[[str], None]) -> str | None:
        """Restores the newest checkpoint that is sound; returns its path, or None if there is none yet.

        Raises:
          ValueError: there are checkpoints, but all are damaged, or of something else.
        """
        found = tf.train.get_checkpoint_state(str(self._source))
        paths = found.all_model_checkpoint_paths if found else []
        for path in reversed(paths):
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched()
                return path
            except AssertionError as error:
                raise ValueError(
                    f"{path}: expected a checkpoint of all that is trained, found one of something else "
                    f"({str(error).splitlines()[0]}); train into another RUN folder"
                ) from error
            except (IndexError, tf.errors.OpError) as error:
                tell(f"{path} is damaged ({str(error).splitlines()[0]}); trying the one before")
        if paths:
            raise ValueError(f"{self._source}: expected a checkpoint that can be read; train into another RUN folder")
        return None

    def _drop_unfinished(self) -> None:
        """Deletes what a failed save has left, which on a full disk is what keeps it full."""
        kept = {Path(path).name for path in self._manager.checkpoints}
        for path in self._folder.glob("ckpt-*"):
            if path.name.partition(".")[0] not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
