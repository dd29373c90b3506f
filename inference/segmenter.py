"""A RUN folder and settings → the predictor with which raw images are segmented."""

import dataclasses
from pathlib import Path

from inference.config import PredictConfig
from inference.gate import Gate, check_gate, read_tuned
from inference.predictor import Predictor, load_predictor
from inference.run import load_run
from training.devices import choose_strategy
from training.run_folder import RunFolder


def load_segmenter(run: RunFolder, config: PredictConfig) -> Predictor:
    """Returns the predictor of a run, on all devices, with its gate if it is to have one.

    Raises:
      ValueError: the run does not segment, or has no model yet; the gate is none for it.
    """
    predictor = load_predictor(str(run.path), config, choose_strategy(config.virtual_replicas)[0])
    if predictor.trained.task != "segment":
        raise ValueError(f"{run.path}: expected a run that segments, found one of --task {predictor.trained.task}")
    return _add_gate(predictor, config.gate, run) if config.gate else predictor


def _add_gate(predictor: Predictor, gate: str, run: RunFolder) -> Predictor:
    """Returns the predictor with a gate, whose threshold test.py has found before.

    Args:
      predictor: without one.
      gate: RUN folder of a classifier.
      run: RUN folder of the predictor, with gate.json.

    Raises:
      ValueError: it is no gate for this predictor, or no threshold was found for the two.
    """
    with predictor.strategy.scope():
        classifier = load_run(RunFolder(Path(gate)))
    check_gate(classifier, predictor.trained, gate, str(run.path))
    tuned = read_tuned(run.gate, predictor.gate_identity(classifier))
    if tuned is None:
        raise ValueError(
            f"gate: expected its threshold in {run.gate}, found none for these models and steps; run `python test.py "
            f"{run.path} RECORDS --gate {gate}` on the records of the training first"
        )
    return dataclasses.replace(predictor, gate=Gate(classifier.model, tuned["threshold"]))
