"""Evaluation of a classifier: does it know which images hold an object?

The judged answers are those of images or, of a model trained on crops, of tiles. Where no pixel of a mask is known, nor
is the truth: such an answer counts in no score.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from evaluation.config import EvalConfig, Progress
from evaluation.examples import check_complete, read_examples, split_batches
from evaluation.folder import PER_IMAGE_FILE, PICTURES_FOLDER, clear_folder, write_metrics
from evaluation.pictures import draw_truth, file_name
from evaluation.statistics import Ratio, bootstrap
from imaging.codec import decode_mask
from inference.postprocess import PLAIN_THRESHOLD
from inference.predictor import classify_batches
from inference.run import TrainedModel
from records.damage import explain_damage
from records.info import RecordsInfo
from records.schema import class_areas, decode_pixels, known_pixels


def evaluate_classifier(
    trained: TrainedModel,
    records: str,
    info: RecordsInfo,
    folder: Path,
    config: EvalConfig,
    strategy: tf.distribute.Strategy,
    progress: Progress,
) -> dict[str, float | list[float] | None]:
    """Writes metrics.json, per_image.csv and pictures of the surest mistakes into `folder`; returns the metrics.

    Where the records are unlabelled there are probabilities alone.
    """
    clear_folder(folder)
    if config.threshold is None:
        config = dataclasses.replace(config, threshold=PLAIN_THRESHOLD)
    files, batches = split_batches(
        records, info, config.split, trained.crop, config.batch_size, strategy, whole_masks=True
    )
    parts, seen = [], set()
    with progress("evaluate", info.splits[config.split].num_examples) as report, explain_damage(records, info, files):
        for batch in classify_batches(trained, batches, strategy):
            parts.append(_answers(trained, batch))
            seen.update(batch["source_id"])
            report(len(seen))
    check_complete(records, info, config.split, len(seen))
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(folder / PER_IMAGE_FILE, index=False)
    metrics: dict = {"num_examples": len(seen), "num_judged": len(table), "threshold": config.threshold}
    if info.labeled:
        known = table.dropna(subset="truth")
        probabilities, truths = known["probability"].to_numpy(), known["truth"].to_numpy(bool)
        metrics |= classification_scores(
            probabilities, truths, known["group"].to_numpy(str), config.threshold, config.seed
        )
        write_metrics(folder, metrics)
        _draw_mistakes(trained, records, info, folder / PICTURES_FOLDER, known, config)
    else:
        write_metrics(folder, metrics)
    return metrics


def _answers(trained: TrainedModel, batch: dict[str, np.ndarray]) -> pd.DataFrame:
    """Returns a row for each answer: source_id, group, of tiles y, x, height and width, probability, truth."""
    table = pd.DataFrame({name: [text.decode() for text in batch[name]] for name in ("source_id", "group")})
    if "tile" in batch:
        table[["y", "x", "height", "width"]] = batch["tile"]
    table["probability"] = batch["probability"]
    if "mask" in batch:
        areas = class_areas(batch["mask"], list(trained.scored_classes), trained.overlapping)
        truth = pd.Series(areas.any((0, 2, 3)).astype(int), dtype="Int8")
        known = known_pixels(batch["mask"], trained.overlapping).any((1, 2))
        table["truth"] = truth.where(pd.Series(known))
    return table


def classification_scores(
    probabilities: np.ndarray, truths: np.ndarray, groups: np.ndarray, threshold: float, seed: int = 0
) -> dict[str, float | list[float] | None]:
    """Returns all scores by name, in the form of metrics.json. One that is 0/0 is None.

    Args:
      probabilities: float [n], of an object.
      truths: bool [n], whether there is one.
      groups: [n]; the bootstrap draws whole groups.
      threshold: probability from which the answer is that there is one.
      seed: of the bootstrap.
    """
    found = probabilities >= threshold
    cells = {"tp": found & truths, "fp": found & ~truths, "fn": ~found & truths, "tn": ~found & ~truths}
    tp, fp, fn, tn = (cell[:, None].astype(float) for cell in cells.values())
    ratios = {
        "accuracy": Ratio(tp + tn, np.ones_like(tp)),
        "precision": Ratio(tp, tp + fp),
        "recall": Ratio(tp, tp + fn),
        "f1": Ratio(2 * tp, 2 * tp + fp + fn),
    }
    intervals = bootstrap(ratios, groups, seed) if len(groups) else dict.fromkeys(ratios)
    return {
        **{name: ratio.value() for name, ratio in ratios.items()},
        "average_precision": average_precision(probabilities, truths),
        **{f"{name}_ci95": bounds for name, bounds in intervals.items()},
        **{name: int(cell.sum()) for name, cell in cells.items()},
    }


def average_precision(probabilities: np.ndarray, truths: np.ndarray) -> float | None:
    """Returns the sum over thresholds, from high to low, of the recall that each adds times its precision.

    No interpolation; equal probabilities are one threshold. None where no truth is True. Arguments as those of
    `classification_scores`.
    """
    if not truths.any():
        return None
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True))
    hits = np.cumsum(truths[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) / truths.sum() * hits / (ends + 1)))


def _draw_mistakes(
    trained: TrainedModel, records: str, info: RecordsInfo, folder: Path, table: pd.DataFrame, config: EvalConfig
) -> None:
    """Draws the false alarms of the highest probabilities, and the misses of the lowest."""
    ranked = table.sort_values(["probability", "source_id"])
    found, truths = ranked["probability"] >= config.threshold, ranked["truth"].astype(bool)
    kinds = {"false-alarm": ranked[found & ~truths][::-1], "missed": ranked[~found & truths]}
    chosen = {name: rows.head(config.pictures) for name, rows in kinds.items()}
    keys = sorted(set(pd.concat(chosen.values())["source_id"]))
    examples, window = read_examples(records, keys) if keys else {}, info.stored_window(trained.window)
    for name, rows in chosen.items():
        for rank, (_, row) in enumerate(rows.iterrows(), 1):
            record = examples[row["source_id"]]
            image, mask = decode_pixels(record, info.dtype), decode_mask(record.mask)
            if "y" in row:
                inside = slice(row["y"], row["y"] + row["height"]), slice(row["x"], row["x"] + row["width"])
                image, mask = image[inside], mask[inside]
            path = folder / f"{name}-{rank:02d}-{file_name(row['source_id'])}.png"
            title = f"{name.replace('-', ' ')} {rank}: probability {row['probability']:.3f}   {row['source_id'][:40]}"
            draw_truth(path, image, mask, trained.scored_classes, title, trained.overlapping, window)
