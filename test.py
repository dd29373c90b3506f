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
    members = [paths["run"], *config.ensemble]
    for member in members:
        read_config(RunFolder(Path(member)))
    info = read_info(paths["records"], check_shards=False)
    info.shards(config.split)
    from evaluation.submission import check_submission
    from inference.predictor import check_fits, combine, load_run
    from training.devices import choose_strategy

    strategy, _ = choose_strategy(config.virtual_replicas)
    with strategy.scope():
        trained = combine([load_run(RunFolder(Path(member))) for member in members], members, config.tta)
        classifier = load_run(RunFolder(Path(config.gate))) if config.gate else None
    cli.console.print(f"precision {trained.precision}")
    for member, name in zip((trained, *trained.others), members, strict=True):
        check_fits(member, info, name, paths["records"])
    check_submission(trained, config)
    run, title = RunFolder(Path(paths["run"])), f"{paths['run']} on {paths['records']}, split {config.split}"
    what, how = (paths["records"], info), (config, strategy, cli.progress)
    if trained.task == "classify":
        if classifier:
            raise ValueError(f"gate: expected a run that segments, to be gated, found {run.path} of --task classify")
        _judge_classifier(trained, what, run.evaluation(config.name), how, title)
    else:
        _judge_segmenter(trained, classifier, what, run, how, title)
    _report(trained, info, run, config)


def _judge_classifier(trained, what, folder: Path, how, title: str) -> None:
    """Judges whether there is any object, and tells."""
    from evaluation.classification import evaluate_classifier
    from evaluation.folder import METRICS_FILE, PER_IMAGE_FILE, PICTURES_FOLDER
    from evaluation.table import classification_table

    _, info = what
    tell = cli.console.print
    metrics = evaluate_classifier(trained, *what, folder, *how)
    if info.labeled:
        tell(classification_table(metrics, title))
        tell(f"scores    {folder / METRICS_FILE}")
        if any((folder / PICTURES_FOLDER).iterdir()):
            tell(f"mistakes  {folder / PICTURES_FOLDER}: the surest ones")
    else:
        tell(f"the records are unlabelled: {metrics['num_judged']} probabilities, no scores")
    tell(f"answers   {folder / PER_IMAGE_FILE}")


def _judge_segmenter(trained, classifier, what, run, how, title: str) -> None:
    """Judges masks, gated where there is a classifier, and tells."""
    from evaluation.evaluator import evaluate
    from evaluation.folder import METRICS_FILE, PICTURES_FOLDER, PREDICTIONS_FOLDER, SUBMISSION_FILE
    from evaluation.gating import open_gate
    from evaluation.table import gate_line, score_table

    _, info = what
    tell, folder = cli.console.print, run.evaluation(how[0].name)
    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be written, no time is spent on a gate
    gate, tuned = open_gate(trained, classifier, *what, run.gate, *how) if classifier else (None, None)
    metrics = evaluate(trained, *what, folder, *how, gate)
    if info.labeled:
        tell(score_table(metrics, title))
    if gate:
        tell(f"gate      {gate_line(metrics, tuned, 'tiles' if trained.crop else 'images')}")
    if info.labeled:
        tell(f"scores    {folder / METRICS_FILE}")
    else:
        tell(f"the records are unlabelled: {metrics['num_examples']} predictions, no scores")
        tell(f"masks     {folder / PREDICTIONS_FOLDER} (of the records' size, values as in the records)")
    if how[0].submission:
        tell(f"to submit {folder / SUBMISSION_FILE}")
    tell(f"pictures  {folder / PICTURES_FOLDER}")


def _report(trained, info, run, config: EvalConfig) -> None:
    """Says in the evaluation's folder what was evaluated; of labelled records makes its page, and tells."""
    from evaluation.folder import write_evaluated
    from evaluation.report.build import write_report

    folder = run.evaluation(config.name)
    write_evaluated(folder, info.name, info.fingerprint, run.model.name, trained.digest, config)
    if info.labeled:
        cli.console.print(f"report    {write_report(folder)}")


if __name__ == "__main__":
    cli.run(main)
