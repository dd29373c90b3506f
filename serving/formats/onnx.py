"""ONNX, for ONNX Runtime and what else reads it: from pixels to probabilities."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tf2onnx
from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from inference.run import TrainedModel
from serving.formats.graph import input_size, probabilities_function

FILE = "model.onnx"

OPSET = 18
"""The newest that tf2onnx 1.16 writes."""

QUANTIZED = "weights and what goes into convolutions in 8 bits, scaled anew for every batch (dynamic quantization)"


def write_onnx(trained: TrainedModel, folder: Path, quantize: bool) -> None:
    """Writes FILE: "pixels" [batch, height, width, channels] of the records' dtype -> "probabilities" float32.

    Any batch; height and width are those of `input_size`.

    Args:
      trained: the run.
      folder: that exists.
      quantize: see QUANTIZED.

    Raises:
      ValueError: the network has an operation that ONNX has not.
    """
    predict = probabilities_function(trained, trained.model, *input_size(trained), trained.dtype)
    logging.getLogger("tf2onnx").setLevel("CRITICAL")  # it tells errors in several lines, the checker in one
    path = folder / FILE
    try:
        # tf2onnx' own way from functions takes constants that Keras holds as tensors for further inputs.
        frozen = convert_variables_to_constants_v2(predict.get_concrete_function())
        names = {frozen.inputs[0].name: "pixels", frozen.outputs[0].name: "probabilities"}
        converted, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[frozen.inputs[0].name],
            output_names=[frozen.outputs[0].name],
            opset=OPSET,
            tensors_to_rename=names,
        )
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"onnx: the network has an operation that ONNX has not: {reason}") from error
    onnx.save(converted, path)
    if quantize:
        whole, prepared = path.rename(folder / "float.onnx"), folder / "prepared.onnx"
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # the shapes are known, and SymPy is not here
        # ONNX Runtime convolves 8 bits on CPUs only with unsigned weights.
        quantize_dynamic(prepared, path, weight_type=QuantType.QUInt8)
        whole.unlink()
        prepared.unlink()


def load_onnx(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what gives probabilities of pixels, by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"pixels": images})[0]
