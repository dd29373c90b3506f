"""serve.py as a process."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

import serve
from imaging.codec import decode_mask
from inference.config import PredictConfig
from inference.predictor import load_predictor
from tests.conftest import untrained_run
from tests.serving.served import png, predicted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(nuclei_records, tmp_path_factory) -> Path:
    return untrained_run(nuclei_records, tmp_path_factory.mktemp("run"))


@pytest.mark.slow  # a process that imports TensorFlow
def test_a_stopped_server_answers_what_it_has_taken(run, tmp_path):
    import tensorflow as tf

    # Two devices, and so slow to fill a batch that all requests wait when the signal comes.
    flags = ["--port=0", "--batch_size=8", "--delay_ms=900", "--virtual_replicas=2", "--threshold=0.5"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "serve.py"), str(run), *flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (line := process.stdout.readline()).startswith("listening"):
            assert line, process.stderr.read()
        address = line.split()[1].removesuffix(";")
        files = [png(height=50 + seed, width=40, seed=seed) for seed in range(3)]
        with httpx.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(3) as pool:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.1)
            # Its own connection each: one that waits for nothing is closed at the signal.
            answers = [
                pool.submit(httpx.post, f"{address}/v1/predict?answer=mask", files={"file": data}, timeout=60)
                for data in files
            ]
            while "segmentation_requests_in_hand 3.0" not in client.get("/metrics").text:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            answers = [answer.result() for answer in answers]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert process.wait(60) == 0
        assert "all that was taken is answered" in process.stdout.read()
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
    predictor = load_predictor(str(run), PredictConfig(threshold=0.5), tf.distribute.get_strategy())
    for index, (data, answer) in enumerate(zip(files, answers, strict=True)):
        (wanted,) = predicted(predictor, tmp_path, f"{index}.png", data)
        np.testing.assert_array_equal(decode_mask(answer.content), wanted.mask)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/healthz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: expected a RUN folder made by train.py"),
        (["{run}", "--host=0.0.0.0"], "host: expected an API key"),
        (["{run}", "--api_key_file=nowhere"], "api_key_file: nowhere cannot be read: No such file"),
        (["{run}", "--host=203.0.113.7", "--api_key_file={key}"], "expected to listen on 203.0.113.7:8000"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_is_loaded(run, arguments, words, tmp_path, monkeypatch):
    (tmp_path / "key").write_text("0123456789abcdef")
    known = {"run": run, "key": tmp_path / "key"}
    monkeypatch.delenv("SEGMENTATION_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["serve.py", *(one.format(**known) for one in arguments)])
    with pytest.raises((ValueError, OSError), match=words):
        serve.main()
