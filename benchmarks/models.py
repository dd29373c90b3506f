"""python -m benchmarks.models: parameters, arithmetic and speed of the networks to choose from."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

import cli
from model.config import ModelConfig

NETWORKS: dict[str, dict[str, Any]] = {
    "U-Net": {},
    "U-Net, 32 filters": {"filters": 32},
    "attention U-Net": {"attention": True},
    "U-Net++": {"decoder": "unetpp"},
    "residual U-Net": {"encoder": "residual"},
    **{
        name: {"encoder": name, "depth": 5}
        for name in (
            "resnet34",
            "resnet50v2",
            "efficientnetv2b0",
            "efficientnetv2b1",
            "efficientnetv2b2",
            "efficientnetv2b3",
            "efficientnetv2s",
            "efficientnetv2m",
            "mobilenetv3small",
            "mobilenetv3large",
            "convnexttiny",
        )
    },
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    networks: list[str] = field(default_factory=lambda: list(NETWORKS))
    """Names of the table's rows to measure."""
    recipe: str | None = None
    """Path of a recipe of train.py: measure its network alone."""
    size: int = 256
    """Height and width of images."""
    batch_size: int = 4
    """Images per step."""
    repeats: int = 3
    """Steps that are timed, behind one that is not; medians count."""

    def __post_init__(self):
        if unknown := set(self.networks) - set(NETWORKS):
            raise ValueError(f"networks: expected some of {', '.join(NETWORKS)}, found {', '.join(sorted(unknown))}")


def measure(config: BenchmarkConfig, settings: ModelConfig) -> tuple[int, float, float, float, float]:
    """Returns (parameters, GFLOPs of an image, MiB of its activations, images/s of prediction, images/s of a training
    step with Adam)."""
    import tensorflow as tf
    from tensorflow import keras

    from model.labels import Labels
    from model.unet import build_unet

    model = build_unet(settings, 3, Labels(2), [128.0] * 3, [64.0] * 3, seed=0)
    flops, activations = count_flops(model, config.size), count_activations(model, config.size)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    images = tf.random.stateless_uniform([config.batch_size, config.size, config.size, 3], [0, 0], maxval=255)

    @tf.function
    def predict():
        return tf.reduce_sum(model(images, training=False))

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(images, training=True)))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    predicted, trained = (config.batch_size / _median_seconds(step, config.repeats) for step in (predict, train))
    return model.count_params(), flops / 1e9, 2 * activations / 2**20, predicted, trained


def count_flops(model, size: int) -> int:
    """Returns multiplications and additions of all convolutions and dense layers for an image of that size."""
    from tensorflow import keras

    def flops(layer, inputs, outputs) -> int:
        # A transposed convolution uses its kernel [k, k, out, in] once an input pixel, others once an output pixel.
        transposed = isinstance(layer, keras.layers.Conv2DTranspose)
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = layer.depthwise_kernel if depthwise else layer.kernel
        shape = inputs.shape if transposed else outputs.shape
        return 2 * (shape.num_elements() // shape[-1]) * kernel.shape.num_elements()

    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)  # Conv2D: transposed ones too
    return _sum_over_layers(model, size, lambda layer: isinstance(layer, kinds), flops)


def count_activations(model, size: int) -> int:
    """Returns the numbers that all layers give out for an image of that size, and training keeps for the way back."""
    from tensorflow import keras

    return _sum_over_layers(
        model,
        size,
        lambda layer: isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model),
        lambda _, inputs, outputs: 0 if outputs is inputs else outputs.shape.num_elements(),
    )


def _sum_over_layers(model, size: int, wanted: Callable[[Any], bool], value: Callable[..., int]) -> int:
    """Returns the sum of value(layer, inputs, outputs) over the wanted layers, for an image of that size."""
    import tensorflow as tf

    counted = []

    def watch(layer):
        call = layer.call

        def watched(inputs, *args, **kwargs):
            outputs = call(inputs, *args, **kwargs)
            counted.append(value(layer, inputs, outputs))
            return outputs

        layer.call = watched
        return lambda: setattr(layer, "call", call)

    undo = [watch(layer) for layer in model.submodules if wanted(layer)]
    tf.function(lambda images: model(images, training=False)).get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    for restore in undo:
        restore()
    return sum(counted)


def _median_seconds(step: Callable, repeats: int) -> float:
    float(step())  # traces
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        float(step())  # waits for the result
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _read_recipe(path: str) -> ModelConfig:
    from training.config import TrainConfig

    return cli.parse(TrainConfig, {}, "recipe", "", ["--config", path])[1].model


def main() -> None:
    """Parses the command line, measures, prints."""
    from tensorflow import keras

    _, config = cli.parse(
        BenchmarkConfig, {}, "python -m benchmarks.models", "Parameters, arithmetic and speed of the networks."
    )
    table = Table(title=f"{config.batch_size} images of {config.size}x{config.size}, {os.cpu_count()} CPUs")
    for heading in ("network", "parameters", "GFLOPs", "MiB, 16 bit", "predict, images/s", "train, images/s"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    networks = {name: ModelConfig(**NETWORKS[name]) for name in config.networks}
    if config.recipe:
        networks = {Path(config.recipe).stem: _read_recipe(config.recipe)}
    for name, settings in networks.items():
        parameters, *numbers = measure(config, settings)
        table.add_row(name, f"{parameters / 1e6:.2f} M", *(f"{number:.1f}" for number in numbers))
        keras.backend.clear_session()
    cli.console.print(table)


if __name__ == "__main__":
    cli.run(main)
