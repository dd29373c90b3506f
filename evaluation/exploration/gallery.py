"""Pictures of examples: with their annotation, near-duplicates side by side, outliers with their measures."""

from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluation.exploration.canvas import MUTED, TEXT, Colour, class_colour, make_figure, note, split_colour
from evaluation.exploration.dataset import Dataset, ExamplePixels, read_examples
from evaluation.exploration.duplicates import closest_pairs
from evaluation.exploration.tables import duplicate_table
from imaging.painting import display_image, paint
from imaging.resize import resize_image, resize_mask
from records.info import RecordsInfo
from records.schema import class_areas, known_pixels

Window = tuple[float, float] | None

_COLUMNS = 4
_LARGEST_SIDE = 320
_NO_RECORDS = "No pictures: the folder holds a plan, and no finished records."
_IGNORED: Colour = (0.45, 0.45, 0.45)


class Panel(NamedTuple):
    """A picture (uint8 RGB [height, width, 3]), the line above it, and the colour of that line."""

    picture: np.ndarray
    title: str
    colour: Colour | str


def draw_overlays(dataset: Dataset, measured: pd.DataFrame, window: Window = None, count: int = 8) -> Figure:
    """Draws examples with their annotation, from the least to the most annotated.

    Each class is a tint, objects (or, where they are not known, classes) have outlines, ignored pixels are grey.

    Args:
      dataset: to look at.
      measured: the first table of `measures.measure_examples`: the examples to choose from.
      window: values (HU) to show as black and white, where the pixels are HU; other images are stretched one by one.
      count: of examples.
    """
    if dataset.info is None or measured.empty:
        return note(_NO_RECORDS)
    ranked = measured.sort_values(["foreground", "key"])["key"].to_numpy()
    keys = ranked[np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))]
    shown, panels = np.zeros(len(dataset.info.classes) + 1, bool), []
    for example in read_examples(dataset, keys):
        small = shrink(example)
        areas, ignored = annotated_areas(small, dataset.info)
        shown |= [*areas.any((1, 2)), ignored.any()]
        picture = _display(small.image, dataset.info, window)
        picture = paint_annotation(picture, small, areas, ignored, dataset.info)
        objects = "" if example.objects is None else f"{example.objects} object{'s' * (example.objects != 1)}"
        panels.append(_panel(dataset, example.key, picture, objects, _short(example.key)))
    figure = draw_panels(panels)
    names = [*dataset.info.classes, "ignored"]
    colours = [*(_colour(number, dataset.info) for number in range(len(dataset.info.classes))), _IGNORED]
    handles = [Patch(color=colours[number], label=names[number]) for number in np.flatnonzero(shown)]
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=6, frameon=False, fontsize=9, labelcolor=TEXT)
    return figure


def draw_duplicates(dataset: Dataset, window: Window = None, clusters: int = 4) -> Figure:
    """Draws a row for each of the largest clusters of near-duplicates, or else the two pairs that look most alike."""
    if dataset.info is None:
        return note(_NO_RECORDS)
    examples = dataset.examples.drop_duplicates(["image", "slice_index"])  # one tile of an image is enough
    rows = []
    for cluster in duplicate_table(dataset)["cluster"].head(clusters):
        keys = examples.loc[examples["duplicate"] == cluster, "key"]
        rows.append([(key, "") for key in keys.head(_COLUMNS)])
    if not rows:
        pairs = closest_pairs(dataset, 2).itertuples()
        rows = [[(key, f"closest pair, {pair.bits} bits apart") for pair in pairs for key in (pair.first, pair.second)]]
    if not rows[0]:
        return note("Nothing to compare: these examples have no perceptual hashes.")
    panels: list[Panel | None] = []
    for row in rows:
        for (key, title), example in zip(row, read_examples(dataset, [key for key, _ in row]), strict=True):
            picture = _display(shrink(example).image, dataset.info, window)
            panels.append(_panel(dataset, key, picture, title, _short(key)))
        panels += [None] * (_COLUMNS - len(row))
    return draw_panels(panels)


def draw_outliers(dataset: Dataset, facts: pd.DataFrame, window: Window = None) -> Figure:
    """Draws the examples that are furthest out, each with its measures: flagged ones, least contrast, most clipped, ...

    All are shown on one grey scale, so that a dark image looks dark.

    Args:
      dataset: to look at.
      facts: as `measures.example_facts` returns it.
      window: values (HU) to show as black and white, where the pixels are HU.
    """
    if dataset.info is None:
        return note(_NO_RECORDS)
    chosen = choose_outliers(dataset, facts)
    shown = dataset.info.stored_window(window) if _is_hu(dataset.info) else None
    shown = shown or _full_scale(dataset.info)
    digits = 0 if _is_hu(dataset.info) else 3
    panels = []
    for (key, why), example in zip(chosen.items(), read_examples(dataset, chosen), strict=True):
        row = facts.loc[key]
        numbers = f"mean {row['brightness']:.{digits}f}, contrast {row['contrast']:.{digits}f}"
        picture = display_image(shrink(example).image, shown)
        panels.append(_panel(dataset, key, picture, why, numbers, f"clipped {row['clipped']:.0%}, {_short(key)}"))
    return draw_panels(panels) if panels else note("No measures are known of these examples.")


def choose_outliers(dataset: Dataset, facts: pd.DataFrame, each: int = 2) -> dict[str, str]:
    """Returns why an example is worth a look, by key: up to four flagged ones, then the ends of each measure.

    Of the tiles of an image, which share its facts, the first stands for all.
    """
    facts = facts[facts.index.isin(dataset.examples.drop_duplicates(["image", "slice_index"])["key"])]
    flags = dataset.examples.set_index("key")["outlier"].reindex(facts.index).dropna()
    chosen = {key: f"flagged: {flag}" for key, flag in flags.head(_COLUMNS).items()}
    ends = {"darkest": ("brightness", 1), "brightest": ("brightness", -1), "least contrast": ("contrast", 1)}
    ends["most clipped"] = ("clipped", -1)
    for why, (column, sign) in ends.items():
        values = sign * facts.loc[~facts.index.isin(chosen), column].dropna()
        if values.nunique() > 1:
            chosen |= dict.fromkeys(values.sort_values(kind="stable").index[:each], why)
    return chosen


def annotated_areas(example: ExamplePixels, info: RecordsInfo) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each class is (bool [classes, height, width]; the background is nowhere) and the ignored pixels."""
    areas = np.zeros((len(info.classes), *example.image.shape[:2]), bool)
    if example.mask is None:
        return areas, areas[0]
    areas[info.scored_classes] = class_areas(example.mask, info.scored_classes, info.overlapping)
    return areas, ~known_pixels(example.mask, info.overlapping)


def paint_annotation(
    picture: np.ndarray, example: ExamplePixels, areas: np.ndarray, ignored: np.ndarray, info: RecordsInfo
) -> np.ndarray:
    """Returns the picture (uint8 RGB) with tints and outlines, grey where ignored; areas are `annotated_areas`'."""
    colours = [tuple(255 * value for value in _colour(number, info)) for number in range(len(areas))]
    tinted = paint(picture, [(ignored, tuple(255 * value for value in _IGNORED))], opacity=0.75)
    tinted = paint(tinted, list(zip(areas, colours, strict=True)), opacity=0.25)
    objects = None if info.overlapping else example.instances
    edges = [area & outlines(area.astype(np.uint16) if objects is None else objects) for area in areas]
    return paint(tinted, list(zip(edges, colours, strict=True)), opacity=1.0)


def outlines(labels: np.ndarray) -> np.ndarray:
    """Returns which labelled pixels (uint16 [height, width], 0 = none) touch another label or none, bool."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return (labels > 0) & ((cv2.erode(labels, cross) != labels) | (cv2.dilate(labels, cross) != labels))


def shrink(example: ExamplePixels) -> ExamplePixels:
    """Returns the example with its longest side at most 320 pixels."""
    height, width = example.image.shape[:2]
    scale = min(1, _LARGEST_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    masks = {name: getattr(example, name) for name in ("mask", "instances")}
    masks = {name: None if mask is None else resize_mask(mask, *size) for name, mask in masks.items()}
    return example._replace(image=resize_image(example.image, *size), **masks)


def draw_panels(panels: list[Panel | None]) -> Figure:
    """Draws pictures in rows of four; None leaves a gap."""
    rows = -(-len(panels) // _COLUMNS)
    heights = [panel.picture.shape[0] / panel.picture.shape[1] for panel in panels if panel]
    lines = max(panel.title.count("\n") + 1 for panel in panels if panel)
    figure, axes = make_figure(rows, _COLUMNS, rows * (2.25 * min(1.5, max(heights)) + 0.16 * lines) + 0.3)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        if panel:
            axis.imshow(panel.picture, interpolation="nearest")
            axis.set_title(panel.title, loc="left", fontsize=8, color=panel.colour)
    return figure


def _panel(dataset: Dataset, key: str, picture: np.ndarray, *lines: str) -> Panel:
    """Returns a panel whose first line begins with the split, and is in its colour."""
    split = dataset.offsets.loc[key, "split"]
    title = "\n".join([", ".join(filter(None, (split, lines[0]))), *lines[1:]])
    return Panel(picture, title, split_colour(split) if len(dataset.splits) > 1 else MUTED)


def _display(image: np.ndarray, info: RecordsInfo, window: Window) -> np.ndarray:
    return display_image(image, info.stored_window(window) if _is_hu(info) else None)


def _full_scale(info: RecordsInfo) -> tuple[float, float]:
    """Returns the stored values to show as black and white: all that 8 bits have, or most of what the records hold."""
    if info.dtype == "uint8":
        return 0, 255
    return max(0, min(info.mean) - 2 * max(info.std)), max(info.mean) + 3 * max(info.std)


def _is_hu(info: RecordsInfo) -> bool:
    return info.intensity["unit"] == "HU"


def _colour(number: int, info: RecordsInfo) -> Colour:
    scored = info.scored_classes
    return class_colour(scored.index(number)) if number in scored else _IGNORED


def _short(key: str) -> str:
    return key if len(key) <= 20 else f"{key[:9]}…{key[-9:]}"
