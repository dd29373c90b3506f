"""python -m serving.export RUN --to saved_model|onnx|tflite: a trained run in the formats of other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cli


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and how it is compared with the Keras model."""

    to: Literal["saved_model", "onnx", "tflite"]
    """The format: TensorFlow's SavedModel (TensorFlow Serving), ONNX, or TensorFlow Lite."""
    quantize: bool = False
    """Keep weights in 8 bits: a quarter of the size, and probabilities that differ a little. Not of saved_model."""
    out: str | None = None
    """Folder for the export. Null: RUN/export/ and the format."""
    overwrite: bool = False
    """Replace an export that is there."""
    examples: str | None = None
    """What it is compared on: a picture, a scan, a folder, a zip, a pattern or records. Null: made-up images."""
    num_examples: int = 16
    """How many images of these."""
    batch_size: int = 4
    """Images at once, when they are compared."""

    def __post_init__(self):
        if self.quantize and self.to == "saved_model":
            raise ValueError("quantize: expected --to onnx or tflite, found saved_model, which stays float32")
        for name in ("num_examples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")


def main() -> int:
    """Parses the command line, exports, compares, shows; returns 1 where the export differs from the Keras model."""
    paths, config = cli.parse(
        ExportConfig,
        {"run": "Folder made by train.py, of a run that segments."},
        "python -m serving.export",
        "Exports a trained run, and compares the export with the Keras model.",
    )
    from serving.formats.folder import check_free, draft, publish
    from training.run_folder import RunFolder, read_config

    run = RunFolder(Path(paths["run"]))
    read_config(run)  # before TensorFlow, whose import takes seconds
    out = Path(config.out) if config.out else run.path / "export" / (config.to + "-quantized" * config.quantize)
    check_free(out, config.overwrite)
    import tensorflow as tf

    # On the CPU models compute in float32 whatever they were trained in, and so do all exports.
    tf.config.set_visible_devices([], "GPU")
    tf.get_logger().setLevel("ERROR")  # the converters use what TensorFlow calls deprecated
    from inference.config import PredictConfig
    from inference.predictor import load_predictor
    from serving.formats.comparison import compare, comparison_table, keras_model
    from serving.formats.formats import export
    from serving.formats.graph import check_exportable

    predictor = load_predictor(paths["run"], PredictConfig(), tf.distribute.get_strategy())
    check_exportable(predictor.trained, paths["run"])
    examples, described = _examples(config, predictor.trained)
    with draft(out) as folder:
        exports = export(predictor, config.to, config.quantize, folder, examples.stretched)
        reference = keras_model(predictor, run.model.stat().st_size)
        compared = compare(predictor, reference, exports, examples, config.batch_size)
        cli.console.print(comparison_table(compared, f"{config.to} on {described}, {config.batch_size} at once"))
        if wrong := [row for row in compared if not row.is_right]:
            cli.console.print(f"failed    {out} was not written: {wrong[0].exported.name} differs from the Keras model")
            return 1
        publish(folder, out, config.overwrite)
    cli.console.print(f"written   {out}")
    return 0


def _examples(config: ExportConfig, trained):
    """Returns the examples, and what they are in words."""
    from serving.formats.examples import make_up_examples, read_examples

    if config.examples is None:
        return make_up_examples(trained, config.num_examples), f"{config.num_examples} made-up images"

    def fail(source, reason):
        cli.console.print(f"failed    {source.where}: {reason}")

    examples = read_examples([config.examples], trained, config.num_examples, fail)
    return examples, f"{len(examples.files)} images of {config.examples}"


if __name__ == "__main__":
    cli.run(main)
