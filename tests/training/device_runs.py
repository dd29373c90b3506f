"""Run by test_gpu.py in a process of its own: memory growth and logical devices are set before TensorFlow's first use.

python device_runs.py CPU|GPU RECORDS FOLDER writes FOLDER/result.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.precision import choose_precision
from records.info import read_info
from tests.conftest import silent_progress
from tests.training.events import step_losses
from tests.training.runs import interrupt_at
from training.config import TrainConfig
from training.devices import choose_strategy
from training.optimizer_config import OptimizerConfig
from training.run import train
from training.run_folder import RunFolder
from training.run_input import distribute, open_input
from training.workers import Workers

# Adam would make a whole step of a gradient that is nothing but rounding. Batch normalisation has statistics of its own
# on each replica, and dropout another seed.
CONFIG = TrainConfig(
    epochs=4,
    global_batch_size=4,
    learning_rate=0.02,
    checkpoint_minutes=0,
    model=ModelConfig(depth=2, filters=4, norm="none", dropout=0.0),
    optimizer=OptimizerConfig(name="sgd"),
)


def main(device: str, records: str, folder: Path) -> None:
    """Trains in float32 on one device, on all, interrupted; and in 16 bit."""
    strategy, _ = choose_strategy(2 if device == "CPU" else None)
    one = tf.distribute.get_strategy()
    tf.config.experimental.enable_tensor_float_32_execution(False)  # with it float32 has 10 bits on GPUs
    info = read_info(records)
    policies = ["mixed_bfloat16", "mixed_float16"] if device == "CPU" else [choose_precision("auto")[0]]

    def run(name: str, where=one, policy: str = "float32", progress=silent_progress) -> dict:
        keras.mixed_precision.set_global_policy(policy)
        target, config = RunFolder(folder / name), replace(CONFIG, precision=policy)
        state = train(records, info, target, config, where, progress, lambda line: None)
        return {"losses": [*step_losses(target.tensorboard).values()], "history": state.history}

    runs = {"one": run("one"), "all": run("all", strategy)}
    runs |= {policy: run(policy, policy=policy) for policy in policies if policy != "float32"}
    try:
        run("resumed", progress=interrupt_at(2))
    except KeyboardInterrupt:
        runs["resumed"] = run("resumed")
    result = {
        "runs": runs,
        "num_devices": strategy.num_replicas_in_sync,
        "places": {"one": places(one, records, info, folder), "all": places(strategy, records, info, folder)},
    }
    (folder / "result.json").write_text(json.dumps(result))


def places(strategy: tf.distribute.Strategy, records: str, info, folder: Path) -> list[str]:
    """Returns on which device each replica's part of a batch lies before a step asks for it."""
    workers, run = Workers.of(strategy), RunFolder(folder / "input")
    with open_input(records, info, run, CONFIG, workers, silent_progress, lambda line: None) as data:
        batch = next(iter(distribute(workers, data.training_batches(0, 0))))
    return [part.device.rpartition("device:")[2] for part in strategy.experimental_local_results(batch["image"])]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
