"""python -m benchmarks.preprocess: speed and memory of preprocess beside two others that do the same conversion.

One is a hand-written multiprocessing.Pool loop (`benchmarks.pool`), the other TensorFlow Datasets' own Beam writer
(`benchmarks.tfds`), where that is installed. All decode, merge and resize with the same code.

Each runs in a fresh process, in turn, with as many worker processes. The time that each needs for two images is its
start-up, and told apart.
"""

import importlib.util
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

import cli
from benchmarks.measure import Run, measure
from benchmarks.pool import SIZE, image_folders, run_pool

_OURS, _POOL, _TFDS = "preprocess", "Pool loop", "TFDS"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    raw: str | None = None
    """Nuclei dataset (a directory) to convert; null: 500 made-up images."""
    workers: int = 2
    """Processes of each."""
    repeats: int = 3
    """Times that each is run; medians count."""
    memory_images: int = 5000
    """Made-up images for the second memory measurement; the first has a tenth of them. 0: none."""


def run_ours(raw: str, out: str, workers: int) -> dict[str, float]:
    """Returns seconds by stage: imports, index (with its workers' start), write (likewise), total."""
    start = time.monotonic()
    from preprocess.config import PreprocessConfig
    from preprocess.job import preprocess

    marks = {"imports": time.monotonic() - start}

    @contextmanager
    def timed(label, total):
        begin = time.monotonic()
        yield lambda done: None
        marks[label] = time.monotonic() - begin

    preprocess("nuclei", raw, out, PreprocessConfig(size=SIZE, workers=workers), timed, lambda line: None)
    return marks | {"total": time.monotonic() - start}


def run_tfds(raw: str, out: str, workers: int, encoded: bool) -> dict[str, float]:
    """Returns seconds: total; `encoded`: it is given PNGs that our codec made, not arrays."""
    start = time.monotonic()
    from benchmarks.tfds import write_dataset

    write_dataset(raw, out, workers, encoded)
    return {"total": time.monotonic() - start}


def compare_speed(raw: str, config: BenchmarkConfig, tiny: str) -> Table:
    """Returns a table of images/s without start-up, their ratios, start-up and memory of each."""
    images = len(image_folders(raw))
    tools = _tools(config.workers)
    has_tfds = any(name.startswith(_TFDS) for name in tools)
    tfds = "TFDS: TensorFlow Datasets" + ("." if has_tfds else " is not installed (make setup-dev), so left out.")
    idle: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
    full: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
    for _ in range(config.repeats):
        for name, (run, processes) in tools.items():
            idle[name].append(measure(run, tiny, processes))
            full[name].append(measure(run, raw, processes))

    table = Table(
        title=f"{images} images to {SIZE}x{SIZE}, {config.workers} workers, medians of {config.repeats} runs",
        caption="CPU ms: of all processes, for an image. MiB: peak memory of the largest process. " + tfds,
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("", "images/s", "of loop", "of ours", "CPU ms", "start-up s", "MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    stages = [(name, name, "total") for name in tools]
    stages.insert(2, ("  its write stage alone", _OURS, "write"))
    rates = {label: images / (_median(full[name], stage) - _median(idle[name], stage)) for label, name, stage in stages}
    for label, name, stage in stages:
        cpu = 1000 * (_median(full[name], "cpu") - _median(idle[name], "cpu")) / images
        memory = max(_median(full[name], "driver_mib"), _median(full[name], "worker_mib"))
        table.add_row(
            label,
            f"{rates[label]:.1f}",
            f"{rates[label] / rates[_POOL]:.2f}",
            f"{rates[label] / rates[_OURS]:.2f}",
            f"{cpu:.1f}" if stage == "total" else "",
            f"{_median(idle[name], stage):.1f}",
            f"{memory:.0f}",
        )
    return table


def _median(results: list[dict[str, float]], name: str) -> float:
    return statistics.median(result[name] for result in results)


def _tools(workers: int) -> dict[str, tuple[Run, int]]:
    """Returns what is compared: (function, processes) by name."""
    tools: dict[str, tuple[Run, int]] = {_POOL: (run_pool, workers), _OURS: (run_ours, workers)}
    if importlib.util.find_spec("tensorflow_datasets"):
        given_arrays, given_pngs = partial(run_tfds, encoded=False), partial(run_tfds, encoded=True)
        tools |= {
            f"{_TFDS}, arrays": (given_arrays, workers),
            f"{_TFDS}, our PNGs": (given_pngs, workers),
            f"{_TFDS}, our PNGs, 1 process": (given_pngs, 1),
        }
    return tools


def compare_memory(config: BenchmarkConfig, folder: str) -> Table:
    """Returns a table of the peak memory of each, but for the loop, for two sizes of one dataset."""
    table = Table(title="peak memory, largest process of a kind", title_justify="left")
    for heading in ("", "images", "driver MiB", "worker MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, (run, processes) in _tools(config.workers).items():
        for images in (config.memory_images // 10, config.memory_images) if name != _POOL else ():
            result = measure(run, _synthetic(folder, images), processes)
            worker = f"{result['worker_mib']:.0f}" if result["worker_mib"] else "none"
            table.add_row(name, str(images), f"{result['driver_mib']:.0f}", worker)
    return table


def _synthetic(folder: str, images: int) -> str:
    from preprocess.synthetic import SyntheticConfig, write_nuclei

    raw = Path(folder, f"nuclei-{images}")
    if not raw.exists():
        write_nuclei(raw, SyntheticConfig(images=images))
    return str(raw)


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(
        BenchmarkConfig, {}, "python -m benchmarks.preprocess", "Speed and memory of preprocess beside two others."
    )
    with tempfile.TemporaryDirectory() as folder:
        raw = config.raw or _synthetic(folder, 500)
        cli.console.print(compare_speed(raw, config, _synthetic(folder, 2)))
        if config.memory_images:
            cli.console.print(compare_memory(config, folder))


if __name__ == "__main__":
    cli.run(main)
