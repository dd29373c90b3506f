"""python -m benchmarks.preprocess: speed and memory of preprocess beside a hand-written multiprocessing.Pool loop.

The loop is what one would write for this very dataset: each worker decodes the images of a shard and their masks,
merges, resizes, encodes and writes, with the same codecs and as many processes. It has no index, plan, checksums of
files, statistics, error handling, resume or info.json.

Both run in fresh processes, in turn. The time that each needs for two images is its start-up, and told apart.
"""

import logging
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
from rich.table import Table

import cli
from imaging.codec import SUFFIXES, decode_image, decode_mask, encode_png
from imaging.objects import merge_objects
from imaging.resize import resize_image, resize_mask
from records.schema import Record, encode
from records.shards import frame

_SIZE = 256
_SHARDS_PER_WORKER = 8


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    raw: str | None = None
    """Nuclei dataset (a directory) to convert; null: 500 made-up images."""
    workers: int = 2
    """Processes of either."""
    repeats: int = 3
    """Times that both are run; medians count."""
    memory_images: int = 5000
    """Made-up images for the second memory measurement; the first has a tenth of them. 0: none."""


def run_ours(raw: str, out: str, workers: int) -> dict[str, float]:
    """Returns seconds by stage: imports, index (with its workers' start), plan, write (likewise), total."""
    start = time.monotonic()
    from preprocess.config import PreprocessConfig
    from preprocess.job import preprocess

    marks = {"imports": time.monotonic() - start}

    @contextmanager
    def timed(label, total):
        begin = time.monotonic()
        yield lambda done: None
        marks[label] = time.monotonic() - begin

    config = PreprocessConfig(size=_SIZE, workers=workers)
    preprocess("nuclei", raw, out, config, timed, lambda line: None)
    return marks | {"total": time.monotonic() - start}


def run_loop(raw: str, out: str, workers: int) -> dict[str, float]:
    """Returns seconds of the hand-written loop."""
    start = time.monotonic()
    folders = sorted(folder for folder in Path(raw).iterdir() if folder.is_dir())
    Path(out).mkdir()
    shards = max(1, min(len(folders), workers * _SHARDS_PER_WORKER))
    tasks = [(folders[index::shards], str(Path(out, f"{index:05d}.tfrecord"))) for index in range(shards)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(_write_shard, tasks):
            pass
    return {"total": time.monotonic() - start}


def _write_shard(task: tuple[list[Path], str]) -> None:
    cv2.setNumThreads(1)
    folders, path = task
    with Path(path).open("wb") as file:
        for folder in folders:
            source = next((folder / "images").iterdir())
            image = decode_image(source.read_bytes())
            height, width = image.shape[:2]
            masks = (decode_mask(p.read_bytes()) for p in (folder / "masks").iterdir() if p.suffix in SUFFIXES)
            merged = merge_objects(masks, height, width)
            instances = resize_mask(merged.instances, _SIZE, _SIZE)
            record = Record(
                image=encode_png(resize_image(image, _SIZE, _SIZE)),
                image_format="png",
                height=_SIZE,
                width=_SIZE,
                channels=image.shape[2],
                source_id=folder.name,
                filename=source.name,
                group=folder.name,
                mask=encode_png((instances > 0).astype("uint8")),
                instances=encode_png(instances),
                objects=merged.count,
                original_height=height,
                original_width=width,
                crop=(0, 0, height, width),
            )
            file.write(frame(encode(record)))


def measure(function: Callable, raw: str, workers: int) -> dict[str, float]:
    """Returns what `function` returns, run in a fresh process, with the peak memory of its largest process in MiB."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(_with_memory, function, raw, f"{folder}/out", workers).result()


def _with_memory(function: Callable, raw: str, out: str, workers: int) -> dict[str, float]:
    logging.disable(logging.WARNING)  # Beam's
    peaks = {os.getpid(): 0.0}
    done = threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peaks, done))
    watcher.start()
    result = function(raw, out, workers)
    done.set()
    watcher.join()
    driver = peaks.pop(os.getpid())
    return result | {"driver_mib": driver, "worker_mib": max(peaks.values(), default=0.0)}


def _watch_memory(peaks: dict[int, float], done: threading.Event) -> None:
    """Keeps the peak memory in MiB of this process and its children, by process id.

    From /proc (Linux): getrusage counts for a child what its parent had when it was forked.
    """
    while not done.wait(0.2):
        for path in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                status = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
                pid = int(status["Pid"])
                if "VmHWM" in status and os.getpid() in (pid, int(status["PPid"])):
                    peaks[pid] = max(peaks.get(pid, 0.0), int(status["VmHWM"].split()[0]) / 2**10)


def compare_speed(raw: str, config: BenchmarkConfig, tiny: str) -> Table:
    """Returns a table of images/s of both, with and without start-up, and their ratios."""
    images = sum(1 for folder in Path(raw).iterdir() if folder.is_dir())
    rows = []
    for _ in range(config.repeats):
        idle, ours = measure(run_ours, tiny, config.workers), measure(run_ours, raw, config.workers)
        idle_loop, loop = measure(run_loop, tiny, config.workers), measure(run_loop, raw, config.workers)
        loop_rate = images / (loop["total"] - idle_loop["total"])
        write_rate = images / (ours["write"] - idle["write"])
        all_rate = images / (ours["total"] - idle["total"])
        rows.append((loop_rate, write_rate, all_rate, write_rate / loop_rate, all_rate / loop_rate, idle["total"]))
    loop_rate, write_rate, all_rate, write_ratio, all_ratio, startup = map(statistics.median, zip(*rows, strict=True))
    table = Table(
        title=f"{images} images to {_SIZE}x{_SIZE}, {config.workers} workers, medians of {config.repeats} runs",
        title_justify="left",
    )
    for heading in ("", "images/s", "of the loop"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("hand-written Pool loop", f"{loop_rate:.1f}", "1.00")
    table.add_row("preprocess, write stage", f"{write_rate:.1f}", f"{write_ratio:.2f}")
    table.add_row("preprocess, index + plan + write + commit", f"{all_rate:.1f}", f"{all_ratio:.2f}")
    table.add_row("preprocess, start-up (imports, workers twice)", f"{startup:.1f} s", "")
    return table


def compare_memory(config: BenchmarkConfig, folder: str) -> Table:
    """Returns a table of the peak memory of preprocess for two sizes of one dataset."""
    table = Table(title="peak memory of preprocess, largest process of a kind", title_justify="left")
    for heading in ("images", "driver MiB", "worker MiB"):
        table.add_column(heading, justify="right")
    for images in (config.memory_images // 10, config.memory_images):
        result = measure(run_ours, _synthetic(folder, images), config.workers)
        table.add_row(str(images), f"{result['driver_mib']:.0f}", f"{result['worker_mib']:.0f}")
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
        BenchmarkConfig, {}, "python -m benchmarks.preprocess", "Speed and memory of preprocess beside a Pool loop."
    )
    with tempfile.TemporaryDirectory() as folder:
        raw = config.raw or _synthetic(folder, 500)
        cli.console.print(compare_speed(raw, config, _synthetic(folder, 2)))
        if config.memory_images:
            cli.console.print(compare_memory(config, folder))


if __name__ == "__main__":
    cli.run(main)
