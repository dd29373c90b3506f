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
    from training.run_folder import RunFolder, read_config

    run = RunFolder(Path(paths["run"]))
    for member in (paths["run"], *config.ensemble):
        read_config(RunFolder(Path(member)))
    sources = find_sources(paths["inputs"])  # before TensorFlow, whose import takes seconds
    from inference.images import predict_images
    from inference.inputs.frames import read_frames
    from inference.outputs.table import write_failed
    from inference.outputs.writing import Outputs
    from inference.predictor import add_gate, load_predictor
    from training.devices import choose_strategy

    predictor = load_predictor(paths["run"], config, choose_strategy(config.virtual_replicas)[0])
    if config.gate:
        predictor = add_gate(predictor, config.gate, run)
    failed: list[tuple[str, str]] = []

    def fail(source, reason: str) -> None:
        cli.console.print(f"{'failed':<10} {source.where}: {reason}")
        failed.append((source.where, reason))

    folder, done = Path(config.out), itertools.count(1)
    frames = read_frames(sources, predictor.trained, fail)
    with cli.progress("predict", len(sources)) as report, Outputs(folder, config.save, predictor, fail) as outputs:
        images = ((frame, frame.pixels) for frame in frames)
        for frame, probabilities, cleared in predict_images(predictor, images, config.batch_size):
            outputs.write(frame, probabilities, cleared)
            if frame.scan is None or frame.index == frame.scan.num_slices - 1:
                report(next(done))
    cli.console.print(f"{'written':<10} {folder}/predictions.csv and {', '.join(config.save)}")
    if failed:
        cli.console.print(f"{'failed':<10} {len(failed)} of {len(sources)} files, see {write_failed(folder, failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    cli.run(main)
