import numpy as np
import pytest

from imaging.codec import encode_png
from preprocess.config import PreprocessConfig
from preprocess.sources import nuclei
from preprocess.sources.item import Item
from tests.preprocess.sources.raw_files import CONFIG, blank, items, write


def test_nuclei_are_found_at_any_depth_with_the_number_of_their_masks(tmp_path):
    files = write(
        tmp_path,
        {
            "stage1_train/aa/images/aa.png": blank(),
            "stage1_train/aa/masks/1.png": blank(),
            "stage1_train/aa/masks/2.png": blank(),
            "bb/images/bb.png": blank(),
            "readme.txt": b"",
        },
    )
    assert items(nuclei, files) == [
        Item("aa", "stage1_train/aa/images/aa.png", "stage1_train/aa/masks", 2),
        Item("bb", "bb/images/bb.png", None, 0),
    ]


def test_nuclei_say_what_is_wrong_with_a_folder(tmp_path):
    files = write(tmp_path, {"aa/images/1.png": blank(), "aa/images/2.png": blank(), "bb/masks/1.png": blank()})
    first, second = items(nuclei, files)
    assert first.error == "aa/images: expected one image, found 2"
    assert second == Item("bb", None, "bb/masks", error="bb: masks without an image")


def test_nuclei_masks_become_classes_and_instances(tmp_path):
    big, small = blank(), blank()
    big[:, :4], small[1, 1] = 255, 255
    files = write(tmp_path, {"a/images/a.png": blank(), "a/masks/1.png": big, "a/masks/2.png": small})
    masks = nuclei.read_masks(files, items(nuclei, files)[0], 4, 6, CONFIG)
    expected = np.zeros((4, 6), np.uint16)
    expected[:, :4] = 1
    expected[1, 1] = 2  # the smaller on top
    np.testing.assert_array_equal(masks.instances, expected)
    np.testing.assert_array_equal(masks.classes, (expected > 0).astype(np.uint8))
    assert (masks.objects, masks.lost_pixels) == (2, 1)


def test_sixteen_bit_masks_keep_what_eight_bits_would_lose(tmp_path):
    mask = np.zeros((4, 6), np.uint16)
    mask[1, 2] = 256
    files = write(tmp_path, {"a/images/a.png": blank(), "a/masks/1.png": mask})
    masks = nuclei.read_masks(files, items(nuclei, files)[0], 4, 6, CONFIG)
    assert np.argwhere(masks.classes).tolist() == [[1, 2]]


def test_a_mask_that_has_gone_since_the_index_is_missed(tmp_path):
    files = write(tmp_path, {"a/images/a.png": blank(), "a/masks/1.png": blank(), "a/masks/2.png": blank()})
    item = items(nuclei, files)[0]
    (tmp_path / "a/masks/2.png").unlink()
    with pytest.raises(ValueError, match="a/masks: expected 2 mask files, found 1"):
        nuclei.read_masks(files, item, 4, 6, CONFIG)


def test_a_mask_of_another_size_or_damaged_is_named(tmp_path):
    files = write(tmp_path, {"a/images/a.png": blank(), "a/masks/1.png": blank(5, 6)})
    with pytest.raises(ValueError, match=r"a/masks/1.png: expected a mask of 4x6 like its image, found 5x6"):
        nuclei.read_masks(files, items(nuclei, files)[0], 4, 6, CONFIG)
    (tmp_path / "a/masks/1.png").write_bytes(encode_png(blank())[:-20])
    with pytest.raises(ValueError, match=r"a/masks/1.png: the PNG is truncated"):
        nuclei.read_masks(files, items(nuclei, files)[0], 4, 6, CONFIG)


def test_unlabelled_nuclei_need_no_masks_and_masks_no_images(tmp_path):
    files = write(tmp_path, {"aa/images/aa.png": blank(), "bb/masks/1.png": blank()})
    assert [item.key for item in items(nuclei, files, PreprocessConfig(unlabeled=True))] == ["aa"]


def test_nuclei_have_two_classes_whose_names_may_be_others():
    assert nuclei.class_names(None, CONFIG) == ["background", "nucleus"]
    assert nuclei.class_names(None, PreprocessConfig(classes=["none", "cell"])) == ["none", "cell"]
    with pytest.raises(ValueError, match=r"classes: expected 2 names, such as \[background, nucleus\], found"):
        nuclei.class_names(None, PreprocessConfig(classes=["a", "b", "c"]))
    with pytest.raises(ValueError, match="the classes of this layout never overlap"):
        nuclei.class_names(None, PreprocessConfig(overlap="bits"))
