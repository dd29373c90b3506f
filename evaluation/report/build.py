"""Makes the page from the files of an evaluation.

Everything that is text goes through Jinja2's escaping or ElementTree's: keys are names of files, which may hold
anything. The page holds neither time nor paths, so the same evaluation gives the same bytes.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evaluation.folder import REPORT_FILE
from evaluation.pictures import AGREED, INVENTED, MISSED
from evaluation.report.charts import interval_bar
from evaluation.report.confusion import confusion_matrix
from evaluation.report.figures import best_epoch, learning_figures, score_figures
from evaluation.report.files import Evaluation, read_evaluation
from evaluation.report.gallery import galleries
from evaluation.report.masks import describe_masks
from evaluation.report.reliability import reliability_figures
from evaluation.report.scores import class_pixels, class_table, describe, score_rows
from evaluation.report.tables import MOST_GROUPS, WORST_IMAGES, group_table, image_table
from evaluation.score_names import SCORES
from imaging.painting import colour


def write_report(folder: Path) -> Path:
    """Writes report.html beside the files of an evaluation; returns its path.

    Args:
      folder: RUN/eval/<split>/.

    Raises:
      ValueError: there are no scores in the folder, or a file is damaged.
    """
    page = render(read_evaluation(folder))
    path = folder / REPORT_FILE
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render(evaluation: Evaluation) -> str:
    """Returns the page: HTML that needs no other file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("page.css", "sort.js"))
    return environment.get_template("page.html.jinja").render(
        evaluation=evaluation,
        # Ours, and the only ones that a browser is to obey.
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        inks={"agreed": _css(AGREED), "missed": _css(MISSED), "invented": _css(INVENTED)},
        sentences=describe(evaluation),
        scores=[(row, _bar(row)) for row in score_rows(evaluation.metrics)],
        num_groups=evaluation.images["group"].nunique() if evaluation.grouped else None,
        classes=class_table(evaluation),
        labels={name: score.label for name, score in SCORES.items()},
        pixels=class_pixels(evaluation),
        colours=[_css(colour(index)) for index in range(len(evaluation.class_names))],
        confusion=confusion_matrix(evaluation),
        figures=score_figures(evaluation),
        reliability=reliability_figures(evaluation),
        masks=describe_masks(evaluation),
        images=image_table(evaluation),
        groups=group_table(evaluation),
        worst_images=WORST_IMAGES,
        most_groups=MOST_GROUPS,
        galleries=galleries(evaluation),
        facts=_facts(evaluation),
        learning=learning_figures(evaluation),
        settings={"Evaluation": evaluation.evaluated.get("settings"), "Training": evaluation.config.get("train")},
        flatten=_flatten,
    )


def _css(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _bar(row) -> Markup:
    known = [value for value in row.baselines if value is not None]
    return interval_bar(row.value, row.interval, known) if row.score.is_share else Markup("")


def _facts(evaluation: Evaluation) -> dict[str, Any]:
    """Returns what was evaluated, by name."""
    metrics, evaluated, config = evaluation.metrics, evaluation.evaluated, evaluation.config
    facts: dict[str, Any] = {
        "predictions" if "predictions" in evaluated else "run": evaluation.run,
        "split": evaluated.get("settings", {}).get("split", evaluation.split),
    }
    facts["images"] = f"{metrics['num_examples']:,}"
    if evaluation.grouped:
        facts["groups"] = f"{evaluation.images['group'].nunique():,}"
    if evaluated:
        records = evaluated["records"]
        facts["records"], facts["fingerprint of the records"] = records["name"], records["fingerprint"]
    if "model" in evaluated:
        facts["model"], facts["SHA-256 of the model"] = evaluated["model"].values()
    if "predictions" in evaluated:
        facts["SHA-256 of the predictions"] = evaluated["predictions"]["sha256"]
    trained = config.get("records", {})
    if trained and trained["fingerprint"] != evaluated.get("records", {}).get("fingerprint"):
        facts["trained on"], facts["fingerprint of those"] = trained["name"], trained["fingerprint"]
    if trained:
        facts["classes"] = ", ".join(evaluation.class_names)
    if best := best_epoch(evaluation):
        facts["best epoch"] = f"{best.epoch} of {len(evaluation.history)}"
    settings = evaluated.get("settings", {})
    if settings.get("ensemble"):
        facts["averaged with"] = ", ".join(settings["ensemble"])
    if settings.get("tta"):
        facts["averaged over"] = "8 symmetries of an image"
    if metrics.get("threshold") is not None:  # else each class has its own
        facts["threshold"] = metrics["threshold"]
    if "gate" in metrics:
        facts["gate"] = f"{metrics['gate']}, cleared {metrics['num_cleared']} of {metrics['num_judged']}"
        facts["threshold of the gate"] = metrics["gate_threshold"]
    return facts


def _flatten(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Returns nested settings as (name with dots, value)."""
    rows = []
    for name, value in settings.items():
        nested = isinstance(value, dict) and value
        rows += _flatten(value, f"{prefix}{name}.") if nested else [(f"{prefix}{name}", value)]
    return rows
