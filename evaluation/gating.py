"""The threshold of a gate: the one with which gate and segmenter score best together on validation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from evaluation.config import EvalConfig, Progress
from evaluation.examples import check_complete, split_batches
from evaluation.statistics import Counts, count_masks, image_scores
from inference.gate import Gate, check_gate, read_tuned, write_tuned
from inference.predictor import Predictor
from inference.run import TrainedModel, check_fits
from records.damage import explain_damage
from records.info import RecordsInfo, training_splits

_ROUNDING = 1e-9
"""Sums of gains that differ by less are equal."""

_MORE_THAN_SURE = 1.000001
"""A probability that none reaches."""


def choose_threshold(probabilities: np.ndarray, gains: np.ndarray) -> float:
    """Returns the threshold with which clearing what lies below it gains most; of equals, the one that clears most.

    What is cleared without a loss saves time. But nothing shows that all could be cleared where that gains no more than
    keeping some. The threshold lies half way between two probabilities, so that no rounding decides; 0 clears nothing.

    Args:
      probabilities: float [n], of an object in each image or tile.
      gains: float [n], what clearing each adds, where all of lower probability have been cleared.
    """
    order = np.argsort(probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    totals = np.concatenate([[0.0], np.cumsum(gains[order])])  # with the first 0, 1, ... n cleared
    # Equal probabilities are cleared together.
    counts = np.flatnonzero(np.concatenate([[True], ordered[1:] > ordered[:-1], [True]]))
    best = counts[totals[counts] >= totals[counts].max() - _ROUNDING]
    count = best[-2] if best[-1] == len(ordered) and len(best) > 1 else best[-1]
    if count == 0:
        return 0.0
    above = np.append(ordered, _MORE_THAN_SURE)[count]
    return float((ordered[count - 1] + above) / 2)


def clearing_gains(probabilities: np.ndarray, counts: Counts, images: np.ndarray) -> np.ndarray:
    """Returns what clearing each tile adds to the Dice of its image, float64 [n].

    Tiles of an image are cleared one after another, from the lowest probability; the Dice of several classes is their
    mean. An image that is not cut is its own tile: then it is its Dice if it is cleared less that if it is kept.

    Args:
      probabilities: float [n], of an object in each tile.
      counts: of the tiles, where none is cleared.
      images: int [n], number of each tile's image, from 0.
    """
    order = np.lexsort((probabilities, images))
    image_of = images[order]
    kept = np.stack([counts.tp, counts.fp, counts.fn], -1)[order]
    # Nothing is found in a cleared tile; all that was there is missed.
    change = np.stack([-kept[..., 0], -kept[..., 1], kept[..., 0]], -1)
    totals = np.zeros((image_of[-1] + 1, *kept.shape[1:]))
    np.add.at(totals, image_of, kept)
    summed = np.cumsum(change, 0)
    firsts = np.searchsorted(image_of, image_of)
    after = totals[image_of] + summed - (summed - change)[firsts]
    gains = np.empty(len(order))
    gains[order] = _dice(after) - _dice(after - change)
    return gains


def _dice(counts: np.ndarray) -> np.ndarray:
    """Returns the Dice of each row of [n, classes, (tp, fp, fn)], the mean over classes."""
    return image_scores(*np.moveaxis(counts, -1, 0))[0].mean(1)


def tune_gate(
    predictor: Predictor, classifier: keras.Model, records: str, info: RecordsInfo, batch_size: int, progress: Progress
) -> dict[str, Any]:
    """Returns the gate's threshold, and what it does to validation.

    One pass: everything is segmented once, and what clearing would change follows from its pixel counts. Tiles do not
    overlap here, and are not cleaned: what clearing one of them changes does not depend on others then.

    Args:
      predictor: segments.
      classifier: is to be its gate.
      records: folder of those that both were trained on.
      info: of the records.
      batch_size: images, or tiles, at once.
      progress: shows how far it is.

    Returns:
      "threshold"; "dice_per_image" of validation with the gate and "dice_per_image_without"; "num_cleared" of
      "num_judged" images, or tiles where the models are for tiles.
    """
    trained = predictor.trained
    _, split = training_splits(info, trained.fold)
    files, batches = split_batches(records, info, split, trained.crop, batch_size, predictor.strategy)
    judged = dataclasses.replace(predictor, gate=Gate(classifier))
    predict = judged.masks if trained.crop is None else judged.tile_masks
    keys, seen, probabilities, counts = [], set(), [], []
    with progress("gate", info.splits[split].num_examples) as report, explain_damage(records, info, files):
        for batch in predict(batches):
            keys += batch["source_id"].tolist()
            probabilities.append(batch["probability"])
            counts.append(count_masks(batch["mask"], batch["prediction"], trained.classes, trained.overlapping))
            seen.update(batch["source_id"])
            report(len(seen))
    check_complete(records, info, split, len(seen))
    _, images = np.unique(keys, return_inverse=True)
    number = len(seen)
    every, answers = Counts(*map(np.concatenate, zip(*counts, strict=True))), np.concatenate(probabilities)
    gains = clearing_gains(answers, every, images)
    threshold = choose_threshold(answers, gains)
    cleared = answers.astype(np.float64) < threshold
    totals = np.zeros((number, every.tp.shape[1], 3))
    np.add.at(totals, images, np.stack([every.tp, every.fp, every.fn], -1))
    without = float(_dice(totals).mean())
    return {
        "threshold": threshold,
        "dice_per_image": without + float(gains[cleared].sum()) / number,
        "dice_per_image_without": without,
        "num_cleared": int(cleared.sum()),
        "num_judged": len(answers),
    }


def open_gate(
    predictor: Predictor,
    classifier: TrainedModel,
    records: str,
    info: RecordsInfo,
    path: Path,
    config: EvalConfig,
    progress: Progress,
) -> tuple[Gate, dict[str, Any]]:
    """Returns (the gate, what `tune_gate` found for it), from a file where it was found before.

    Args:
      predictor, progress: as those of `tune_gate`.
      classifier: the gate's, of the run config.gate.
      records, info: to be judged; where these are not those of the training, what was found there counts.
      path: gate.json in the RUN folder; one of another gate, model or post-processing is replaced.
      config: settings.

    Raises:
      ValueError: gate, model and records do not fit; or the records are others, and nothing was found before.
    """
    trained = predictor.trained
    check_gate(classifier, trained, config.gate, str(path.parent))
    check_fits(classifier, info, config.gate, records)
    identity = predictor.gate_identity(classifier)
    tuned = read_tuned(path, identity)
    if tuned is None:
        # Others may be unlabelled, or hold among their validation what was trained on.
        if info.fingerprint != trained.fingerprint:
            raise ValueError(
                f"gate: expected its threshold in {path}, as {records} is not what {path.parent} was trained on, found "
                "none; run test.py with this --gate on the records of the training first"
            )
        found = tune_gate(predictor, classifier.model, records, info, config.batch_size, progress)
        tuned = {"gate": config.gate, **identity, **found}
        write_tuned(path, tuned)
    return Gate(classifier.model, tuned["threshold"]), tuned
