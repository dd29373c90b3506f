"""python -m benchmarks.input: how fast shards become batches, beside what one would otherwise pick.

All loaders give shuffled batches of 8-bit images and masks of the same examples, on the same cores, each in a process
of its own; they take short turns, many times. The limit is a loop that only decodes. What is counted is the steady
state over many epochs, their borders included; start-up is not.
"""

import logging
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

# Loaders that are stopped for good in the middle leave semaphores; Python counts and removes them at the end.
os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")

from rich.table import Table

import cli
from benchmarks.loaders import CROP_LOADERS, LIMIT, LOADERS, OURS, Loader, why_missing
from benchmarks.loaders.layouts import JPEG_QUALITY, RECORDS, Coding, read_examples, write_layouts, write_photographs
from benchmarks.loaders.tf_data import CROP
from benchmarks.loaders.watch import Speed, measure_loaders

SIZE = 256
"""Height and width of every image."""

NATIVE_SIZE = 768
"""Height and width of the images that are cropped."""

_CODINGS = {"jpeg": f"JPEG, quality {JPEG_QUALITY}", "png": "PNG", "raw": "raw pixels"}

_Ratios = dict[str, tuple[float, float]]
"""(ratio to the limit, images/s) by loader."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    raw: str | None = None
    """Directory with images/ and masks/ to measure with; null: made-up photographs."""
    images: int = 2048
    """Number of made-up images; of those that are cropped an eighth."""
    batch_size: int = 32
    """Examples in a batch."""
    cores: int | None = None
    """Cores that each may use, and threads or worker processes that it gets; null: all."""
    codings: list[Coding] = field(default_factory=lambda: list(get_args(Coding)))
    """How images are stored; masks are PNG."""
    loaders: list[str] = field(default_factory=lambda: list(LOADERS))
    """Names of what is measured; the limit always is."""
    crops: bool = True
    """Measure random crops of large JPEGs, too."""
    starts: int = 4
    """Times that each is started anew. Where a process's memory comes to lie makes it faster or slower for as long as
    it lives, by a third with raw pixels."""
    turns: int = 3
    """Times that each is measured behind each start; medians of all count."""
    seconds: float = 2
    """Time of a turn."""
    warm_up: float = 4
    """Seconds of each before the first turn, in which queues fill and tf.data tunes itself."""
    chart: str = "input.png"
    """PNG file for a chart of the ratios to the limit."""

    def __post_init__(self):
        for name in ("images", "batch_size", "starts", "turns", "seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, found {getattr(self, name)}")
        if self.cores is not None and not 1 <= self.cores <= _all_cores():
            raise ValueError(f"cores: expected 1 to {_all_cores()}, or null, found {self.cores}")
        if self.images // 8 < self.batch_size:
            raise ValueError(f"images: expected at least 8 batches ({8 * self.batch_size}), found {self.images}")
        unknown = set(self.loaders) - set(LOADERS)
        if unknown:
            raise ValueError(f"loaders: expected some of {', '.join(LOADERS)}, found {', '.join(sorted(unknown))}")


def _all_cores() -> int:
    return len(os.sched_getaffinity(0))


def compare_loaders(folder: str, coding: Coding, config: BenchmarkConfig) -> tuple[Table, _Ratios]:
    """Returns a table of the loaders, fastest first, and what a chart shows of them.

    Args:
      folder: of `write_layouts`.
      coding: that it has.
      config: settings.
    """
    chosen = [name for name in LOADERS if name == LIMIT or name in config.loaders]
    missing = {name: reason for name in chosen if (reason := why_missing(name))}
    speeds = _measure({name: LOADERS[name][0] for name in chosen if name not in missing}, folder, config)
    ratios = {name: _ratio(speeds[name], speeds[LIMIT]) for name in speeds}
    caption = _describe(folder) + "".join(f" {name} left out: {reason}." for name, reason in missing.items())
    table = _table(f"{_CODINGS[coding]}, whole images of {SIZE}x{SIZE}", caption, "of the limit", config)
    for name in sorted(ratios, key=lambda name: -ratios[name]):
        _add_row(table, name, ratios[name], speeds[name])
    return table, {name: (ratio, _median(speeds[name], "rate")) for name, ratio in ratios.items()}


def compare_crops(folder: str, config: BenchmarkConfig) -> Table:
    """Returns a table of random crops: decoded alone, or cut out of the decoded image."""
    speeds = _measure(CROP_LOADERS, folder, config)
    reference = list(CROP_LOADERS)[-1]
    title = f"JPEG, quality {JPEG_QUALITY}, {NATIVE_SIZE}x{NATIVE_SIZE}, crops of {CROP}x{CROP}"
    table = _table(title, _describe(folder), "of decode then crop", config)
    for name, runs in speeds.items():
        _add_row(table, name, _ratio(runs, speeds[reference]), runs)
    return table


def _measure(loaders: dict[str, Loader], folder: str, config: BenchmarkConfig) -> dict[str, list[Speed]]:
    """Returns the speeds of each loader's turns."""
    cores = config.cores or _all_cores()
    turns = []
    with cli.progress("turns", config.starts * config.turns) as show:
        for _ in range(config.starts):
            for turn in measure_loaders(
                loaders, folder, config.batch_size, cores, config.warm_up, config.seconds, config.turns
            ):
                turns.append(turn)
                show(len(turns))
    return {name: [turn[name] for turn in turns] for name in loaders}


def _describe(folder: str) -> str:
    from records.info import read_info

    info = read_info(f"{folder}/{RECORDS}")
    sizes = [(len(record.image), len(record.mask or b"")) for record in read_examples(folder, info)]
    image, mask = (statistics.mean(column) / 2**10 for column in zip(*sizes, strict=True))
    return f"{len(sizes)} examples; an image has {image:.0f} KiB on average, a mask (PNG) {mask:.1f}."


def _table(title: str, caption: str, ratio: str, config: BenchmarkConfig) -> Table:
    cores = config.cores or _all_cores()
    table = Table(
        title=f"{title}; batches of {config.batch_size}, {cores} cores, medians of {config.starts} starts "
        f"of {config.turns} turns",
        caption=f"CPU s: of all processes, for 1,000 images. MiB: of all processes together, without code. {caption}",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("", ratio, "images/s", "lowest to highest", "CPU s", "MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    return table


def _add_row(table: Table, name: str, ratio: float, turns: list[Speed]) -> None:
    rates = [turn.rate for turn in turns]
    table.add_row(
        name,
        f"{ratio:.2f}",
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{_median(turns, 'cpu'):.2f}",
        f"{_median(turns, 'memory_mib'):,.0f}",
        style="bold" if name.startswith(OURS) else None,
    )


def _ratio(turns: list[Speed], reference: list[Speed]) -> float:
    """Returns the median ratio of the same turns."""
    return statistics.median(turn.rate / other.rate for turn, other in zip(turns, reference, strict=True))


def _median(turns: list[Speed], name: str) -> float:
    return statistics.median(getattr(turn, name) for turn in turns)


def draw_chart(path: str, ratios: dict[Coding, _Ratios]) -> None:
    """Writes a PNG file with bars of the ratio to the limit, a panel for each coding, sorted by the first of them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    first = next(iter(ratios.values()))
    names = sorted(first, key=lambda name: first[name][0])
    figure = Figure(figsize=(1.8 + 3.0 * len(ratios), 0.8 + 0.36 * len(names)), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(ratios), sharey=True, squeeze=False)[0]
    for panel, (coding, values) in zip(panels, ratios.items(), strict=True):
        colors = ["#c8512b" if name == OURS else "#8c9bab" if name != LIMIT else "#3b4754" for name in names]
        bars = panel.barh(names, [values[name][0] for name in names], color=colors, height=0.7)
        panel.axvline(1, color="#3b4754", linewidth=0.8, linestyle=":", zorder=0)
        labels = panel.bar_label(bars, [f"{values[name][1]:,.0f}/s" for name in names], padding=3, fontsize=8)
        for label in labels:
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # over the line at the limit
        panel.set_title(_CODINGS[coding], fontsize=10, loc="left")
        panel.xaxis.set_major_locator(MultipleLocator(0.5))
        panel.set_xlim(0, 1.3 * max(value[0] for value in values.values()))
        panel.tick_params(length=0, labelsize=9)
        panel.spines[["top", "right", "left"]].set_visible(False)
    figure.supxlabel(f"images of {SIZE}x{SIZE} per second, as a share of decoding alone", fontsize=9)
    figure.savefig(path)


def _layouts(
    raw: str | None, config: BenchmarkConfig, images: int, size: int, codings: list[Coding]
) -> Iterator[tuple[str, Coding]]:
    """Yields (folder of `write_layouts`, coding) of one dataset; only one of them is on the disk at a time."""
    cores = config.cores or _all_cores()
    with tempfile.TemporaryDirectory() as folder:
        if raw is None:
            raw = f"{folder}/photographs"
            write_photographs(raw, images, size, cores)
        for coding in codings:
            cli.console.print(f"{'make':<10} {images} images, {coding}")
            layouts = f"{folder}/{coding}"
            Path(layouts).mkdir()
            write_layouts(raw, layouts, coding, SIZE if size == SIZE else None, cores)
            yield layouts, coding
            shutil.rmtree(layouts)


def main() -> None:
    """Parses the command line, measures, prints, draws."""
    _, config = cli.parse(
        BenchmarkConfig, {}, "python -m benchmarks.input", "Speed, CPU and memory of loaders of batches."
    )
    logging.disable(logging.WARNING)  # Beam's words on its workers would break our tables
    ratios: dict[Coding, _Ratios] = {}
    for folder, coding in _layouts(config.raw, config, config.images, SIZE, config.codings):
        table, ratios[coding] = compare_loaders(folder, coding, config)
        cli.console.print(table)
    draw_chart(config.chart, ratios)
    cli.console.print(f"chart     {config.chart}")
    if config.crops:
        for folder, _ in _layouts(None, config, config.images // 8, NATIVE_SIZE, ["jpeg"]):
            cli.console.print(compare_crops(folder, config))


if __name__ == "__main__":
    cli.run(main)
