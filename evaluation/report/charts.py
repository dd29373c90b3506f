"""Charts as SVG inside the page: their inks are the page's CSS variables, so they follow light and dark.

Drawn from a few elements rather than by matplotlib, whose SVG has fixed colours and holds the time it was made.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 416, 18, 206
_STEPS = (1, 2, 5, 10)  # of logarithmic axes


class Curve(NamedTuple):
    """A line of a chart: its name, its CSS class, and its points."""

    name: str
    ink: str
    x: Sequence[float]
    y: Sequence[float]


class ReliabilityBin(NamedTuple):
    """Pixels given a probability from `low` to `high`: their share of all, their mean probability, the share of them
    that belongs to the class."""

    low: float
    high: float
    share: float
    probability: float
    true: float


class _Scale(NamedTuple):
    """From values to places: low is drawn at `start`, high at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = _STEPS[:-1] if self.high / self.low < 200 else (1,)
            ticks = [step * 10.0**power for power in powers for step in steps]
            return [tick for tick in ticks if self.low <= tick <= self.high]
        found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        slack = 1e-9 * (self.high - self.low)
        return [tick for tick in found.tolist() if self.low - slack <= tick <= self.high + slack]


def histogram(values: Sequence[float], mean: float, interval: Sequence[float] | None, x_label: str) -> Markup:
    """Returns how many images have which score (0 to 1), with the mean and its interval."""
    counts, edges = np.histogram(values, bins=20, range=(0, 1))
    svg, x, y = _frame((0, 1), (0, max(5, *counts)), x_label, "images", f"{x_label}: histogram of {len(values)} images")
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            left, top = x.place(low) + 0.75, y.place(count)
            bar = _add(svg, "rect", "bar", x=left, y=top, width=x.place(high) - 0.75 - left, height=_BOTTOM - top)
            _title(bar, f"{low:.2f} to {high:.2f}: {count} images")
    if interval:
        left, right = (x.place(bound) for bound in interval)
        _add(svg, "rect", "band", x=left, y=_TOP, width=max(1, right - left), height=_BOTTOM - _TOP)
    _add(svg, "line", "mean", x1=x.place(mean), x2=x.place(mean), y1=_TOP, y2=_BOTTOM)
    _write(
        svg, x.place(mean), _TOP - 4, f"mean {mean:.3f}", "end" if mean > 0.8 else "start" if mean < 0.2 else "middle"
    )
    return _markup(svg)


def scatter(
    x_values: Sequence[float], y_values: Sequence[float], names: Sequence[str], x_label: str, y_label: str
) -> Markup:
    """Returns a point for each image, sizes (above 0) on a logarithmic axis against scores (0 to 1)."""
    svg, x, y = _frame(
        _round_bounds(min(x_values), max(x_values)), (0, 1), x_label, y_label, f"{y_label} against {x_label}", log=True
    )
    for size, score, name in zip(x_values, y_values, names, strict=True):
        _title(_add(svg, "circle", "point", cx=x.place(size), cy=y.place(score), r=3.2), f"{name}: {score:.3f}")
    middles = _bin_medians(np.asarray(x_values, float), np.asarray(y_values, float))
    if len(middles) > 1:
        _line(svg, "line-main", [(x.place(size), y.place(score)) for size, score in middles])
    return _markup(svg)


def curves(
    lines: list[Curve],
    x_label: str,
    y_label: str,
    mark: tuple[float, float, str] | None = None,
    share: bool = False,
    guide: tuple[float, str] | None = None,
) -> Markup:
    """Returns lines with a legend.

    Args:
      lines: to draw.
      x_label, y_label: of the axes.
      mark: a point (x, y), and what it says.
      share: whether y is at most 1.
      guide: the x of an upright line, and what it says.
    """
    xs, ys = (
        np.concatenate([np.asarray(values, float) for values in rows])
        for rows in zip(*(c[2:] for c in lines), strict=True)
    )
    ys = ys[np.isfinite(ys)]
    low, high = min(0.0, *ys), 1.0 if share else max([*ys, 0.0]) or 1.0
    x_bounds = (xs.min(), xs.max() if xs.max() > xs.min() else xs.min() + 1)
    svg, x, y = _frame(x_bounds, (low, high), x_label, y_label, y_label)
    if guide:
        place, words = guide
        _line(svg, "line-guide", [(x.place(place), _TOP), (x.place(place), _BOTTOM)])
        _write(svg, x.place(place) + 4, _BOTTOM - 6, words, "start")
    for curve in lines:
        pairs = [(x.place(a), y.place(b)) for a, b in zip(curve.x, curve.y, strict=True) if np.isfinite(b)]
        _line(svg, f"line-{curve.ink}", pairs)
    if mark:
        place, value, words = mark
        _add(svg, "circle", "mark", cx=x.place(place), cy=y.place(value), r=4)
        right = x.place(place) > (_LEFT + _RIGHT) / 2
        below = y.place(value) + (20 if value > (low + high) / 2 else -10)
        _write(svg, x.place(place) + (-2 if right else 2), below, words, "end" if right else "start")
    if len(lines) > 1:
        for number, curve in enumerate(lines):
            left = _RIGHT - 80 * (len(lines) - number)
            _line(svg, f"line-{curve.ink}", [(left, 5), (left + 16, 5)])
            _write(svg, left + 20, 9, curve.name, "start")
    return _markup(svg)


def reliability(bins: list[ReliabilityBin], name: str) -> Markup:
    """Returns how many of the pixels that are given a probability belong to the class, and how many are given it."""
    svg, x, y = _frame((0, 1), (0, 1), "probability that is given", "share", f"reliability curve of {name}")
    for each in bins:
        left, top = x.place(each.low) + 0.75, y.place(each.share)
        bar = _add(svg, "rect", "soft", x=left, y=top, width=x.place(each.high) - 0.75 - left, height=_BOTTOM - top)
        _title(bar, f"{each.share:.2%} of the pixels are given {each.low:g} to {each.high:g}")
    _line(svg, "line-guide", [(x.place(0), y.place(0)), (x.place(1), y.place(1))])
    _line(svg, "line-main", [(x.place(each.probability), y.place(each.true)) for each in bins])
    for each in bins:
        dot = _add(svg, "circle", "mark", cx=x.place(each.probability), cy=y.place(each.true), r=3.5)
        _title(dot, f"given {each.probability:.3f} on average, {each.true:.3f} belong to the class")
    return _markup(svg)


def interval_bar(value: float, interval: Sequence[float] | None, baselines: Sequence[float]) -> Markup:
    """Returns a score on a line from 0 to 1: a dot, its interval, and a tick for each constant prediction."""
    svg = Element("svg", {"viewBox": "0 0 160 18", "class": "interval", "aria-hidden": "true"})
    x = _Scale(0, 1, 6, 154)
    _add(svg, "line", "axis", x1=6, x2=154, y1=9, y2=9)
    for baseline in baselines:
        _add(svg, "line", "baseline", x1=x.place(baseline), x2=x.place(baseline), y1=3, y2=15)
    if interval:
        _add(svg, "line", "whisker", x1=x.place(interval[0]), x2=x.place(interval[1]), y1=9, y2=9)
    _add(svg, "circle", "dot", cx=x.place(value), cy=9, r=3.5)
    return _markup(svg)


def _round_bounds(low: float, high: float) -> tuple[float, float]:
    """Returns the nearest round numbers at or below low, and above high; both above 0."""
    below, above = (10.0 ** math.floor(math.log10(value)) for value in (low, high))
    start = below * max(step for step in _STEPS if below * step <= low)
    return start, above * min(step for step in _STEPS if above * step > high)


def _bin_medians(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Returns the median (x, y) of up to five bins of equally many points, of at least four each."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, max(1, min(5, len(x) // 4)))
    return [(float(np.median(x[part])), float(np.median(y[part]))) for part in bins]


def _frame(
    x_bounds: tuple[float, float], y_bounds: tuple[float, float], x_label: str, y_label: str, name: str, log=False
) -> tuple[Element, _Scale, _Scale]:
    """Returns (an SVG with axes, the scale of x, that of y)."""
    svg = Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "class": "chart", "role": "img", "aria-label": name})
    x, y = _Scale(*x_bounds, _LEFT, _RIGHT, log), _Scale(*y_bounds, _BOTTOM, _TOP)
    for tick in y.ticks():
        _add(svg, "line", "grid", x1=_LEFT, x2=_RIGHT, y1=y.place(tick), y2=y.place(tick))
        _write(svg, _LEFT - 6, y.place(tick) + 4, f"{tick:g}", "end")
    for tick in x.ticks():
        _add(svg, "line", "axis", x1=x.place(tick), x2=x.place(tick), y1=_BOTTOM, y2=_BOTTOM + 4)
        _write(svg, x.place(tick), _BOTTOM + 17, f"{tick:,.0f}" if tick >= 1000 else f"{tick:g}", "middle")
    _add(svg, "line", "axis", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM)
    _write(svg, (_LEFT + _RIGHT) / 2, _BOTTOM + 35, x_label, "middle", "label")
    turned = _write(svg, 0, 0, y_label, "middle", "label")
    turned.set("transform", f"translate(13 {(_TOP + _BOTTOM) / 2:g}) rotate(-90)")
    return svg, x, y


def _add(parent: Element, kind: str, ink: str, **places: float) -> Element:
    return SubElement(parent, kind, {"class": ink, **{name: f"{value:.2f}" for name, value in places.items()}})


def _line(svg: Element, ink: str, points: list[tuple[float, float]]) -> None:
    SubElement(svg, "polyline", {"class": ink, "points": " ".join(f"{x:.2f},{y:.2f}" for x, y in points)})


def _write(svg: Element, x: float, y: float, words: str, anchor: str, ink: str = "tick") -> Element:
    text = _add(svg, "text", ink, x=x, y=y)
    text.set("text-anchor", anchor)
    text.text = words
    return text


def _title(element: Element, words: str) -> None:
    SubElement(element, "title").text = words


def _markup(svg: Element) -> Markup:
    """Returns an element as part of a page; ElementTree has escaped its text."""
    return Markup(ElementTree.tostring(svg, encoding="unicode"))
