"""Submission files: what is predicted for records, put together to raw images, in the forms of three competitions."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from evaluation.config import EvalConfig
from evaluation.folder import SUBMISSION_FILE
from evaluation.raw_images import Place, RawJoiner, read_raw_images
from inference.outputs.forms import FORMS, read_sample
from inference.outputs.submission import SubmissionRows, check_model, encode_rows
from inference.postprocess import Postprocess
from inference.predictor import Batch, Predictor
from inference.run import TrainedModel
from records.info import RecordsInfo


def check_submission(trained: TrainedModel, config: EvalConfig) -> None:
    """Raises ValueError if the model predicts no masks that the chosen submission file has rows for."""
    if config.submission is not None:
        check_model(trained, config.submission)


@contextlib.contextmanager
def write_submission(
    folder: Path, predictor: Predictor, records: str, info: RecordsInfo, config: EvalConfig
) -> Iterator[Callable[[Batch], None]]:
    """Yields a function that takes batches of predictions; when it is left without an error, writes submission.csv.

    Without --submission the function does nothing.

    Args:
      folder: of the evaluation.
      predictor: the model, and how masks are made of its probabilities.
      records: their folder.
      info: of the records.
      config: says which form, which split and which rows.

    Yields:
      A function of batches as `Predictor.probabilities` yields them, in the records' order.

    Raises:
      ValueError: the model has other classes, the records do not hold whole images, or the sample asks for images that
        are not there.
    """
    check_submission(predictor.trained, config)
    if config.submission is None:
        yield lambda batch: None
        return
    form = FORMS[config.submission]
    images = read_raw_images(records, info, config.split, form.extension, "submission")
    known = [row_id for image in images.names for row_id in form.row_ids(image)]
    wanted = known
    if config.sample is not None:
        _, wanted = read_sample(config.sample, [form.column])
        _check_known(wanted, known, config, records)
    rows = SubmissionRows(folder / SUBMISSION_FILE, form)

    def write(place: Place, mask: np.ndarray, postprocess: Postprocess) -> None:
        for row_id, codes in encode_rows(place.image, mask, form, predictor.trained, postprocess):
            rows.add(row_id, codes)

    with contextlib.closing(rows):
        joiner = RawJoiner(predictor, images, write)
        yield joiner.add
        joiner.finish()
        # Images that were found to be damaged have no record: nothing is known to be in them.
        rows.write(wanted)


def _check_known(ids: list[str], known: list[str], config: EvalConfig, records: str) -> None:
    """Raises ValueError if a sample has ids that are not known."""
    there = set(known)
    if missing := [row_id for row_id in ids if row_id not in there]:
        raise ValueError(
            f"sample: {config.sample}: expected images of split {config.split} of {records}, found {missing[0]!r}, "
            f"which is none ({len(missing)} of {len(ids)} ids); make records of them with `python -m preprocess "
            "--unlabeled --sample`"
        )
