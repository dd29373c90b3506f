"""Batch evaluation of a trained run on one split of records."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from evaluation.config import EvalConfig
from evaluation.pictures import draw_comparison, file_name
from evaluation.statistics import (
    Counts,
    class_cells,
    confusion,
    exclusive_counts,
    image_scores,
    overlapping_counts,
    summarize,
)
from imaging.codec import decode_mask, encode_png
from inference.predictor import TrainedModel, join_tiles, predict_batches, predict_image
from records.config import InputConfig
from records.damage import explain_damage
from records.files import join, open_file
from records.info import RecordsInfo
from records.input_pipeline import eval_batches
from records.schema import decode, decode_pixels
from records.shards import OFFSETS_FILE, read_record

METRICS_FILE, PER_IMAGE_FILE = "metrics.json", "per_image.csv"
PICTURES_FOLDER, PREDICTIONS_FOLDER = "result-image", "predictions"

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def evaluate(
    trained: TrainedModel,
    records: str,
    info: RecordsInfo,
    folder: Path,
    config: EvalConfig,
    strategy: tf.distribute.Strategy,
    progress: Progress,
) -> dict[str, float | list[float] | None]:
    """Writes metrics.json, per_image.csv and result-image/ into `folder`; returns the metrics.

    Where the records are unlabelled there are no scores: the predicted masks go to predictions/ instead. A model
    trained on crops predicts tiles of their size; images are judged whole all the same.
    """
    _clear(folder)
    replicas = strategy.num_replicas_in_sync
    batch_size = -(-config.batch_size // replicas) * replicas  # every replica gets equally many
    files = info.shard_files(records, [config.split])
    batches = eval_batches(files, info, batch_size, InputConfig(crop=trained.crop))
    total = info.splits[config.split].num_examples
    keys: list[str] = []
    groups: list[str] = []
    counts: list[Counts] = []
    classes = trained.scored_classes
    with progress("evaluate", total) as report, explain_damage(records, info, files):
        found = predict_batches(trained, batches, strategy, config.threshold)
        for batch in found if trained.crop is None else join_tiles(found):
            keys += [key.decode() for key in batch["source_id"]]
            groups += [group.decode() for group in batch["group"]]
            if info.labeled:
                # A batch at a time, because confusion matrices of all images would fill the memory.
                counts.append(_count(trained, batch["mask"], batch["prediction"]))
            else:
                _write_predictions(folder / PREDICTIONS_FOLDER, keys[-len(batch["prediction"]) :], batch["prediction"])
            report(len(keys))
    if len(keys) != total:
        raise ValueError(
            f"{records}: expected {total} examples in split {config.split}, found {len(keys)}; "
            "`python -m records verify` names what is wrong"
        )
    metrics: dict = {"num_examples": len(keys), "threshold": config.threshold}
    if info.labeled:
        every = Counts(*map(np.concatenate, zip(*counts, strict=True)))
        metrics |= summarize(every, np.array(groups), list(classes.values()), config.seed)
        table = per_image_table(keys, groups, every, list(classes.values()))
        table.to_csv(folder / PER_IMAGE_FILE, index=False)
        chosen, scores = _rank(table, config.pictures), dict(zip(table["source_id"], table["dice"], strict=True))
    else:
        chosen, scores = {f"{index + 1:02d}": key for index, key in enumerate(keys[: 3 * config.pictures])}, {}
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")
    _draw(trained, records, info, folder / PICTURES_FOLDER, chosen, config.threshold, scores)
    return metrics


def _count(trained: TrainedModel, truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> Counts:
    table_of = class_cells if trained.overlapping else confusion
    pairs = zip(truths, predictions, strict=True)
    tables = np.stack([table_of(truth, found, len(trained.classes)) for truth, found in pairs])
    return overlapping_counts(tables) if trained.overlapping else exclusive_counts(tables, list(trained.scored_classes))


def _clear(folder: Path) -> None:
    """Makes the folder, without what an earlier evaluation left: old and new files must not mix."""
    for name in (PICTURES_FOLDER, PREDICTIONS_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).glob("*.png"):
            old.unlink()
    (folder / PREDICTIONS_FOLDER).rmdir()
    for name in (METRICS_FILE, PER_IMAGE_FILE):
        (folder / name).unlink(missing_ok=True)


def per_image_table(keys: list[str], groups: list[str], counts: Counts, class_names: list[str]) -> pd.DataFrame:
    """Returns one row per image: its scores and pixel counts, with columns for each class where there are several."""
    dice, iou, _ = image_scores(counts.tp, counts.fp, counts.fn)
    table = pd.DataFrame({"source_id": keys, "group": groups, "dice": dice.mean(1), "iou": iou.mean(1)})
    for column, class_name in enumerate(class_names):
        suffix = f"/{class_name}" if len(class_names) > 1 else ""
        if suffix:
            table[f"dice{suffix}"], table[f"iou{suffix}"] = dice[:, column], iou[:, column]
        for name in ("tp", "fp", "fn"):
            table[f"{name}{suffix}"] = getattr(counts, name)[:, column].astype(np.int64)
    return table


def _write_predictions(folder: Path, keys: list[str], predictions: Sequence[np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    for key, prediction in zip(keys, predictions, strict=True):
        (folder / f"{file_name(key)}.png").write_bytes(encode_png(prediction))


def _rank(table: pd.DataFrame, pictures: int) -> dict[str, str]:
    """Returns the keys of the best, the median and the worst images, by a name such as best-01."""
    ranked = table.sort_values(["dice", "source_id"], ascending=[False, True])["source_id"].tolist()
    count = min(pictures, len(ranked))
    middle = (len(ranked) - count) // 2
    groups = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[::-1][:count]}
    return {f"{name}-{index + 1:02d}": key for name, keys in groups.items() for index, key in enumerate(keys)}


def _find_records(records: str, keys: list[str]) -> dict[str, tuple[str, int]]:
    """Returns (path of the shard, byte offset in it) by key."""
    path = join(records, OFFSETS_FILE)
    try:
        with open_file(path) as file:
            table = pd.read_parquet(file, filters=[("key", "in", keys)]).set_index("key")
        return {key: (join(records, table["shard"][key]), int(table["offset"][key])) for key in keys}
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}), and pictures need it; the scores are written; "
            "`python -m preprocess` with --overwrite makes the records anew"
        ) from error


def _draw(
    trained: TrainedModel,
    records: str,
    info: RecordsInfo,
    folder: Path,
    chosen: dict[str, str],
    threshold: float,
    scores: dict[str, float],
) -> None:
    if not chosen:
        return
    places = _find_records(records, list(chosen.values()))
    window = info.stored_window(trained.window)
    for name, key in chosen.items():
        record = decode(read_record(*places[key]))
        image = decode_pixels(record, info.dtype)
        truth = None if record.mask is None else decode_mask(record.mask)
        prediction = predict_image(trained, image, threshold)
        rank = name.replace("-0", " ").replace("-", " ")
        title = f"{rank}: Dice {scores[key]:.3f}   {record.source_id[:40]}" if key in scores else record.source_id[:40]
        path = folder / f"{name}-{file_name(key)}.png"
        classes, overlapping = trained.scored_classes, trained.overlapping
        draw_comparison(path, image, truth, prediction, classes, title, overlapping, window)
