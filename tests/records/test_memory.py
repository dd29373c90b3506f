"""Soak: what a pipeline holds in memory is bounded by its settings, neither by the data nor by the number of epochs."""

import gc
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imaging.codec import encode_png
from records.cache import fill_cache
from records.config import InputConfig
from records.info import RecordsInfo
from records.input_pipeline import decoded_examples, eval_batches, steps_per_epoch, train_batches
from tests.records.conftest import made_record, write_made_records

EPOCHS, BATCH_SIZE = 300, 8
SOAKED = {
    "streamed": InputConfig(shuffle_mib=1),
    "crops": InputConfig(shuffle_mib=1, crop=16, foreground_crops=0.5),
    "weighted": InputConfig(shuffle_mib=1),
    "cached": InputConfig(shuffle_mib=1),
}
MOST_GROWTH_MIB = 4.0
"""Of the allocator's own coming and going; what an epoch decodes or reads is a multiple of it within a few epochs."""

DATA_MIB = 128
BUDGETS_MIB = (1, 8, 4 * DATA_MIB)

linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory")


def resident_mib() -> float:
    """Returns what is resident of this process."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def write_records(folder: Path, side: int, shards: int, length: int) -> RecordsInfo:
    """Writes square raw images of noise, so that their shards are as large as their pixels."""
    mask = np.zeros([side, side], np.uint8)
    mask[: side // 4] = 1
    fixed = {"height": side, "width": side, "mask": encode_png(mask), "instances": None, "objects": None}

    def record(key):
        pixels = np.random.default_rng(list(key.encode())).integers(0, 256, (side, side, 3), np.uint8)
        return made_record(key, "raw", image=pixels.tobytes(), **fixed)

    names = [[f"{shard}-{number}" for number in range(length)] for shard in range(shards)]
    return write_made_records(folder, {"train": [list(map(record, keys)) for keys in names]}, height=side, width=side)


def soak(folder: Path, info: RecordsInfo, name: str) -> list[float]:
    """Returns what is resident after each epoch, in MiB."""
    config, files = SOAKED[name], info.shard_files(str(folder), ["train"])
    how = {}
    if name == "weighted":
        how["weights"] = np.where(np.arange(sum(file.length for file in files)) % 5, 1.0, 3.0)
    if name == "cached":
        how["cache"] = fill_cache(info, files, decoded_examples(files, info, config), lambda done: None)
    steps = steps_per_epoch(files, BATCH_SIZE)
    resident = []
    for number, _ in enumerate(train_batches(files, info, BATCH_SIZE, 0, config, **how).take(EPOCHS * steps)):
        if (number + 1) % steps == 0:
            gc.collect(0)
            resident.append(resident_mib())
    return resident


def peak(folder: Path, info: RecordsInfo, shuffle_mib: int) -> float:
    """Returns the most that is resident after any batch of two epochs, in MiB."""
    files = info.shard_files(str(folder), ["train"])
    batches = train_batches(files, info, BATCH_SIZE, 0, InputConfig(shuffle_mib=shuffle_mib, threads=2))
    return max(resident_mib() for _ in batches.take(2 * steps_per_epoch(files, BATCH_SIZE)))


def measure(folder: Path) -> None:
    """Writes memory.json, in MiB: what is resident after each epoch, by pipeline, and peaks, by budget.

    For a process of its own, where no other test has left anything.
    """
    large, small = folder / "large", folder / "small"
    info = write_records(small, side=24, shards=3, length=16)
    large_info = write_records(large, side=296, shards=4, length=DATA_MIB)  # 1/4 MiB each
    soak(small, info, "streamed")  # threads and libraries
    # The least first: allocators keep what was freed.
    peaks = {budget: peak(large, large_info, budget) for budget in BUDGETS_MIB}
    resident = {name: soak(small, info, name) for name in SOAKED}
    (folder / "memory.json").write_text(json.dumps({"peaks": peaks, "resident": resident}))


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    """The content of memory.json."""
    folder = tmp_path_factory.mktemp("memory")
    script = "import sys; from pathlib import Path; from tests.records.test_memory import measure; "
    command = [sys.executable, "-c", script + "measure(Path(sys.argv[1]))", folder]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "memory.json").read_text())


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("name", SOAKED)
def test_hundreds_of_epochs_leave_the_resident_size_flat(measured, name):
    resident = measured["resident"][name]
    assert len(resident) == EPOCHS
    settled, end = np.median(resident[EPOCHS // 4 :][:20]), np.median(resident[-20:])
    assert end - settled < MOST_GROWTH_MIB, f"from {settled:.1f} to {end:.1f} MiB"


@linux_only
@pytest.mark.slow
def test_shuffling_holds_its_budget_not_the_data(measured):
    least, budgeted, unbudgeted = measured["peaks"].values()
    assert unbudgeted - least > DATA_MIB  # so that the measure would have told
    assert budgeted - least < DATA_MIB / 2


def test_buffers_of_tf_datas_own_choice_have_a_budget(tmp_path):
    info = write_records(tmp_path, side=8, shards=2, length=4)
    files, config = info.shard_files(str(tmp_path), ["train"]), InputConfig(autotune_mib=3)
    examples = decoded_examples(files, info, config)
    datasets = [
        train_batches(files, info, 2, 0, config),
        train_batches(files, info, 2, 0, config, cache=fill_cache(info, files, examples, lambda done: None)),
        eval_batches(files, info, 2, config),
        examples,
    ]
    assert [dataset.options().autotune.ram_budget for dataset in datasets] == [3 * 2**20] * 4
