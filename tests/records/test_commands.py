"""The commands of records: what they print and how they end."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from imaging.codec import encode_png
from tests.records.damaging import OVERLAPPING, bit_fields, flip_in_body

ROOT = Path(__file__).parents[2]


def records_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "records", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_verify_command_ends_with_0_on_sound_records(small_records):
    folder, _, _ = small_records
    ended = records_command("verify", folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "7 examples, all in order"
    assert ended.stderr == ""


def test_the_verify_command_ends_with_1_on_faults_and_prints_each_on_a_line(small_records):
    folder, info, records = small_records
    path = flip_in_body(folder, info, records)
    ended = records_command("verify", folder)
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    assert lines[-1] == "7 examples, 3 faults"
    assert any(line.startswith(f"{path}: record 1: ") for line in lines)


def test_the_commands_end_with_2_and_one_line_on_what_are_no_records(tmp_path):
    ended = records_command("verify", tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {tmp_path}: expected finished records")
    assert ended.stderr.count("\n") == 1


def test_the_info_command_shows_splits_class_shares_and_the_histogram_of_objects(tmp_path, make_record, write_records):
    folder = tmp_path / "records"
    counts = [0, 1, 1, 5, 6, 7, 4]  # bins 0, 1, 2 – 3, 4 – 7
    mask = np.zeros((6, 10), np.uint8)
    mask[:3, :5] = 1  # a quarter
    records = [
        make_record(f"a{number}", objects=objects, mask=encode_png(mask)) for number, objects in enumerate(counts)
    ]
    write_records(folder, {"train": [records[:4]], "val": [records[4:]]})
    ended = records_command("info", folder)
    assert ended.returncode == 0, ended.stderr
    rows = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in ended.stdout.splitlines()]
    assert ["train", "4", "1", "0.0"] in rows
    assert ["background", "75.00% / 100%", "75.00% / 100%"] in rows
    assert ["nucleus", "25.00% / 100%", "25.00% / 100%"] in rows
    assert ["0", "1", "█" * 10] in rows
    assert ["1", "2", "█" * 20] in rows
    assert ["2 – 3", "0", ""] in rows
    assert ["4 – 7", "4", "█" * 40] in rows
    assert not any(row and row[0].startswith("8") for row in rows)


def test_the_info_command_shows_folds_overlapping_classes_and_what_was_mended(tmp_path, make_record, write_records):
    records = [make_record(f"a{number}", "raw", mask=bit_fields(0b111, 0b101, 0b100, 0)) for number in range(3)]
    changes = OVERLAPPING | {"warnings": {"slope of 0 read as 1": 7}}
    write_records(tmp_path / "records", {"fold0": [records[:1]], "fold1": [records[1:]]}, **changes)
    ended = records_command("info", tmp_path / "records")
    assert ended.returncode == 0, ended.stderr
    assert "made, 6x10 raw uint8 RGB, overlapping classes, 2 folds, fingerprint ffffffffffff" in ended.stdout
    assert "mended on reading, 7 times: slope of 0 read as 1" in ended.stdout
    assert "share of the sum of all classes' pixels" in ended.stdout
    rows = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in ended.stdout.splitlines()]
    assert ["fold1", "2", "1", "0.0"] in rows
    assert ["a", "33.33% / 100%"] in rows
    assert ["c", "50.00% / 100%"] in rows


def test_the_commands_import_no_tensorflow():
    code = "import sys, records.__main__; print('tensorflow' in sys.modules, 'apache_beam' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False False\n"


def test_the_verify_command_names_a_missing_shard(small_records):
    folder, info, _ = small_records
    path = folder / info.shards("train")[1].name
    path.unlink()
    ended = records_command("verify", folder)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {path}: expected ")
    assert "found no such file" in ended.stderr
