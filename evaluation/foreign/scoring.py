"""From another tool's predictions to the files of an evaluation, one record at a time."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evaluation.config import Progress, ScoreConfig
from evaluation.examples import check_complete, read_examples
from evaluation.folder import clear_folder, write_metrics
from evaluation.foreign.masks import Prediction
from evaluation.judging import Shown, draw_images, judge, rank_images
from evaluation.scores import Scores
from evaluation.tally import batch_of_one
from imaging.codec import decode_mask
from records.info import RecordsInfo
from records.schema import Record, decode, decode_pixels
from records.shards import read_shard


def score_predictions(
    predict: Callable[[Record], Prediction],
    records: str,
    info: RecordsInfo,
    split: str,
    folder: Path,
    config: ScoreConfig,
    progress: Progress,
) -> tuple[Scores, str]:
    """Writes metrics.json, the files of `judge` and result-image/; returns (the metrics, SHA-256 of the predictions).

    Args:
      predict: from a record to what was predicted for it.
      records, info: truth, labelled.
      split: of the records.
      folder: where files go; those of an earlier evaluation are taken away.
      config: settings.
      progress: told how many records are done.
    """
    clear_folder(folder)
    digest, keys = hashlib.sha256(), []
    total = info.splits[split].num_examples

    def batches(report: Callable[[int], None]) -> Iterator[dict]:
        for file in info.shard_files(records, [split]):
            for serialized in read_shard(file.path):
                record = decode(serialized)
                found = predict(record)
                for array in filter(lambda array: array is not None, found):
                    digest.update(f"{record.source_id}\0{array.dtype}{array.shape}\0".encode())
                    digest.update(array.tobytes())
                keys.append(record.source_id)
                yield batch_of_one(record, found.mask) | {"found_instances": [found.objects]}
                report(len(keys))
        check_complete(records, info, split, len(keys))

    with progress("score", total) as report:
        scores = judge(batches(report), info, folder, total, config)
    metrics = {"num_examples": len(keys), **scores}
    write_metrics(folder, metrics)
    classes = {index: info.classes[index] for index in info.scored_classes}

    def show(key: str) -> Shown:
        record = read_examples(records, [key])[key]
        return Shown(decode_pixels(record, info.dtype), decode_mask(record.mask), predict(record).mask)

    draw_images(folder, rank_images(folder, config.pictures), show, classes, info.overlapping)
    return metrics, digest.hexdigest()
