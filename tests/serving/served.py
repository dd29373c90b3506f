"""Tiny models without weights, and clients of servers of them."""

import asyncio
import contextlib
import io
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import uvicorn
from starlette.testclient import TestClient
from tensorflow import keras

from imaging.codec import encode_png
from inference.images import decide, predict_images
from inference.inputs.frames import read_frames
from inference.inputs.sources import find_sources
from inference.run import TrainedModel
from serving.app import make_app
from serving.config import ServeConfig
from serving.server import open_socket
from serving.service import Service
from tests.conftest import predictor_of

AFFINE = np.diag([-0.5, 2.0, 3.0, 1.0])


def model_of(kind: str) -> TrainedModel:
    """The brighter, the more probable: "small" (stretched to 32x32), "tiles" (of 16), "scan", "overlapping", or
    "exclusive"."""
    channels = 1 if kind == "scan" else 3
    inputs = keras.Input([None, None, channels])
    scale, offset = (0.01, -328.68) if kind == "scan" else (0.05, -6.0)
    outputs = 2 if kind in ("overlapping", "exclusive") else 1
    logits = keras.layers.Rescaling(scale, offset)(inputs[..., :outputs])
    known = {"classes": ["background", "blob"], "channels": channels, "dtype": "uint8", "fingerprint": "f" * 8}
    if kind == "overlapping":
        known |= {"classes": ["red", "green"], "overlapping": True}
    if kind == "exclusive":
        known["classes"] = ["background", "red", "green"]
        logits = keras.layers.Concatenate()([0 * logits[..., :1], logits])
    if kind == "scan":
        intensity = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}
        known |= {"dtype": "uint16", "intensity": intensity, "window": (0.0, 200.0)}
    if kind == "tiles":
        return TrainedModel(keras.Model(inputs, logits), **known, crop=16)
    return TrainedModel(keras.Model(inputs, logits), **known, size=(32, 32), stretched=True)


@contextlib.contextmanager
def client_of(kind: str, run: Path = Path("nowhere"), key: str | None = None, service_of=Service, **settings):
    """Yields (client, service) of a server that is warm."""
    config = ServeConfig(**{"batch_size": 4, "timeout_s": 20, **settings})
    service = service_of(predictor_of(model_of(kind)), config)
    app = make_app(service, run, key)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        service.batcher.ready.result(60)
        yield client, service


@contextlib.contextmanager
def address_of(kind: str, run: Path = Path("nowhere"), key: str | None = None, **settings):
    """Yields the address of a server that is warm, for clients that need a network."""
    service = Service(predictor_of(model_of(kind)), ServeConfig(**{"batch_size": 2, **settings}))
    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(service, run, key), log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])))
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        service.batcher.ready.result(60)
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def picture(height: int = 40, width: int = 30, seed: int = 0) -> np.ndarray:
    """Bright blobs, uint8 [height, width, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 200, (-(-height // 5), -(-width // 5), 3))
    return np.kron(coarse, np.ones((5, 5, 1)))[:height, :width].astype(np.uint8)


def png(**shape) -> bytes:
    return encode_png(picture(**shape))


def scan(slices: int = 3) -> bytes:
    """A NIfTI without gzip, int16 [24, 20, slices], -100 to 300."""
    voxels = np.random.default_rng(3).integers(-100, 300, (6, 5, slices)).astype(np.int16)
    return nib.Nifti1Image(np.kron(voxels, np.ones((4, 4, 1), np.int16)), AFFINE).to_bytes()


def post(client, data: bytes, accept: str = "*/*", headers=None, **query):
    files = {"file": ("../../x.html", io.BytesIO(data), "text/html")}
    return client.post("/v1/predict", files=files, params=query, headers={"Accept": accept} | (headers or {}))


def predicted(predictor, folder: Path, name: str, data: bytes) -> list:
    """What predict.py finds in a file: the `Prediction` of every frame."""
    (folder / name).write_bytes(data)
    sources = find_sources([str(folder / name)])

    def fail(source, reason):
        raise AssertionError(reason)

    frames = ((frame, frame.pixels) for frame in read_frames(sources, predictor.trained, fail))
    return [
        decide(predictor, probabilities, *frame.image.shape[:2], cleared)
        for frame, probabilities, cleared in predict_images(predictor, frames, 4)
    ]


def check_refused(response, status: int, words: str = "") -> None:
    """Checks that an answer is an error in one line, which tells nothing of the server's insides."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert words in error
    assert "\n" not in error
    assert not any(word in error for word in ("Traceback", "/serving/", "x.html"))


def check_answers(client, service) -> None:
    """Checks that a good request is answered, and that nothing is left in hand."""
    good = post(client, scan(2) if service.predictor.trained.channels == 1 else png())
    assert good.status_code == 200, good.text
    admission = service.admission
    assert (admission.requests, admission.uploads, admission.memory) == (0, 0, 0)
