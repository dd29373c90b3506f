"""Batch evaluation of a trained run on one split of records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from evaluation.config import EvalConfig, Progress
from evaluation.csv_tables import per_group_table, per_image_table
from evaluation.examples import check_complete, read_examples, split_batches
from evaluation.folder import (
    PER_GROUP_FILE,
    PER_IMAGE_FILE,
    PICTURES_FOLDER,
    PREDICTIONS_FOLDER,
    clear_folder,
    write_confusion,
    write_metrics,
)
from evaluation.pictures import draw_comparison, file_name
from evaluation.scores import summarize_all
from evaluation.submission import write_submission
from evaluation.tally import Judged, Tally
from evaluation.workers import default_workers, worker_pool
from imaging.codec import decode_mask, encode_png
from inference.gate import Gate
from inference.predictor import TrainedModel, join_tiles, predict_batches, predict_image
from records.damage import explain_damage
from records.info import RecordsInfo
from records.schema import decode_pixels

_FEW = 100
"""So many images are judged sooner in this process than others have started."""


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
    """Writes metrics.json, per_image.csv, per_group.csv, result-image/ and what `write_submission` does into `folder`.

    Returns the metrics.

    Where the records are unlabelled there are no scores: the predicted masks go to predictions/ instead. A model
    trained on crops predicts tiles of their size; images are judged whole all the same. Images, or tiles, that the gate
    clears are not segmented.
    """
    clear_folder(folder)
    total, classes = info.splits[config.split].num_examples, list(trained.scored_classes.values())
    files, batches = split_batches(
        records, info, config.split, trained.crop, config.batch_size, strategy, details=info.labeled
    )
    keys: list[str] = []
    cleared: list[np.ndarray] = []
    with (
        write_submission(folder, trained, records, info, config) as submit,
        progress("evaluate", total) as report,
        explain_damage(records, info, files),
        worker_pool(_count_workers(config, total) if info.labeled else 0) as pool,
    ):
        tally = Tally(trained.classes, trained.overlapping, config, pool) if info.labeled else None
        found = _note_cleared(predict_batches(trained, batches, strategy, config.threshold, gate), cleared)
        for batch in found if trained.crop is None else join_tiles(found):
            keys += [key.decode() for key in batch["source_id"]]
            if tally:
                tally.add(batch)
            else:
                _write_predictions(folder / PREDICTIONS_FOLDER, keys[-len(batch["prediction"]) :], batch["prediction"])
            submit(batch)
            report(len(keys))
        check_complete(records, info, config.split, len(keys))
        judged = tally and tally.finish()
    metrics: dict = {"num_examples": len(keys), "threshold": config.threshold}
    if gate is not None:
        of_gate = np.concatenate(cleared)
        metrics |= {"gate": config.gate, "gate_threshold": gate.threshold}
        metrics |= {"num_cleared": int(of_gate.sum()), "num_judged": len(of_gate)}
    if judged:
        metrics |= summarize_all(judged, classes, config.seed)
        table = _write_tables(folder, judged, classes)
        if judged.confusion is not None:
            write_confusion(folder, judged.confusion, trained.classes)
        chosen, scores = _rank(table, config.pictures), dict(zip(table["source_id"], table["dice"], strict=True))
    else:
        chosen, scores = {f"{index + 1:02d}": key for index, key in enumerate(keys[: 3 * config.pictures])}, {}
    write_metrics(folder, metrics)
    _draw(trained, records, info, folder / PICTURES_FOLDER, chosen, config.threshold, scores, gate)
    return metrics


def _count_workers(config: EvalConfig, total: int) -> int:
    if config.workers is not None:
        return config.workers
    return default_workers() if total > _FEW and (config.objects or config.distances) else 0


def _note_cleared(batches: Iterable[dict], cleared: list[np.ndarray]) -> Iterator[dict]:
    """Yields the batches, and adds to the list which of their images or tiles the gate has cleared."""
    for batch in batches:
        if "cleared" in batch:
            cleared.append(batch["cleared"])
        yield batch


def _write_tables(folder: Path, judged: Judged, class_names: list[str]) -> pd.DataFrame:
    """Writes per_image.csv and, where groups have several images, per_group.csv; returns the former."""
    table, groups = per_image_table(judged, class_names), per_group_table(judged, class_names)
    table.to_csv(folder / PER_IMAGE_FILE, index=False)
    if groups is not None:
        groups.to_csv(folder / PER_GROUP_FILE, index=False)
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
