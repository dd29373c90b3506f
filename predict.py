"""python predict.py RUN INPUT... --out DIR: masks of pictures, scans and records, by a trained run."""

import itertools
from functools import partial
from pathlib import Path

import cli
from inference.config import FilesConfig


def main() -> int:
    """Parses the command line, reads, predicts, writes; returns 1 where a file failed."""
    paths, config = cli.parse(
        FilesConfig,
        {
            "run": "Folder made by train.py.",
            "inputs": "Pictures, CT scans (NIfTI), folders, zips, patterns, or records.",
        },
        "python predict.py",
        "Predicts masks of pictures, scans and records.",
        several="inputs",
    )
    from training.run_folder import RunFolder, read_config

    # Before TensorFlow, whose import takes seconds.
    run, folder = RunFolder(Path(paths["run"])), Path(config.out)
    for member in (paths["run"], *config.ensemble):
        read_config(RunFolder(Path(member)))
    if not (there := next(path for path in (folder, *folder.parents) if path.exists())).is_dir():
        raise ValueError(f"out: expected a folder, found the file {there}")
    sources, submission = _find(paths["inputs"], config)
    from inference.images import predict_images
    from inference.inputs.frames import read_frames
    from inference.large.sources import divide, left_out, predict_source
    from inference.outputs.submission import Submission, check_model
    from inference.outputs.table import write_failed
    from inference.outputs.writing import Outputs
    from inference.segmenter import load_segmenter

    predictor, more = load_segmenter(run, config), []
    if submission:
        check_model(predictor.trained, submission[0])
        more = [Submission(folder, predictor.trained, *submission)]
    failed: dict[str, str] = {}

    def fail(source, reason: str) -> None:
        if source.where not in failed:  # once for all slices of a scan
            failed[source.where] = reason
            cli.console.print(f"{'failed':<10} {source.where}: {reason}")

    in_parts = predictor.trained.tile is not None and not config.sample
    small, large = divide(sources, config.large_mpx, fail) if in_parts else (sources, [])
    for sentence in left_out(predictor, config.save) if large else []:
        cli.console.print(f"{'large':<10} {sentence}")
    done = itertools.count(1)
    images = ((frame, frame.pixels) for frame in read_frames(small, predictor.trained, fail))
    total = sum(source.images for source in sources)
    with cli.progress("predict", total) as report, Outputs(folder, config.save, predictor, fail, more) as outputs:
        for frame, probabilities, cleared in predict_images(predictor, images, config.batch_size):
            outputs.write(frame, probabilities, cleared)
            if frame.scan is None or frame.index == frame.scan.num_slices - 1:
                report(next(done))
        for number, source in enumerate(large, next(done)):
            if row := predict_source(source, predictor, config, partial(report, number - 1), fail):
                outputs.add_row(row)
                report(number)
    table = write_failed(folder, failed.items())
    kinds = config.save if len(failed) < total else []
    written = ", ".join(["predictions.csv", *kinds, *(["submission.csv"] if config.sample else [])])
    cli.console.print(f"{'written':<10} {folder}: {written}")
    if failed:
        cli.console.print(f"{'failed':<10} {len(failed)} of {total}, see {table}")
    return int(bool(failed))


def _find(inputs: list[str], config: FilesConfig):
    """Returns (what is named, for a submission that of its sample alone; of a submission form, ids and images)."""
    from inference.inputs.sources import find_sources
    from inference.outputs.forms import FORMS, match_images, tell_form

    if any(Path(one).resolve() == Path(config.out).resolve() for one in inputs):
        raise ValueError(
            f"out: expected another folder than the inputs', found {config.out}; nothing in it is an input"
        )
    sources = find_sources(inputs, leave_out=config.out)
    if not config.sample:
        return sources, None
    form, ids = tell_form(config.sample)
    images = match_images(sources, FORMS[form], ids, config.sample)
    others = len(sources) - len(images)
    cli.console.print(f"{config.to:<10} of {form}; left out {others} inputs that are not of the sample")
    return [source for source in sources if source.where in images], (form, ids, images)


if __name__ == "__main__":
    cli.run(main)
