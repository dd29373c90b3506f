"""Run by test_replicas.py in a process of its own: the CPU can be split before TensorFlow's first use of it only.

python two_replicas.py RECORDS FOLDER NAME trains one of RUNS (of "plain" all else is done, too);
writes FOLDER/result.json.
"""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import tensorflow as tf

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from inference.gate import Gate
from inference.predictor import Predictor
from inference.run import load_run
from model.config import AugmentConfig, ModelConfig
from records.config import InputConfig
from records.info import read_info
from tests.training.events import step_losses
from tests.training.runs import interrupt_at
from tests.training.scans import write_scans
from training.config import TrainConfig
from training.devices import choose_strategy
from training.run import train
from training.run_folder import RunFolder

# Batch normalisation has statistics of its own on each replica, and dropout and noise another seed.
PLAIN = ModelConfig(depth=1, filters=2, norm="none", dropout=0.0)
RUNS = {
    "plain": TrainConfig(epochs=2, global_batch_size=4, model=PLAIN, augment=AugmentConfig.none()),
    "augmented": TrainConfig(epochs=2, global_batch_size=4, model=PLAIN),
    "overlapping": TrainConfig(epochs=2, global_batch_size=4, model=PLAIN, input=InputConfig(fold=1)),
    "classify": TrainConfig(epochs=2, global_batch_size=4, task="classify", model=PLAIN, input=InputConfig(crop=16)),
    "random": TrainConfig(epochs=2, global_batch_size=4, model=ModelConfig(depth=1, filters=2, noise=0.1)),
}


@contextlib.contextmanager
def silent_progress(label, total):
    yield lambda done, words="": None


def gate_by_brightness(average: float, strategy: tf.distribute.Strategy) -> Gate:
    """Returns a gate that clears images which are darker than the average in their first channel."""
    with strategy.scope():
        images = tf.keras.Input([None, None, 3])
        mean = tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(images[..., :1])
        return Gate(tf.keras.Model(images, tf.keras.layers.Rescaling(0.1, -0.1 * average)(mean)), threshold=0.5)


def train_on_two_then_on_one(records: str, run: RunFolder, strategies: dict) -> dict:
    """Returns what was told, and the losses of all steps, of which two replicas took the first five."""
    told = []
    config = dataclasses.replace(RUNS["plain"], checkpoint_minutes=0)
    how = (records, read_info(records), run, config)
    with contextlib.suppress(KeyboardInterrupt):
        train(*how, strategies[2], interrupt_at(2), told.append)
    train(*how, strategies[1], silent_progress, told.append)
    return {"told": told, "losses": step_losses(run.tensorboard)}


def main(records: str, folder: Path, name: str) -> None:
    strategies = {2: choose_strategy(2)[0], 1: tf.distribute.get_strategy()}
    assert [strategies[count].num_replicas_in_sync for count in (1, 2)] == [1, 2]
    result = {"losses": {}, "history": {}, "metrics": {}}
    source = records
    if name == "overlapping":
        source = str(folder / "scans")
        write_scans(Path(source))
    for count in (2,) if name == "random" else (1, 2):
        run, how = RunFolder(folder / f"{name}-{count}"), (strategies[count], silent_progress, lambda line: None)
        state = train(source, read_info(source), run, RUNS[name], *how)
        result["losses"][f"{name}-{count}"] = list(step_losses(run.tensorboard).values())
        result["history"][f"{name}-{count}"] = state.history
    if name == "plain":
        add_others(result, records, folder, strategies)
    (folder / "result.json").write_text(json.dumps(result))


def add_others(result: dict, records: str, folder: Path, strategies: dict) -> None:
    """Adds a run that moves from two replicas to one, and evaluations of the one that was trained."""
    info = read_info(records)
    result["moved"] = train_on_two_then_on_one(records, RunFolder(folder / "moved"), strategies)
    for count, strategy in strategies.items():
        with strategy.scope():
            trained = load_run(RunFolder(folder / "plain-1"))
        predictor = Predictor(trained, strategy)
        for batch_size in (1, 7, 32):
            config = EvalConfig(split="train", batch_size=batch_size, pictures=0)
            where = folder / f"eval-{count}-{batch_size}"
            result["metrics"][where.name] = evaluate(predictor, records, info, where, config, silent_progress)
            where, gate = folder / f"gated-{count}-{batch_size}", gate_by_brightness(info.mean[0], strategy)
            gated = dataclasses.replace(predictor, gate=gate)
            result["metrics"][where.name] = evaluate(gated, records, info, where, config, silent_progress)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
