"""python train.py RECORDS RUN [settings]: trains a U-Net, or a classifier, on every GPU there is."""

import os
import sys
from pathlib import Path

import cli
from training.config import TrainConfig


def main() -> int:
    """Parses the command line, builds the parts, connects them."""
    paths, config = cli.parse(
        TrainConfig,
        {"records": "Folder made by `python -m preprocess`.", "run": "Folder for the trained model and its history."},
        "python train.py",
        "Trains a U-Net, or with --task classify a classifier; the same command continues a run that was stopped.",
    )
    from records.info import judged_split, read_info, training_splits

    # Before TensorFlow, whose import takes seconds.
    info = read_info(paths["records"], check_shards=False)  # the run checks, and names what is lost
    training_splits(info, config.input.fold)
    import tensorflow as tf
    from tensorflow import keras

    from model.precision import choose_precision
    from training.cluster import cluster_size
    from training.devices import choose_strategy
    from training.preemption import Preempted
    from training.run import train
    from training.run_folder import RunFolder
    from training.task import make_task
    from training.workers import Workers

    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if (machines := cluster_size()) > 1:
        cli.console.print(f"{'machines':<10} waiting until all {machines} of TF_CONFIG are started; Ctrl-C gives up")
    strategy, reason = choose_strategy(config.virtual_replicas, several_machines=True)
    is_chief = Workers.of(strategy).is_chief
    tell, progress = (cli.console.print, cli.progress) if is_chief else (cli.say_nothing, cli.show_nothing)
    tell(f"{'devices':<10} {strategy.num_replicas_in_sync} replica(s): {reason}")
    policy, reason = choose_precision(config.precision)
    keras.mixed_precision.set_global_policy(policy)
    tell(f"{'precision':<10} {policy}: {reason}")
    run = RunFolder(Path(paths["run"]))
    try:
        state = train(paths["records"], info, run, config, strategy, progress, tell)
    except Preempted as stop:
        cli.console.print(str(stop))
        if machines > 1:
            sys.stdout.flush()
            os._exit(stop.exit_code)  # TensorFlow would wait for the other machines, which may be gone, for up to 20 s
        return stop.exit_code
    score = f"validation {make_task(config, info).title} {state.best_score:.4f}"
    tell(f"{'best':<10} epoch {state.best_epoch + 1}, {score}: {run.model}")
    split = judged_split(info, config.input.fold)
    choice = "" if split == "test" else f" --split {split}"
    tell(f"{'next':<10} python test.py {paths['run']} {paths['records']}{choice}")
    return 0


if __name__ == "__main__":
    cli.run(main)
