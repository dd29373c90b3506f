import hashlib

import numpy as np
import pytest

from imaging.codec import decode_image, decode_mask
from preprocess.synthetic import WRITERS, SyntheticConfig, make_scene


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")
    }


@pytest.mark.parametrize("layout", WRITERS)
def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path, layout):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        WRITERS[layout](tmp_path / name, SyntheticConfig(images=3, seed=seed))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert set(hashes(tmp_path / "a").values()).isdisjoint(hashes(tmp_path / "c").values())


def test_a_scene_has_objects_that_differ_from_the_background_and_do_not_overlap():
    for seed in range(8):
        image, masks = make_scene(np.random.default_rng(seed))
        stacked = np.stack(masks) > 0
        assert stacked.sum(0).max() == 1
        inside = stacked.any(0)
        grey = image.astype(float).mean(2)
        assert abs(grey[inside].mean() - grey[~inside].mean()) > 10


def test_both_layouts_show_the_same_scenes(tmp_path):
    for layout in ("nuclei", "folder"):
        WRITERS[layout](tmp_path / layout, SyntheticConfig(images=1))
    nuclei = next((tmp_path / "nuclei").glob("*/images/*.png"))
    image = decode_image(nuclei.read_bytes())
    np.testing.assert_array_equal(image, decode_image((tmp_path / "folder/images/scene0000.png").read_bytes()))
    union = sum(decode_mask(path.read_bytes()).astype(int) for path in nuclei.parent.parent.glob("masks/*.png"))
    np.testing.assert_array_equal(union, decode_mask((tmp_path / "folder/masks/scene0000.png").read_bytes()))
