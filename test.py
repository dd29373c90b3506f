"""python test.py RUN RECORDS [settings]: judges a trained run on held-out shards."""

from dataclasses import replace
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
    members = [paths["run"], *config.ensemble]
    for member in members:
        read_config(RunFolder(Path(member)))
    info = read_info(paths["records"], check_shards=False)
    info.shards(config.split)
    from evaluation.folder import evaluation_name, write_evaluated
    from evaluation.report.build import write_report
    from evaluation.submission import check_submission
    from inference.predictor import load_predictor
    from inference.run import check_fits, load_run
    from training.devices import choose_strategy

    strategy, _ = choose_strategy(config.virtual_replicas)
    predictor = load_predictor(paths["run"], config, strategy)
    with strategy.scope():
        classifier = load_run(RunFolder(Path(config.gate))) if config.gate else None
    trained = predictor.trained
    cli.console.print(f"precision {trained.precision}")
    for member, name in zip((trained, *trained.others), members, strict=True):
        check_fits(member, info, name, paths["records"])
    check_submission(trained, config)
    run, title = RunFolder(Path(paths["run"])), f"{paths['run']} on {paths['records']}, split {config.split}"
    folder = run.evaluation(evaluation_name(config, info, trained.fingerprint))
    if trained.task == "classify":
        if classifier or config.original:
            raise ValueError(f"gate, original: expected a run that segments, found {run.path} of --task classify")
        _judge_classifier(trained, (paths["records"], info), folder, config, strategy, title)
    else:
        _judge_segmenter(predictor, classifier, (paths["records"], info), run, folder, config, title)
    steps = predictor.describe() if trained.task == "segment" else {}
    write_evaluated(folder, info.name, info.fingerprint, run.model.name, trained.digest, config, steps)
    if info.labeled:
        cli.console.print(f"report    {write_report(folder)}")


def _judge_classifier(trained, what, folder: Path, config: EvalConfig, strategy, title: str) -> None:
    """Judges whether there is any object, and tells."""
    from evaluation.classification import evaluate_classifier
    from evaluation.folder import METRICS_FILE, PER_IMAGE_FILE, PICTURES_FOLDER
    from evaluation.table import classification_table

    _, info = what
    tell = cli.console.print
    metrics = evaluate_classifier(trained, *what, folder, config, strategy, cli.progress)
    if info.labeled:
        tell(classification_table(metrics, title))
        tell(f"scores    {folder / METRICS_FILE}")
        if any((folder / PICTURES_FOLDER).iterdir()):
            tell(f"mistakes  {folder / PICTURES_FOLDER}: the surest ones")
    else:
        tell(f"the records are unlabelled: {metrics['num_judged']} probabilities, no scores")
    tell(f"answers   {folder / PER_IMAGE_FILE}")


def _judge_segmenter(predictor, classifier, what, run, folder: Path, config: EvalConfig, title: str) -> None:
    """Judges masks, gated where there is a classifier, and tells."""
    from evaluation.evaluator import evaluate
    from evaluation.folder import METRICS_FILE, PICTURES_FOLDER, PREDICTIONS_FOLDER, SUBMISSION_FILE
    from evaluation.gating import open_gate
    from evaluation.table import gate_line, score_table, steps_line

    _, info = what
    tell, tuned = cli.console.print, None
    steps = steps_line(predictor.describe(), bool(predictor.postprocess), run.postprocess, config)
    tell(f"masks     {steps}")
    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be written, no time is spent on a gate
    if classifier:
        gate, tuned = open_gate(predictor, classifier, *what, run.gate, config, cli.progress)
        predictor = replace(predictor, gate=gate)
    metrics = evaluate(predictor, *what, folder, config, cli.progress)
    if info.labeled:
        tell(score_table(metrics, title))
    if tuned:
        tell(f"gate      {gate_line(metrics, tuned, 'tiles' if predictor.trained.crop else 'images')}")
    if info.labeled:
        tell(f"scores    {folder / METRICS_FILE}")
    else:
        tell(f"the records are unlabelled: {metrics['num_examples']} predictions, no scores")
        tell(f"masks     {folder / PREDICTIONS_FOLDER} (of the records' size, values as in the records)")
    if config.submission:
        tell(f"to submit {folder / SUBMISSION_FILE}")
    tell(f"pictures  {folder / PICTURES_FOLDER}")


if __name__ == "__main__":
    cli.run(main)
