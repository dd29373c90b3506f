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
    from evaluation.terminal import SEEN
    from inference.predictor import load_predictor
    from inference.run import check_fits, has_trained_on, load_run
    from training.devices import choose_strategy

    strategy, _ = choose_strategy(config.virtual_replicas)
    predictor = load_predictor(paths["run"], config, strategy)
    with strategy.scope():
        classifier = load_run(RunFolder(Path(config.gate))) if config.gate else None
    trained = predictor.trained
    cli.console.print(f"precision {trained.precision}")
    models = dict(zip(members, (trained, *trained.others), strict=True))
    for name, member in models.items():
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
    seen_by = [name for name, member in models.items() if has_trained_on(member, info, config.split)]
    write_evaluated(folder, info.name, info.fingerprint, run.model.name, trained.digest, config, steps, seen_by)
    if info.labeled:
        cli.console.print(f"report    {write_report(folder)}")
    if info.labeled and seen_by:
        cli.console.print(f"seen      {SEEN.format(', '.join(seen_by))}")


def _judge_classifier(trained, what, folder: Path, config: EvalConfig, strategy, title: str) -> None:
    """Judges whether there is any object, and tells."""
    from evaluation.classification import evaluate_classifier
    from evaluation.terminal import classifier_summary

    metrics = evaluate_classifier(trained, *what, folder, config, strategy, cli.progress)
    for line in classifier_summary(metrics, folder, what[1].labeled, title):
        cli.console.print(line)


def _judge_segmenter(predictor, classifier, what, run, folder: Path, config: EvalConfig, title: str) -> None:
    """Judges masks, gated where there is a classifier, and tells."""
    from evaluation.evaluator import evaluate
    from evaluation.gating import open_gate
    from evaluation.terminal import gate_line, segmenter_summary, steps_line

    steps = steps_line(predictor.describe(), bool(predictor.postprocess), run.postprocess, config)
    cli.console.print(f"masks     {steps}")
    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be written, no time is spent on a gate
    tuned = None
    if classifier:
        gate, tuned = open_gate(predictor, classifier, *what, run.gate, config, cli.progress)
        predictor = replace(predictor, gate=gate)
    metrics = evaluate(predictor, *what, folder, config, cli.progress)
    gated = gate_line(metrics, tuned, "tiles" if predictor.trained.crop else "images") if tuned else None
    for line in segmenter_summary(metrics, folder, what[1].labeled, title, gated, bool(config.submission)):
        cli.console.print(line)


if __name__ == "__main__":
    cli.run(main)
