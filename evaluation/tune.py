"""python -m evaluation.tune RUN RECORDS: thresholds and the steps behind them, chosen on validation."""

from pathlib import Path

import cli
from evaluation.tuning.config import TuneConfig


def main() -> None:
    """Parses the command line, predicts validation, tries out steps, writes and shows what was chosen."""
    paths, config = cli.parse(
        TuneConfig,
        {"run": "Folder made by train.py.", "records": "Folder of the records it was trained on."},
        "python -m evaluation.tune",
        "Chooses on validation what makes masks of a run's probabilities: test.py uses it from then on.",
    )
    from inference.config import PredictConfig
    from inference.postprocess import PLAIN_THRESHOLD
    from records.info import read_info
    from training.run_folder import RunFolder, read_config

    names = ("tta", "ensemble", "batch_size", "overlap")
    how = PredictConfig(threshold=PLAIN_THRESHOLD, **{name: getattr(config, name) for name in names})
    members = [paths["run"], *config.ensemble]
    for member in members:
        read_config(RunFolder(Path(member)))
    info, run = read_info(paths["records"], check_shards=False), RunFolder(Path(paths["run"]))
    from evaluation.tuning.choice import tune
    from evaluation.tuning.tables import choice_lines, choice_table
    from inference.predictor import load_predictor
    from inference.run import check_fits
    from training.devices import choose_strategy

    predictor = load_predictor(paths["run"], how, choose_strategy(None)[0])
    for member, name in zip((predictor.trained, *predictor.trained.others), members, strict=True):
        check_fits(member, info, name, paths["records"])
    choice = tune(predictor, paths["records"], info, run, config, how, cli.progress)
    cli.console.print(choice_table(choice, config.metric))
    for line in choice_lines(choice, config.metric):
        cli.console.print(line)
    cli.console.print(f"choice    {run.postprocess}")
    cli.console.print(f"curves    {choice.plot}")
    flags = f" --overlap {config.overlap:g}" if config.overlap != TuneConfig.overlap else ""
    flags += " --tta" * config.tta + (f" --ensemble '[{', '.join(config.ensemble)}]'" if config.ensemble else "")
    cli.console.print(f"next      python test.py {paths['run']} {paths['records']}{flags}")


if __name__ == "__main__":
    cli.run(main)
