"""python predict.py RUN INPUT... --out DIR: masks of pictures, scans and records, by a trained run."""

import itertools
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
    from inference.inputs.sources import find_sources
    from inference.outputs.forms import FORMS, match_images, tell_form
    from training.run_folder import RunFolder, read_config

    # Before TensorFlow, whose import takes seconds.
    run, folder = RunFolder(Path(paths["run"])), Path(config.out)
    for member in (paths["run"], *config.ensemble):
        read_config(RunFolder(Path(member)))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: expected a folder, found the file {folder}")
    sources = find_sources(paths["inputs"], leave_out=config.out)
    if config.sample:
        form, ids = tell_form(config.sample)
        images = match_images(sources, FORMS[form], ids, config.sample)
        others = len(sources) - len(images)
        sources = [source for source in sources if source.where in images]
        cli.console.print(f"{config.to:<10} of {form}; left out {others} inputs that are not of the sample")
    from inference.images import predict_images
    from inference.inputs.frames import read_frames
    from inference.outputs.submission import Submission, check_model
    from inference.outputs.table import write_failed
    from inference.outputs.writing import Outputs
    from inference.predictor import add_gate, load_predictor
    from training.devices import choose_strategy

    predictor = load_predictor(paths["run"], config, choose_strategy(config.virtual_replicas)[0])
    if predictor.trained.task != "segment":
        raise ValueError(f"{run.path}: expected a run that segments, found one of --task {predictor.trained.task}")
    if config.gate:
        predictor = add_gate(predictor, config.gate, run)
    more = []
    if config.sample:
        check_model(predictor.trained, form)
        more = [Submission(folder, predictor.trained, form, ids, images)]
    failed: dict[str, str] = {}

    def fail(source, reason: str) -> None:
        if source.where not in failed:  # once for all slices of a scan
            failed[source.where] = reason
            cli.console.print(f"{'failed':<10} {source.where}: {reason}")

    done = itertools.count(1)
    images = ((frame, frame.pixels) for frame in read_frames(sources, predictor.trained, fail))
    total = sum(source.images for source in sources)
    with cli.progress("predict", total) as report, Outputs(folder, config.save, predictor, fail, more) as outputs:
        for frame, probabilities, cleared in predict_images(predictor, images, config.batch_size):
            outputs.write(frame, probabilities, cleared)
            if frame.scan is None or frame.index == frame.scan.num_slices - 1:
                report(next(done))
    table = write_failed(folder, failed.items())
    written = ", ".join(["predictions.csv", *config.save, *(["submission.csv"] if config.sample else [])])
    cli.console.print(f"{'written':<10} {folder}: {written}")
    if failed:
        cli.console.print(f"{'failed':<10} {len(failed)} of {total}, see {table}")
    return int(bool(failed))


if __name__ == "__main__":
    cli.run(main)
