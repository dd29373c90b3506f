"""A local Dask cluster makes the very records that the local runner makes."""

import contextlib
import hashlib
import resource
import shutil
from functools import partial
from pathlib import Path

import pytest

from imaging.codec import decode_mask, encode_png
from preprocess.config import Splits
from tests.conftest import make_records

distributed = pytest.importorskip("dask.distributed", reason="needs Dask: pip install 'apache-beam[dask]'")

SETTINGS = {"size": 32, "splits": Splits(0.6, 0.2, 0.2), "max_rejects": 0.1}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def cluster():
    address = {"host": "127.0.0.1", "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **address) as cluster:
        yield cluster
        with contextlib.suppress(ValueError):  # the runner leaves its clients open
            while True:
                distributed.default_client().close()


def on_dask(cluster) -> str:
    runner = "apache_beam.runners.dask.dask_runner.DaskRunner"
    return f"--runner={runner} --dask_client_address={cluster.scheduler_address}"


def test_dask_and_one_and_two_local_workers_give_the_same_files(cluster, nuclei_raw, tmp_path):
    raw = shutil.copytree(nuclei_raw, tmp_path / "raw")
    mask = next(raw.glob("*/masks/*"))
    mask.write_bytes(encode_png(decode_mask(mask.read_bytes())[1:]))  # its workers report it; shown by rejected.csv
    make_records("nuclei", raw, tmp_path / "dask", **SETTINGS, beam=on_dask(cluster))
    for workers in (1, 2):
        folder = tmp_path / f"workers-{workers}"
        info = make_records("nuclei", raw, folder, **SETTINGS, workers=workers)
        assert hashes(tmp_path / "dask") == hashes(folder)
    assert info.rejected == 1
    assert len(list((tmp_path / "dask").glob("*.tfrecord-*"))) == 3


def test_a_full_disk_of_dask_workers_is_told_in_one_line(cluster, nuclei_raw, tmp_path):
    limit_files = partial(resource.setrlimit, resource.RLIMIT_FSIZE)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        client.run(limit_files, (2000, unlimited[1]))
        try:
            with pytest.raises(OSError, match="cannot be written: File too large; nothing half-made") as error:
                make_records("nuclei", nuclei_raw, tmp_path / "records", **SETTINGS, beam=on_dask(cluster))
        finally:
            client.run(limit_files, unlimited)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "records").glob("*.tmp"))
