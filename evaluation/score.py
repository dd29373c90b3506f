"""python -m evaluation.score RECORDS PREDICTIONS: scores of masks that any other tool made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cli
from evaluation.config import ScoreConfig
from evaluation.folder import EVALUATED_FILE


@dataclass(frozen=True)
class ForeignConfig(ScoreConfig):
    """How another tool's predictions are judged."""

    split: str = "test"
    """Which split of the records."""
    instances: bool = False
    """Of PNG files: their values number objects, so that those that touch stay apart; else they are classes, as in the
    records' masks."""
    missing: Literal["error", "empty"] = "error"
    """Of a folder: what a record without a file is; empty: one for which nothing was predicted."""
    out: str | None = None
    """Folder for scores and pictures. Null: beside the predictions, of their name with -scores behind."""


def main() -> None:
    """Parses the command line, connects the parts, tells."""
    paths, config = cli.parse(
        ForeignConfig,
        {
            "records": "Folder made by `python -m preprocess`: the truth.",
            "predictions": "Folder of PNG masks called as the records' keys or raw images, or a CSV file of run-length "
            "code (ImageId,EncodedPixels or Image_Label,EncodedPixels).",
        },
        "python -m evaluation.score",
        "Scores masks that another tool made, as test.py does those of a run.",
    )
    from evaluation.folder import METRICS_FILE, PICTURES_FOLDER, write_evaluated_predictions
    from evaluation.foreign.scoring import score_predictions
    from evaluation.report.build import write_report
    from evaluation.terminal import score_table
    from records.info import read_info

    records, predictions = paths["records"], Path(paths["predictions"])
    info = read_info(records, check_shards=False)
    info.shards(config.split)
    if not info.labeled:
        raise ValueError(f"{records}: expected labelled records, the truth, found some without masks")
    folder = _choose_folder(predictions, config)
    predict = _open_predictions(predictions, records, info, config)
    tell = cli.console.print
    metrics, digest = score_predictions(predict, records, info, config.split, folder, config, cli.progress)
    tell(score_table(metrics, f"{predictions} on {records}, split {config.split}"))
    write_evaluated_predictions(folder, info, predictions.resolve().name, digest, config)
    tell(f"scores    {folder / METRICS_FILE}")
    tell(f"pictures  {folder / PICTURES_FOLDER}")
    tell(f"report    {write_report(folder)}")


def _choose_folder(predictions: Path, config: ForeignConfig) -> Path:
    """Returns the folder of the evaluation.

    Raises:
      ValueError: there are no predictions, or files of the one would be among those of the other.
    """
    if not predictions.exists():
        raise ValueError(f"{predictions}: expected a folder of masks or a CSV file, found nothing of this name")
    named = predictions if predictions.name not in ("", "..") else predictions.resolve()
    name = named.name if named.is_dir() else named.stem
    folder = Path(config.out) if config.out else named.with_name(f"{name}-scores")
    inside, outside = folder.resolve(), predictions.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise ValueError(
            f"out: expected a folder apart from the predictions, found {folder} and {predictions}, one in the other; "
            "choose another --out"
        )
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise ValueError(
            f"out: expected a new folder, or one that this command has filled before, found {folder} with other files; "
            "choose another --out"
        )
    return folder


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds scores of predictions, which are written anew."""
    try:
        return "predictions" in json.loads((folder / EVALUATED_FILE).read_text())
    except (OSError, ValueError, TypeError):
        return False


def _open_predictions(predictions: Path, records: str, info, config: ForeignConfig):
    """Returns what gives the prediction of a record."""
    from evaluation.foreign.codes import read_codes
    from evaluation.foreign.masks import read_masks
    from evaluation.foreign.names import RecordNames

    def tell(line: str) -> None:
        cli.console.print(f"note      {line}")

    names = RecordNames(records, config.split)
    if predictions.is_dir():
        return read_masks(predictions, names, info, config.instances, config.missing == "empty", tell)
    if config.instances:
        raise ValueError(
            f"instances: expected a folder of PNG files with it, found {predictions}, whose rows are objects as it is"
        )
    return read_codes(predictions, names, info, tell)


if __name__ == "__main__":
    cli.run(main)
