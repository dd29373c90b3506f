"""python test.py RUN RECORDS [settings]: judges a trained run on held-out shards."""

import os
from pathlib import Path

import cli

# Before TensorFlow is imported, by anything: its notes on CPU instructions and CUDA libraries help nobody here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from evaluation.config import EvalConfig


def main() -> None:
    """Parses the command line, builds the parts, connects them."""
    paths, config = cli.parse(
        EvalConfig,
        {"run": "Folder made by train.py.", "records": "Folder made by `python -m preprocess`."},
        "python test.py",
        "Evaluates a trained run in batch on held-out shards.",
    )
    from evaluation.evaluator import METRICS_FILE, PICTURES_FOLDER, PREDICTIONS_FOLDER, evaluate
    from evaluation.table import score_table
    from inference.predictor import check_fits, load_run
    from records.info import read_info
    from training.devices import choose_strategy
    from training.run_folder import RunFolder

    run = RunFolder(Path(paths["run"]))
    # Other splits may be damaged; what is wrong with this one is found when it is read.
    info = read_info(paths["records"], check_shards=False)
    info.shards(config.split)
    strategy, _ = choose_strategy(config.virtual_replicas)
    with strategy.scope():
        trained = load_run(run)
    check_fits(trained, info, paths["run"], paths["records"])
    folder = run.evaluation(config.split)
    metrics = evaluate(trained, paths["records"], info, folder, config, strategy, cli.progress)
    if info.labeled:
        cli.console.print(score_table(metrics, f"{paths['run']} on {paths['records']}, split {config.split}"))
        cli.console.print(f"scores    {folder / METRICS_FILE}")
    else:
        cli.console.print(f"the records are unlabelled: {metrics['num_examples']} predictions, no scores")
        cli.console.print(f"masks     {folder / PREDICTIONS_FOLDER} (of the records' size, values as in the records)")
    cli.console.print(f"pictures  {folder / PICTURES_FOLDER}")


if __name__ == "__main__":
    cli.run(main)
