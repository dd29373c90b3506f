"""The formats by name: each written, described, and loaded again."""

from pathlib import Path

from inference.predictor import Predictor
from serving.formats.comparison import TOLERANCE, Exported
from serving.formats.folder import folder_size, write_metadata
from serving.formats.graph import describe


def export(predictor: Predictor, name: str, quantize: bool, folder: Path, stretched: bool) -> list[Exported]:
    """Writes a run in a format, and returns what was written as it is when loaded again.

    Args:
      predictor: the run.
      name: "saved_model", "onnx" or "tflite".
      quantize: whether weights are kept in 8 bits; not of "saved_model".
      folder: new and empty.
      stretched: whether image files, on which it is compared, have other sizes than the model: their probabilities may
        differ then.

    Raises:
      ValueError: the run cannot be had in this format.
    """
    # Inside: each of these libraries takes seconds.
    if name == "saved_model":
        from serving.formats.saved_model import load_saved_model, write_saved_model

        write_saved_model(predictor, folder)
        from_pixels, from_files = load_saved_model(folder)
        size, quantized = folder_size(folder), None
        exports = [Exported("saved_model pixels", from_pixels, "pixels", size, TOLERANCE)]
        if predictor.trained.tile is None or not predictor.trained.stretched:  # else files are larger than tiles
            tolerance = None if stretched else TOLERANCE
            exports.append(Exported("saved_model files", from_files, "files", size, tolerance))
    else:
        if name == "onnx":
            from serving.formats.onnx import QUANTIZED, load_onnx, write_onnx

            write, load = write_onnx, load_onnx
        else:
            from serving.formats.tflite import QUANTIZED, load_tflite, write_tflite

            write, load = write_tflite, load_tflite
        write(predictor.trained, folder, quantize)
        quantized = QUANTIZED if quantize else None
        title = f"{name} quantized" if quantize else name
        exports = [Exported(title, load(folder), "pixels", folder_size(folder), None if quantize else TOLERANCE)]
    write_metadata(folder, describe(predictor, name, quantized))
    return exports
