"""What the page draws is what the other answers say."""

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest

from imaging.codec import decode_image, decode_mask
from imaging.painting import display_image
from serving.content import examine
from serving.view import view_bytes
from tests.serving.served import AFFINE, client_of, picture, png, post, scan


def view_of(client, data: bytes, **query) -> dict:
    response = post(client, data, "application/json;profile=view", **query)
    assert response.status_code == 200, response.text
    return response.json()


def layer(text: str, height: int = 40, width: int = 30) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(height, width)


def volume(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_areas_are_the_mask_and_the_rest_is_the_answer_in_json():
    with client_of("small") as (client, _):
        answer = view_of(client, png())
        view = answer.pop("view")
        np.testing.assert_array_equal(
            layer(view["areas"]["blob"]), decode_mask(post(client, png(), "image/png").content)
        )
        assert answer == post(client, png()).json()
        np.testing.assert_array_equal(decode_image(base64.b64decode(view["image"])), display_image(picture()))


@pytest.mark.parametrize("level", [1, 64, 128, 129, 255])
def test_a_level_is_reached_exactly_where_the_threshold_is(level):
    with client_of("overlapping") as (client, _):
        view = view_of(client, png())["view"]
        for name in ("red", "green"):
            mask = decode_mask(post(client, png(), "image/png", threshold=level / 256, **{"class": name}).content)
            np.testing.assert_array_equal(layer(view["probabilities"][name]) >= level, mask == 1)


def test_classes_that_are_not_asked_for_are_left_out():
    with client_of("overlapping") as (client, _):
        view = view_of(client, png(), **{"class": "green"})["view"]
        assert list(view["areas"]) == list(view["probabilities"]) == ["green"]


def test_a_scan_has_volumes_on_its_own_grid():
    with client_of("scan", batch_size=2) as (client, _):
        answer = view_of(client, scan())
        mask = nib.Nifti1Image.from_bytes(gzip.decompress(post(client, scan(), "application/gzip").content))
        assert "image" not in answer["view"]
        area, levels = (volume(answer["view"][kind]["blob"]) for kind in ("areas", "probabilities"))
        for one in (area, levels):
            np.testing.assert_array_equal(one.affine, AFFINE)
            assert one.get_data_dtype() == np.uint8
            assert one.header["sizeof_hdr"] == 348  # the page reads NIfTI-1
        np.testing.assert_array_equal(np.asarray(area.dataobj), np.asarray(mask.dataobj))
        assert (np.asarray(levels.dataobj)[np.asarray(area.dataobj) == 1] >= 128).all()


def test_the_memory_of_a_view_counts():
    data = png(height=160, width=100)
    with client_of("small", max_memory_mib=1) as (client, service):
        memory = examine(data, service.predictor.trained, service.config).memory
        assert memory < 2**20 - 1 < memory + view_bytes(160 * 100, 1)
        service.admission.memory += 1  # alone, a request may take whatever it takes
        assert post(client, data).status_code == 200
        assert post(client, data, "application/json;profile=view").status_code == 503
