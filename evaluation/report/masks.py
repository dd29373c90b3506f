"""How masks were made of probabilities, and what that was worth on validation."""

from typing import Any, NamedTuple

import numpy as np

from evaluation.report.charts import Curve, curves
from evaluation.report.figures import Figure
from evaluation.report.files import Evaluation
from evaluation.score_names import score_label
from evaluation.terminal import describe_steps
from inference.config import PredictConfig
from inference.postprocess import PLAIN_THRESHOLD


class Masks(NamedTuple):
    """Steps of each class in words by its name, where they are from, and what each threshold scores on validation."""

    steps: dict[str, str]
    sentences: list[str]
    figures: list[Figure]


def describe_masks(evaluation: Evaluation) -> Masks | None:
    """Returns how masks were made; None of a classifier, and where that is not known."""
    steps = evaluation.evaluated.get("postprocess")
    if not steps:
        return None
    choice = _find_choice(evaluation)
    words = {name: describe_steps(of_class) for name, of_class in steps.items()}
    figures = [] if choice is None else _sweeps(choice, steps)
    return Masks(words, _describe(evaluation, steps, choice), figures)


def _find_choice(evaluation: Evaluation) -> dict[str, Any] | None:
    """Returns the entry of RUN/postprocess.json for what was evaluated: these weights, averaged in this way."""
    settings = evaluation.evaluated["settings"]
    way = PredictConfig(tta=settings["tta"], ensemble=tuple(settings["ensemble"])).way
    choice = evaluation.postprocess.get(way)
    known = choice is not None and choice["model_sha256"] == evaluation.evaluated["model"]["sha256"]
    return choice if known else None


def _describe(evaluation: Evaluation, steps: dict[str, dict], choice: dict[str, Any] | None) -> list[str]:
    settings, records = evaluation.evaluated["settings"], evaluation.config.get("records", {})
    sentences = [_origin(settings["threshold"], steps, choice)]
    if len(records.get("classes", ())) > 2 and not records["overlapping"]:
        sentences.append(
            "A threshold is the share that a class has of its own and the most probable other class's probability: "
            f"{PLAIN_THRESHOLD:g} everywhere gives each pixel to the most probable class."
        )
    if settings.get("original"):
        sentences.append("Lengths and sizes are those of the records, and were stretched to the raw images' size.")
    return sentences


def _origin(threshold: float | None, steps: dict[str, dict], choice: dict[str, Any] | None) -> str:
    """Returns where the steps are from."""
    if threshold is not None:
        return "That is what --threshold says."
    if choice is not None and choice["classes"] != steps:
        return "Since then others have been chosen on validation; test.py uses them when it runs again."
    if choice is not None:
        score, plain, chosen = score_label(choice["metric"]), choice["plain"], choice["chosen"]
        where = f"the {choice['num_examples']:,} images of {choice['split']}"
        if chosen <= plain:
            return f"On {where} nothing was found that gives a higher score: {score} {plain:.3f}."
        return (
            f"Chosen on {where}: there a threshold of {PLAIN_THRESHOLD:g} and nothing else gives {score} {plain:.3f}, "
            f"this gives {chosen:.3f}."
        )
    if all(describe_steps(of_class) == f"threshold {PLAIN_THRESHOLD:g}" for of_class in steps.values()):
        return "Nothing was chosen on validation; python -m evaluation.tune does that."
    return "They were chosen on validation, but the run no longer holds what that was worth."


def _sweeps(choice: dict[str, Any], steps: dict[str, dict]) -> list[Figure]:
    """Returns for each class what thresholds score, with the one that was used and the plain one."""
    label, figures = score_label(choice["metric"]), []
    for number, (name, sweep) in enumerate(choice["sweeps"].items()):
        if name not in steps:
            continue
        thresholds, scores = zip(*sweep, strict=True)
        used = steps[name]["threshold"]
        score, plain = np.interp([used, PLAIN_THRESHOLD], thresholds, scores)
        mark = (used, score, f"{used:g}: {score:.3f}")
        guide = None if used == PLAIN_THRESHOLD else (PLAIN_THRESHOLD, f"{PLAIN_THRESHOLD:g}: {plain:.3f}")
        curve = Curve(name, "main", thresholds, scores)
        chart = curves([curve], "threshold", label, mark, guide=guide)
        caption = f"{name}: what each threshold, with nothing behind it, scores on {choice['split']}"
        figures.append(Figure(f"sweep-{number + 1}", caption, chart))
    return figures
