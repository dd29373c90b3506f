"""Batch evaluation of a trained run on one split of records."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from evaluation.config import EvalConfig, Progress
from evaluation.examples import check_complete, read_examples, split_batches
from evaluation.folder import PREDICTIONS_FOLDER, clear_folder, write_metrics
from evaluation.judging import Shown, draw_images, judge, rank_images
from evaluation.original import OriginalRecords
from evaluation.pictures import file_name
from evaluation.probability_counts import count_probabilities
from evaluation.raw_images import Place, RawImages, RawJoiner, read_raw_images
from evaluation.scores import Scores
from evaluation.submission import write_submission
from imaging.codec import decode_mask, encode_png
from inference.postprocess import Postprocess, object_splits
from inference.predictor import Batch, Predictor
from records.damage import explain_damage
from records.info import RecordsInfo, read_info
from records.schema import Record, decode_pixels


def evaluate(
    predictor: Predictor, records: str, info: RecordsInfo, folder: Path, config: EvalConfig, progress: Progress
) -> Scores:
    """Writes metrics.json, the files of `judge`, result-image/ and what `write_submission` does into `folder`.

    Returns the metrics.

    Where the records are unlabelled there are no scores: the predicted masks go to predictions/ instead. A model
    trained on crops predicts tiles of their size; images are judged whole all the same. Images, or tiles, that the gate
    clears are not segmented.
    """
    trained, total = predictor.trained, info.splits[config.split].num_examples
    original = _Original(predictor, records, info, config) if config.original else None
    folder.mkdir(parents=True, exist_ok=True)
    files, batches = split_batches(
        records,
        info,
        config.split,
        trained.crop,
        config.batch_size,
        predictor.strategy,
        whole_masks=True,
        overlap=predictor.tile_overlap,
        details=info.labeled,
    )
    watch = _Watch(lambda found: check_complete(records, info, config.split, found))
    measure = count_probabilities(trained.labels, trained.scored_classes)
    with (
        write_submission(folder, predictor, records, info, config) as submit,
        progress("evaluate", total) as report,
        explain_damage(records, info, files),
    ):
        clear_folder(folder)  # not before all settings are known to fit
        if config.submission or original:
            probable = _pass_on(watch.note(predictor.probabilities(batches), report), submit)
            found = original.batches(probable) if original else (predictor.decide(one, measure) for one in probable)
        else:
            found = watch.note(predictor.masks(batches, measure), report)
        if info.labeled:
            scores = judge(_with_splits(found, predictor), info, folder, total, config)
        else:
            scores = {"num_examples": info.splits[config.split].num_examples}
            _write_predictions(folder / PREDICTIONS_FOLDER, found)
    counted = {"num_examples": scores.pop("num_examples")}
    metrics = counted | _thresholds(predictor) | watch.gate_scores(predictor, config) | scores
    write_metrics(folder, metrics)
    if info.labeled:
        chosen = rank_images(folder, config.pictures)
    else:
        chosen = {f"{index + 1:02d}": (key, None) for index, key in enumerate(watch.keys[: 3 * config.pictures])}
    show = original.show if original else _shower(predictor, records, info, [key for key, _ in chosen.values()])
    window = info.stored_window(trained.window)
    # Slices of a CT are no pictures that predict.py or a server would take, nor may contrast be stretched twice.
    unit, transform = (trained.intensity or {}).get("unit"), (trained.intensity or {}).get("transform", "none")
    keep = unit != "HU" and transform == "none"
    draw_images(folder, chosen, show, trained.scored_classes, trained.overlapping, window, keep)
    return metrics


class _Watch:
    """What is known of the records that went by."""

    def __init__(self, check: Callable[[int], None]):
        """Takes what is told at the end how many there were."""
        self.keys: list[str] = []
        self._check = check
        self._cleared: list[np.ndarray] = []

    def note(self, batches: Iterable[Batch], report: Callable[[int], None]) -> Iterator[Batch]:
        """Yields the batches; tells how many records there were."""
        for batch in batches:
            self.keys += [key.decode() for key in batch["source_id"]]
            if "cleared" in batch:
                self._cleared.append(np.ravel(batch["cleared"]))
            yield batch
            report(len(self.keys))
        self._check(len(self.keys))

    def gate_scores(self, predictor: Predictor, config: EvalConfig) -> Scores:
        """Returns how many images or tiles the gate has cleared, in the form of metrics.json."""
        if predictor.gate is None:
            return {}
        cleared = np.concatenate(self._cleared)
        return {
            "gate": config.gate,
            "gate_threshold": predictor.gate.threshold,
            "num_cleared": int(cleared.sum()),
            "num_judged": len(cleared),
        }


class _Original:
    """The split at the raw images' own size."""

    def __init__(self, predictor: Predictor, records: str, info: RecordsInfo, config: EvalConfig):
        if not info.labeled:
            raise ValueError(f"original: expected labelled records to be judged, found {records} without masks")
        self._predictor, self._records, self._dtype = predictor, records, info.dtype
        self._images: RawImages = read_raw_images(records, info, config.split, None, "original")
        self._truth = OriginalRecords(config.original, read_info(config.original, check_shards=False), predictor)

    def batches(self, probable: Iterable[Batch]) -> Iterator[Batch]:
        return self._truth.batches(probable, self._images)

    def show(self, key: str) -> Shown:
        """Predicts a raw image again, from all its records."""
        keys = [own for own, place in self._images.places.items() if place.source == key]
        shown: list[Shown] = []

        def take(place: Place, mask: np.ndarray, _: Postprocess) -> None:
            shown.append(self._truth.show(place, mask))

        joiner = RawJoiner(self._predictor, self._images, take)
        for own, record in read_examples(self._records, keys).items():
            probabilities = self._predictor.image_probabilities(decode_pixels(record, self._dtype))
            joiner.add({"source_id": [own.encode()], "probabilities": [probabilities]})
        joiner.finish()
        return shown[0]


def _pass_on(batches: Iterable[Batch], take: Callable[[Batch], None]) -> Iterator[Batch]:
    for batch in batches:
        take(batch)
        yield batch


def _with_splits(batches: Iterable[Batch], predictor: Predictor) -> Iterator[Batch]:
    """Yields the batches with how touching objects are told apart, where they do not say it."""
    splits = object_splits(predictor.postprocess, predictor.trained.scored_classes)
    for batch in batches:
        yield {"splits": [splits] * len(batch["source_id"])} | batch


def _thresholds(predictor: Predictor) -> Scores:
    """Returns the threshold, in the form of metrics.json: of all classes, or None and each."""
    steps = predictor.describe()
    each = {name: of_class["threshold"] for name, of_class in steps.items()}
    if len(set(each.values())) == 1:
        return {"threshold": next(iter(each.values()))}
    return {"threshold": None, **{f"threshold/{name}": threshold for name, threshold in each.items()}}


def _write_predictions(folder: Path, batches: Iterable[Batch]) -> None:
    folder.mkdir(exist_ok=True)
    for batch in batches:
        for key, prediction in zip(batch["source_id"], batch["prediction"], strict=True):
            (folder / f"{file_name(key.decode())}.png").write_bytes(encode_png(prediction))


def _shower(predictor: Predictor, records: str, info: RecordsInfo, keys: Sequence[str]) -> Callable[[str], Shown]:
    """Returns what shows these records."""
    examples: dict[str, Record] = read_examples(records, list(keys)) if keys else {}

    def show(key: str) -> Shown:
        record = examples[key]
        image = decode_pixels(record, info.dtype)
        return Shown(image, None if record.mask is None else decode_mask(record.mask), predictor.mask(image))

    return show
