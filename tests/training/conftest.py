"""Records of `keyed_records`, and a run on them."""

from pathlib import Path

import pytest

from records.info import RecordsInfo
from tests.training.keyed_records import CONFIG, write_records
from tests.training.runs import start
from training.run_folder import RunFolder


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> tuple[Path, RecordsInfo]:
    """(folder, info) of sound records; read only."""
    folder = tmp_path_factory.mktemp("sound") / "records"
    return folder, write_records(folder)


@pytest.fixture
def own(tmp_path) -> tuple[Path, RecordsInfo]:
    """(folder, info) of records to be damaged."""
    return tmp_path / "records", write_records(tmp_path / "records")


@pytest.fixture(scope="module")
def uninterrupted(records, tmp_path_factory):
    """(run, state, told) of an uninterrupted run of CONFIG; read only."""
    run = RunFolder(tmp_path_factory.mktemp("uninterrupted") / "run")
    return run, *start(records[0], run.path, CONFIG, records[1])
