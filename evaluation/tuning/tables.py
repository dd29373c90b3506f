"""What was chosen, for the terminal."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.table import Table

from evaluation.terminal import describe_steps
from evaluation.tuning.choice import Choice
from inference.postprocess import Steps


def choice_table(choice: Choice, metric: str) -> Table:
    """Returns a row for each class and setting: what was taken, and what that does to the score on validation."""
    table = Table(
        title=f"{metric} on the {choice.num_examples} images of validation",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("class", "setting", "best of those tried", "score with it", "before", "taken"):
        table.add_column(heading, justify="right" if heading in ("score with it", "before") else "left")
    for name, found in choice.found.items():
        shown = name
        for setting, (before, tried) in found.stages.items():
            top = max(tried, key=lambda trial: trial.score)
            field = setting.partition(",")[0]  # the threshold has its turn twice
            value = getattr(top.steps, field)
            taken = "yes" if top in found.taken else ""
            said = "yes" if value is True else f"{value:g}"
            if setting == "min_size" and top.steps.threshold != before.steps.threshold:
                said += f", threshold {top.steps.threshold:g}"
            table.add_row(shown, setting.replace("_", " "), said, f"{top.score:.4f}", f"{before.score:.4f}", taken)
            shown = ""
        table.add_section()
    return table


def choice_lines(choice: Choice, metric: str) -> Iterator[str]:
    """Yields what was chosen for each class, and what it is worth."""
    for name, found in choice.found.items():
        steps = found.best.steps
        said = "as before" if steps == Steps() else f"{found.plain.score:.4f} before, {found.best.score:.4f} now"
        yield f"{name}: {describe_steps(asdict(steps))} ({said})"
    yield f"all classes together: {metric} {choice.plain:.4f} before, {choice.chosen:.4f} now"
