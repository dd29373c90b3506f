"""python test.py RUN RECORDS [settings]: judges a trained run on held-out shards."""

from pathlib import Path

import cli
from evaluation.config import EvalConfig


def main() -> None:
    """Parses the command line, builds the parts, connects them."""
    paths, config = cli.parse(
        EvalConfig,
        {"run": "Folder made by train.py.", "records": "Folder made by `python -m preprocess`."},
        "python test.py",
        "Evaluates a trained run in batch on held-out shards.",
    )
    from records.info import read_info
    from training.run_folder import RunFolder, read_config

    # Before TensorFlow, whose import takes seconds. Other splits may be damaged; what is wrong with this one is found
    # when it is read.
    run, tell = RunFolder(Path(paths["run"])), cli.console.print
    read_config(run)
    info = read_info(paths["records"], check_shards=False)
    info.shards(config.split)
    from evaluation.evaluator import evaluate
    from evaluation.folder import METRICS_FILE, PICTURES_FOLDER, PREDICTIONS_FOLDER, write_evaluated
    from evaluation.gating import open_gate
    from evaluation.report.build import write_report
    from evaluation.table import gate_line, score_table
    from inference.predictor import check_fits, load_run
    from training.devices import choose_strategy

    strategy, _ = choose_strategy(config.virtual_replicas)
    with strategy.scope():
        trained = load_run(run)
        classifier = load_run(RunFolder(Path(config.gate))) if config.gate else None
    tell(f"precision {trained.precision}")
    check_fits(trained, info, paths["run"], paths["records"])
    # Beside the scores without the gate, so that they can be compared.
    folder = run.evaluation(f"{config.split}-gate" if config.gate else config.split)
    what = (paths["records"], info)
    identity = (info.name, info.fingerprint, run.model.name, trained.digest, config)
    title = f"{paths['run']} on {paths['records']}, split {config.split}"
    how = (config, strategy, cli.progress)
    if trained.task == "classify":
        if classifier:
            raise ValueError(f"gate: expected a run that segments, to be gated, found {run.path} of --task classify")
        _judge_classifier(trained, what, folder, how, identity, title)
        return
    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be written, no time is spent on a gate
    gate, tuned = open_gate(trained, classifier, *what, run.gate, *how) if classifier else (None, None)
    metrics = evaluate(trained, *what, folder, *how, gate)
    write_evaluated(folder, *identity)
    if info.labeled:
        tell(score_table(metrics, title))
    if gate:
        tell(f"gate      {gate_line(metrics, tuned, 'tiles' if trained.crop else 'images')}")
    if info.labeled:
        tell(f"scores    {folder / METRICS_FILE}")
    else:
        tell(f"the records are unlabelled: {metrics['num_examples']} predictions, no scores")
        tell(f"masks     {folder / PREDICTIONS_FOLDER} (of the records' size, values as in the records)")
    tell(f"pictures  {folder / PICTURES_FOLDER}")
    if info.labeled:
        tell(f"report    {write_report(folder)}")


def _judge_classifier(trained, what: tuple, folder: Path, how: tuple, identity: tuple, title: str) -> None:
    """Judges a classifier, and tells what was found. Arguments as `main` has them."""
    from evaluation.classification import evaluate_classifier
    from evaluation.folder import METRICS_FILE, PER_IMAGE_FILE, PICTURES_FOLDER, write_evaluated
    from evaluation.report.build import write_report
    from evaluation.table import classification_table

    (_, info), tell = what, cli.console.print
    metrics = evaluate_classifier(trained, *what, folder, *how)
    write_evaluated(folder, *identity)
    if info.labeled:
        tell(classification_table(metrics, title))
        tell(f"scores    {folder / METRICS_FILE}")
        if any((folder / PICTURES_FOLDER).iterdir()):
            tell(f"mistakes  {folder / PICTURES_FOLDER}: the surest ones")
        tell(f"report    {write_report(folder)}")
    else:
        tell(f"the records are unlabelled: {metrics['num_judged']} probabilities, no scores")
    tell(f"answers   {folder / PER_IMAGE_FILE}")


if __name__ == "__main__":
    cli.run(main)
