"""Batch evaluation of a trained run on one split of records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from evaluation.config import EvalConfig, Progress
from evaluation.examples import check_complete, read_examples, split_batches
from evaluation.folder import (
    PER_IMAGE_FILE,
    PICTURES_FOLDER,
    PREDICTIONS_FOLDER,
    clear_folder,
    write_confusion,
    write_metrics,
)
from evaluation.pictures import draw_comparison, file_name
from evaluation.statistics import Counts, image_scores, pixel_tables, summarize, table_counts
from imaging.codec import decode_mask, encode_png
from inference.gate import Gate
from inference.predictor import TrainedModel, join_tiles, predict_batches, predict_image
from records.damage import explain_damage
from records.info import RecordsInfo
from records.schema import decode_pixels


def evaluate(
    trained: TrainedModel,
    records: str,
    info: RecordsInfo,
    folder: Path,
    config: EvalConfig,
    strategy: tf.distribute.Strategy,
    progress: Progress,
    gate: Gate | None = None,
) -> dict[str, float | list[float] | None]:
    """Writes metrics.json, per_image.csv and result-image/ into `folder`; returns the metrics.

    Where the records are unlabelled there are no scores: the predicted masks go to predictions/ instead. A model
    trained on crops predicts tiles of their size; images are judged whole all the same. Images, or tiles, that the gate
    clears are not segmented.
    """
    clear_folder(folder)
    files, batches = split_batches(records, info, config.split, trained.crop, config.batch_size, strategy)
    total = info.splits[config.split].num_examples
    keys: list[str] = []
    groups: list[str] = []
    counts: list[Counts] = []
    confusion: np.ndarray | int = 0
    cleared: list[np.ndarray] = []
    classes = trained.scored_classes
    with progress("evaluate", total) as report, explain_damage(records, info, files):
        found = _note_cleared(predict_batches(trained, batches, strategy, config.threshold, gate), cleared)
        for batch in found if trained.crop is None else join_tiles(found):
            keys += [key.decode() for key in batch["source_id"]]
            groups += [group.decode() for group in batch["group"]]
            if info.labeled:
                # A batch at a time, because confusion matrices of all images would fill the memory.
                tables = pixel_tables(batch["mask"], batch["prediction"], len(trained.classes), trained.overlapping)
                counts.append(table_counts(tables, trained.classes, trained.overlapping))
                confusion += tables.sum(0)
            else:
                _write_predictions(folder / PREDICTIONS_FOLDER, keys[-len(batch["prediction"]) :], batch["prediction"])
            report(len(keys))
    check_complete(records, info, config.split, len(keys))
    metrics: dict = {"num_examples": len(keys), "threshold": config.threshold}
    if gate is not None:
        judged = np.concatenate(cleared)
        metrics |= {"gate": config.gate, "gate_threshold": gate.threshold}
        metrics |= {"num_cleared": int(judged.sum()), "num_judged": len(judged)}
    if info.labeled:
        every = Counts(*map(np.concatenate, zip(*counts, strict=True)))
        metrics |= summarize(every, np.array(groups), list(classes.values()), config.seed)
        table = per_image_table(keys, groups, every, list(classes.values()))
        table.to_csv(folder / PER_IMAGE_FILE, index=False)
        if not trained.overlapping:
            write_confusion(folder, confusion, trained.classes)
        chosen, scores = _rank(table, config.pictures), dict(zip(table["source_id"], table["dice"], strict=True))
    else:
        chosen, scores = {f"{index + 1:02d}": key for index, key in enumerate(keys[: 3 * config.pictures])}, {}
    write_metrics(folder, metrics)
    _draw(trained, records, info, folder / PICTURES_FOLDER, chosen, config.threshold, scores, gate)
    return metrics


def _note_cleared(batches: Iterable[dict], cleared: list[np.ndarray]) -> Iterator[dict]:
    """Yields the batches, and adds to the list which of their images or tiles the gate has cleared."""
    for batch in batches:
        if "cleared" in batch:
            cleared.append(batch["cleared"])
        yield batch


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


def _draw(
    trained: TrainedModel,
    records: str,
    info: RecordsInfo,
    folder: Path,
    chosen: dict[str, str],
    threshold: float,
    scores: dict[str, float],
    gate: Gate | None,
) -> None:
    if not chosen:
        return
    examples = read_examples(records, list(chosen.values()))
    window = info.stored_window(trained.window)
    for name, key in chosen.items():
        record = examples[key]
        image = decode_pixels(record, info.dtype)
        truth = None if record.mask is None else decode_mask(record.mask)
        prediction = predict_image(trained, image, threshold, gate)
        rank = name.replace("-0", " ").replace("-", " ")
        title = f"{rank}: Dice {scores[key]:.3f}   {record.source_id[:40]}" if key in scores else record.source_id[:40]
        path = folder / f"{name}-{file_name(key)}.png"
        classes, overlapping = trained.scored_classes, trained.overlapping
        draw_comparison(path, image, truth, prediction, classes, title, overlapping, window)
