"""Answers over HTTP are what predict.py finds."""

import base64
import gzip
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.codec import decode_image, decode_mask, encode_jpeg
from imaging.rle import decode_rle
from inference.direct import DirectModel
from inference.postprocess import Steps
from tests.conftest import predictor_of
from tests.serving.served import AFFINE, client_of, model_of, picture, png, post, predicted, scan


@pytest.fixture(scope="module")
def small():
    with client_of("small") as (client, service):
        yield client, service


@pytest.fixture(scope="module")
def tiles():
    with client_of("tiles") as (client, service):
        yield client, service


@pytest.fixture(scope="module")
def ct():
    with client_of("scan", batch_size=2) as (client, service):
        yield client, service


def mask_of(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return decode_mask(response.content)


@pytest.mark.parametrize("kind", ["small", "tiles"])
@pytest.mark.parametrize(("height", "width"), [(40, 30), (9, 70), (16, 16)])
def test_masks_are_those_of_predict_to_the_last_pixel(kind, height, width, tmp_path, request):
    client, service = request.getfixturevalue(kind)
    data = png(height=height, width=width)
    (wanted,) = predicted(service.predictor, tmp_path, "a.png", data)
    found = mask_of(post(client, data, "image/png"))
    assert found.shape == (height, width)
    assert 0 < wanted.mask.mean() < 1
    np.testing.assert_array_equal(found, wanted.mask)


def test_a_jpeg_and_json_are_answered_alike(small, tmp_path):
    client, service = small
    data = encode_jpeg(picture(), 90)
    (wanted,) = predicted(service.predictor, tmp_path, "a.jpg", data)
    np.testing.assert_array_equal(mask_of(post(client, data, "image/png")), wanted.mask)
    body = {"file": base64.b64encode(data).decode()}
    np.testing.assert_array_equal(mask_of(client.post("/v1/predict?answer=mask", json=body)), wanted.mask)


def test_a_mask_is_indexed_and_in_colour(small):
    with Image.open(io.BytesIO(post(small[0], png(), "image/png").content)) as image:
        assert image.mode == "P"
        assert image.getpalette()[:6] == [0, 0, 0, 255, 80, 20]


@pytest.mark.parametrize("shape", ["polygon", "rle", "none"])
def test_objects_make_up_the_mask(small, shape):
    client, _ = small
    mask = mask_of(post(client, png(), "image/png"))
    response = post(client, png(), "application/json", shape=shape)
    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert answer["image"] == {"height": 40, "width": 30}
    objects = answer["objects"]
    assert answer["classes"] == {
        "blob": {"pixels": int(mask.sum()), "share": mask.sum() / 1200, "objects": len(objects)}
    }
    assert len(objects) > 1
    assert sum(one["pixels"] for one in objects) == mask.sum()
    for one in objects:
        assert {"polygon", "rle"} & one.keys() == {shape} - {"none"}
        assert one["class"] == "blob"
        assert 0.5 <= one["score"] <= 1
        x, y, width, height = one["bbox"]
        area = np.zeros_like(mask)
        area[y : y + height, x : x + width] = 1
        if shape == "rle":
            area = decode_rle(one["rle"], 40, 30)
            assert [np.flatnonzero(area.any(axis))[[0, -1]].tolist() for axis in (0, 1)] == [
                [x, x + width - 1],
                [y, y + height - 1],
            ]
            assert area.sum() == one["pixels"]
        assert mask[area > 0].any()
        if shape == "polygon":
            assert sum(_signed_area(ring) for polygon in one["polygon"] for ring in polygon) == one["pixels"]


def _signed_area(ring) -> float:
    """Shoelace formula; outlines and holes have opposite signs."""
    x, y = np.array(ring).T
    return -float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def test_a_threshold_of_the_client_is_that_of_predict(small, tmp_path):
    client, service = small
    predictor = predictor_of(service.predictor.trained, threshold=0.8)
    (wanted,) = predicted(predictor, tmp_path, "a.png", png())
    np.testing.assert_array_equal(mask_of(post(client, png(), "image/png", threshold=0.8)), wanted.mask)
    assert wanted.mask.sum() < mask_of(post(client, png(), "image/png")).sum()


def test_an_overlay_is_the_image_outside_the_mask(small):
    client, _ = small
    response = post(client, png(), 'image/png; profile="overlay"')
    painted = decode_image(response.content)
    assert painted.shape == (40, 30, 3)
    assert response.headers["content-type"] == "image/png"
    mask = mask_of(post(client, png(), "image/png"))
    nothing = decode_image(post(client, png(), answer="overlay", threshold=0.9999).content)
    np.testing.assert_array_equal(painted[mask == 0], nothing[mask == 0])
    assert (painted[mask == 1] != nothing[mask == 1]).any(1).mean() > 0.9


@pytest.mark.parametrize("zipped", [False, True])
def test_a_scan_gives_a_mask_on_its_grid(ct, zipped, tmp_path):
    client, service = ct
    data = scan(5)
    wanted = predicted(service.predictor, tmp_path, "a.nii", data)
    response = post(client, gzip.compress(data) if zipped else data, "application/gzip")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/gzip"
    image = nib.Nifti1Image.from_bytes(gzip.decompress(response.content))
    np.testing.assert_array_equal(image.affine, AFFINE)
    voxels = np.asarray(image.dataobj)
    assert voxels.shape == (24, 20, 5)
    assert 0 < voxels.mean() < 1
    for index, prediction in enumerate(wanted):
        # x of the file runs to the left already; rows go from anterior to posterior.
        np.testing.assert_array_equal(voxels[:, ::-1, index].T, prediction.mask)


def test_a_scan_has_volumes_and_an_overlay_of_its_fullest_slice(ct):
    client, _ = ct
    answer = post(client, scan(3), "application/json").json()
    assert answer["image"] == {"height": 20, "width": 24, "slices": 3, "spacing_mm": [2.0, 0.5, 3.0]}
    pixels = [one["pixels"]["blob"] for one in answer["slices"]]
    assert answer["classes"]["blob"]["pixels"] == sum(pixels) > 0
    assert answer["classes"]["blob"]["volume_ml"] == pytest.approx(sum(pixels) * 3e-3)
    assert answer["objects"] == []
    assert decode_image(post(client, scan(3), answer="overlay").content).shape == (20, 24, 3)


def test_overlapping_classes_are_chosen_one_by_one(tmp_path):
    with client_of("overlapping") as (client, service):
        (wanted,) = predicted(service.predictor, tmp_path, "a.png", png())
        refused = post(client, png(), "image/png")
        assert refused.status_code == 422
        assert "class: expected one of red, green" in refused.json()["error"]
        for bit, name in enumerate(["red", "green"]):
            found = mask_of(post(client, png(), "image/png", **{"class": name}))
            np.testing.assert_array_equal(found, wanted.mask >> bit & 1)
            answer = post(client, png(), "application/json", **{"class": name}).json()
            assert list(answer["classes"]) == [name]
            assert {one["class"] for one in answer["objects"]} == {name}


def test_requests_share_batches(small):
    client, service = small
    batches = []
    model = service.batcher._predict
    held, go = threading.Event(), threading.Event()

    def slow(parts):
        held.set()
        assert go.wait(10)
        batches.append(len(parts))
        return model(parts)

    service.batcher._predict = slow
    try:
        with ThreadPoolExecutor(5) as pool:
            pictures = [png(seed=seed) for seed in range(5)]
            first = pool.submit(post, client, pictures[0], "image/png")
            assert held.wait(10)
            others = [pool.submit(post, client, data, "image/png") for data in pictures[1:]]
            while service.batcher.waiting < 4:
                threading.Event().wait(0.01)
            go.set()
            masks = [mask_of(future.result()) for future in (first, *others)]
    finally:
        go.set()
        service.batcher._predict = model
    assert batches == [1, 4]
    for data, mask in zip(pictures, masks, strict=True):
        np.testing.assert_array_equal(mask, mask_of(post(client, data, "image/png")))


def test_a_batch_of_any_size_is_padded_to_a_size_that_is_known():
    model = DirectModel(predictor_of(model_of("small")), 6)
    assert model.sizes == [1, 2, 4, 6]
    model.warm_up()
    images = [{"image": np.full((32, 32, 3), value, np.uint8)} for value in (0, 120, 140, 255, 90)]
    known = dict(model._graphs)
    found = model.predict(images)
    assert model._graphs == known
    values = [float(part.probabilities[5, 5, 0]) for part in found]
    np.testing.assert_allclose(values, 1 / (1 + np.exp(6 - 0.05 * np.array([0, 120, 140, 255, 90]))), rtol=1e-5)


def test_the_model_is_described(tmp_path):
    scores = tmp_path / "eval" / "test" / "metrics.json"
    scores.parent.mkdir(parents=True)
    scores.write_text(json.dumps({"dice_per_image": 0.9, "iou_per_image": None}))
    (tmp_path / "eval" / "broken").mkdir()
    (tmp_path / "eval" / "broken" / "metrics.json").write_text("{")
    with client_of("small", run=tmp_path) as (client, _):
        model = client.get("/v1/model").json()
    assert model["scores"] == {"test": {"dice_per_image": 0.9, "iou_per_image": None}}
    assert model["classes"] == ["blob"]
    assert (model["size"], model["tile"], model["channels"], model["dtype"]) == ([32, 32], None, 3, "uint8")
    assert model["steps"]["blob"]["threshold"] == Steps().threshold
    assert model["batch_sizes"] == [1, 2, 4]
