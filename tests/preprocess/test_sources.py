import io

import cv2
import numpy as np
import pytest
from PIL import Image

from imaging.codec import encode_png
from preprocess.config import FolderLayout, PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import folder, nuclei
from preprocess.sources.item import Item

CONFIG = PreprocessConfig()


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encode_png(content))
    return RawFiles(str(root))


def blank(height=4, width=6):
    return np.zeros((height, width), np.uint8)


def items(source, files, config=CONFIG):
    return sorted(source.find_items(files, config), key=lambda item: item.key)


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


def test_folder_pairs_by_stem_whatever_the_extension(tmp_path):
    files = write(tmp_path, {"images/x.jpg": b"", "masks/x.png": b"", "images/sub/y.tif": b"", "masks/sub/y.png": b""})
    assert items(folder, files) == [
        Item("sub/y", "images/sub/y.tif", "masks/sub/y.png"),
        Item("x", "images/x.jpg", "masks/x.png"),
    ]


def test_folder_suffixes_and_directory_names_are_settings(tmp_path):
    files = write(tmp_path, {"img/x_sat.jpg": b"", "gt/x_mask.png": b"", "gt/readme.png": b""})
    config = PreprocessConfig(folder=FolderLayout("img", "gt", "_sat", "_mask"))
    assert items(folder, files, config) == [Item("x", "img/x_sat.jpg", "gt/x_mask.png")]


@pytest.mark.parametrize("pattern", ["{split}/{kind}/a.png", "{kind}/{split}/a.png"])
def test_folder_respects_split_directories_above_and_beneath(tmp_path, pattern):
    names = {"train": "train", "valid": "val", "Test": "test"}
    files = write(
        tmp_path,
        {pattern.format(split=name, kind=kind): b"" for name in names for kind in ("images", "masks")},
    )
    found = {item.key: (item.split, item.mask is not None) for item in items(folder, files)}
    assert found == {f"{name}/a": (split, True) for name, split in names.items()}


def test_folder_reports_a_mask_without_image_and_refuses_a_key_twice(tmp_path):
    files = write(tmp_path, {"images/a.png": b"", "masks/a_mask.png": b""})
    image, mask = items(folder, files)
    assert (image.mask, mask.image) == (None, None)
    assert "masks/a_mask.png: no image of that stem" in mask.error
    assert "mask_suffix" in mask.error
    write(tmp_path, {"images/a.jpg": b""})
    with pytest.raises(ValueError, match=r"two files for the key 'a': images/a.jpg and images/a.png"):
        items(folder, files)


def read_folder_mask(tmp_path, mask, config=CONFIG):
    files = write(tmp_path, {"images/a.png": blank(2, 2), "masks/a.png": mask})
    return folder.read_masks(files, items(folder, files)[0], 2, 2, config).classes.tolist()


@pytest.mark.parametrize(("foreground", "dtype"), [(1, np.uint8), (255, np.uint8), (65535, np.uint16)])
def test_binary_masks_may_be_0_1_or_full(tmp_path, foreground, dtype):
    mask = np.array([[0, foreground], [foreground, 0]], dtype)
    assert read_folder_mask(tmp_path, mask) == [[0, 1], [1, 0]]


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [0, 1, 255, 255], [0, 0, 0, 7]])
def test_a_mask_that_is_not_binary_is_refused_with_its_values(tmp_path, values):
    mask = np.array(values, np.uint8).reshape(2, 2)
    with pytest.raises(ValueError, match="expected a binary mask") as error:
        read_folder_mask(tmp_path, mask)
    assert f"found the values {sorted(set(values))}; name the classes with --classes" in str(error.value)


def test_class_indices_keep_their_values_and_255_is_ignore(tmp_path):
    config = PreprocessConfig(classes=["background", "road", "car"])
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert read_folder_mask(tmp_path, mask, config) == [[0, 1], [2, 255]]
    mask[0, 0] = 3
    with pytest.raises(
        ValueError, match=r"expected mask values 0 to 2 \(background, road, car\) or 255 \(ignore\), found \[3\]"
    ):
        read_folder_mask(tmp_path, mask, config)


def test_a_palette_mask_gives_indices_not_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [0] * 759)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    config = PreprocessConfig(classes=["background", "road", "car"])
    assert read_folder_mask(tmp_path, buffer.getvalue(), config) == [[0, 1], [2, 1]]


def test_a_colour_mask_is_refused(tmp_path):
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0] = (255, 0, 0)
    done, data = cv2.imencode(".png", colours)
    assert done
    with pytest.raises(
        ValueError, match=r"masks/a.png: expected a mask of one value per pixel .* found a colour image"
    ):
        read_folder_mask(tmp_path, data.tobytes())
