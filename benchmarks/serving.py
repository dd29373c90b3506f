"""python -m benchmarks.serving: how fast the server answers beside the bare model, and what strangers can do to it.

The server runs in a process of its own; clients that wait for each answer before they ask again share the machine with
it. Bare model and clients take turns. Then, with a tiny network, good requests among hostile ones: every good one must
have its mask, no answer may be the server's fault, and its memory must not grow.
"""

import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

import cli
from benchmarks.load.clients import Load, send_load
from benchmarks.load.hostile import HUNG_UP, NOT_WAITED, Report, send_hostile
from benchmarks.load.server import Model, Served, serve_model
from benchmarks.measure import memory_mib
from imaging.codec import decode_image, encode_png
from imaging.resize import resize_image
from model.config import ModelConfig
from serving.config import ServeConfig

AIM = 0.85
"""Of the bare model's rate, with many clients."""

_TINY, _TINY_SIZE = ModelConfig(depth=1, filters=4), 64
_GROWTH, _FILES = 1.05, 16
"""In the second half of the hostile requests the server's memory must not grow by more than this factor (in the first
it finds its size: allocators keep what many threads have used), nor its open files, connections that are just being
closed among them, by more than so many."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    run: str | None = None
    """A trained run to serve; null: the default U-Net of train.py, untrained."""
    images: str | None = None
    """Folder with the PNG and JPEG files that clients send; null: made-up ones of nuclei."""
    size: int = 256
    """Height and width of made-up images, and of what the untrained network sees."""
    clients: list[int] = field(default_factory=lambda: [1, 8, 64])
    """How many there are at a time."""
    seconds: float = 20.0
    """That each measurement takes."""
    repeats: int = 3
    """Turns; medians count."""
    hostile: int = 0
    """Mixed good and hostile requests, sent to a server of a tiny network; 0: none."""
    seed: int = 0
    """Of the hostile requests."""
    serve: ServeConfig = field(default_factory=lambda: ServeConfig(queue=256))
    """Of the server."""

    def __post_init__(self):
        if min([self.repeats, *self.clients], default=0) < 1:
            raise ValueError(f"repeats, clients: expected at least 1, found {self.repeats} and {self.clients}")
        if self.seconds <= 0:
            raise ValueError(f"seconds: expected more than 0, found {self.seconds}")
        if self.hostile < 0:
            raise ValueError(f"hostile: expected at least 0, found {self.hostile}")


def load_table(bare: list[float], loads: dict[int, list[Load]], title: str) -> Table:
    """Returns answers/s, their ratio to the bare model's images/s, and latencies, medians of the turns."""
    table = Table(title=title, title_justify="left")
    for heading in ("clients", "answers/s", "of the model", "p50, ms", "p95, ms", "p99, ms", "refused"):
        table.add_column(heading, justify="right")
    model = statistics.median(bare)
    table.add_row("bare model", f"{model:.1f}", "1.00", "", "", "", "")
    for clients, turns in loads.items():
        rate, p50, p95, p99, _ = (statistics.median(values) for values in zip(*turns, strict=True))
        refused = sum(turn.refused for turn in turns)
        table.add_row(
            str(clients), f"{rate:.1f}", f"{rate / model:.2f}", f"{p50:.0f}", f"{p95:.0f}", f"{p99:.0f}", str(refused)
        )
    return table


_WORDS = {NOT_WAITED: "not waited for", HUNG_UP: "hung up"}


def hostile_table(report: Report) -> Table:
    """Returns how often each kind of request had each answer."""
    table = Table(title="Good and hostile requests", title_justify="left")
    for heading in ("request", "sent", "answers"):
        table.add_column(heading, justify="right" if heading == "sent" else "left")
    for kind, statuses in sorted(report.statuses.items()):
        told = ", ".join(f"{_WORDS.get(status, status)}: {count}" for status, count in sorted(statuses.items()))
        table.add_row(kind, str(statuses.total()), told)
    return table


def main() -> None:
    """Parses the command line, measures, prints.

    Raises:
      ValueError: a request was not answered as it must be, or the server's memory grew.
    """
    _, config = cli.parse(
        BenchmarkConfig,
        {},
        "python -m benchmarks.serving",
        "Answers a second beside the bare model's images, latencies, and hostile requests.",
    )
    if config.clients:
        model = Model(config.run, ModelConfig(), config.size)
        with serve_model(model, config.serve) as served:
            _measure(served, config)
    if config.hostile:
        model = Model(None, _TINY, _TINY_SIZE)
        with serve_model(model, ServeConfig(timeout_s=2.0, batch_size=8)) as served:
            _attack(served, config)


def _measure(served: Served, config: BenchmarkConfig) -> None:
    files = read_files(config.images) if config.images else make_files(config.size)
    bare, loads = [], {clients: [] for clients in config.clients}
    for _ in range(config.repeats):
        bare.append(served.time_model(config.seconds))
        for clients, turns in loads.items():
            turns.append(send_load(served.address, files, clients, config.seconds))
    title = (
        f"{config.run or 'U-Net, untrained'}, {served.devices}, batches of up to {served.batch_size}, {len(files)} "
        f"images, medians of {config.repeats} turns of {config.seconds:g} s"
    )
    cli.console.print(load_table(bare, loads, title))
    ratio = statistics.median(load.rate for load in loads[max(loads)]) / statistics.median(bare)
    cli.console.print(f"{max(loads)} clients get {ratio:.2f} of the bare model's rate; the aim is {AIM}")


def _attack(served: Served, config: BenchmarkConfig) -> None:
    files, result, states = make_files(_TINY_SIZE), Report(), []
    for half, words in enumerate(("first half", "second half")):
        count = (config.hostile + half) // 2
        with cli.progress(words, count) as report:
            result.add(send_hostile(served.address, files, count, config.seed + half * 10_000, report))
        states.append(held(served.pid))
    cli.console.print(hostile_table(result))
    (memory, opened), (memory_behind, opened_behind) = states
    cli.console.print(
        f"behind the first half: {memory:.0f} MiB, {opened} open files; behind the second: {memory_behind:.0f} MiB, "
        f"{opened_behind} open files"
    )
    if memory_behind > _GROWTH * memory:
        result.faults["the server's memory grew"] += 1
    if opened_behind > opened + _FILES:
        result.faults["the server's open files became more"] += 1
    if result.faults:
        raise ValueError("; ".join(f"{fault} ({count} times)" for fault, count in result.faults.items()))


def held(pid: int) -> tuple[float, int]:
    """Returns (MiB of memory, number of open files) of a process (Linux)."""
    return memory_mib("VmRSS", pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def make_files(size: int) -> list[bytes]:
    """Returns made-up images of nuclei as PNG files."""
    from preprocess.synthetic import SyntheticConfig, write_nuclei

    with tempfile.TemporaryDirectory() as folder:
        write_nuclei(Path(folder), SyntheticConfig(images=8))
        images = [decode_image(path.read_bytes()) for path in sorted(Path(folder).glob("**/images/*.png"))]
    return [encode_png(resize_image(image, size, size)) for image in images]


def read_files(folder: str) -> list[bytes]:
    """Returns the image files of a folder.

    Raises:
      ValueError: it has none, or one that is damaged.
    """
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix.lower() in (".png", ".jpg")]
    if not files:
        raise ValueError(f"{folder}: expected PNG or JPEG files, found none")
    for data in files:
        decode_image(data)
    return files


if __name__ == "__main__":
    cli.run(main)
