import io

import cv2
import numpy as np
import pytest
from PIL import Image

from imaging.codec import encode_jpeg
from preprocess.config import FolderLayout, PreprocessConfig
from preprocess.sources import folder
from preprocess.sources.item import Item
from tests.preprocess.sources.raw_files import CONFIG, blank, items, write


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


def test_values_of_folder_ignore_are_ignored_in_class_indices_and_binary_masks(tmp_path):
    layout = FolderLayout(ignore=["11"])
    mask = np.array([[0, 1], [11, 255]], np.uint8)
    assert read_folder_mask(tmp_path, mask, PreprocessConfig(classes=["a", "b"], folder=layout)) == [[0, 1], [255, 255]]
    mask[1, 1] = 2
    with pytest.raises(ValueError, match=r"expected mask values 0 to 1 \(a, b\) or 11, 255 \(ignore\), found \[2\]"):
        read_folder_mask(tmp_path, mask, PreprocessConfig(classes=["a", "b"], folder=layout))
    binary = np.array([[0, 255], [11, 255]], np.uint8)
    assert read_folder_mask(tmp_path, binary, PreprocessConfig(folder=layout)) == [[0, 1], [255, 1]]


def test_sixteen_bit_labels_that_are_ignored_do_not_wrap_around(tmp_path):
    mask = np.array([[0, 1], [257, 300]], np.uint16)
    config = PreprocessConfig(classes=["a", "b"], folder=FolderLayout(ignore=["257", "300"]))
    assert read_folder_mask(tmp_path, mask, config) == [[0, 1], [255, 255]]


def test_inverted_masks_swap_object_and_background_but_not_what_is_ignored(tmp_path):
    mask = np.array([[0, 255], [128, 0]], np.uint8)
    config = PreprocessConfig(folder=FolderLayout(invert=True, ignore=["128"]))
    assert read_folder_mask(tmp_path, mask, config) == [[1, 0], [255, 1]]


def binary_jpeg(low, high, height=16, width=24):
    mask = np.full((height, width, 1), low, np.uint8)
    mask[:, 8:] = high
    return encode_jpeg(mask, 80)


@pytest.mark.parametrize("invert", [False, True])
def test_jpeg_masks_are_thresholded_with_a_warning(tmp_path, invert):
    files = write(tmp_path, {"images/a.png": blank(16, 24), "masks/a.jpg": binary_jpeg(3, 250)})
    config = PreprocessConfig(folder=FolderLayout(invert=invert))
    masks = folder.read_masks(files, items(folder, files)[0], 16, 24, config)
    expected = np.zeros((16, 24), np.uint8)
    expected[:, 8:] = 1
    np.testing.assert_array_equal(masks.classes, 1 - expected if invert else expected)
    assert masks.warnings == ("JPEG masks thresholded at 128",)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 11), (100, 160)])
def test_a_jpeg_that_is_neither_dark_nor_bright_is_no_mask(tmp_path, low, high):
    files = write(tmp_path, {"images/a.png": blank(16, 24), "masks/a.jpg": binary_jpeg(low, high)})
    with pytest.raises(ValueError, match="masks/a.jpg: expected a JPEG mask of dark and bright pixels"):
        folder.read_masks(files, items(folder, files)[0], 16, 24, CONFIG)


def test_jpeg_labels_are_refused_whatever_the_file_is_called(tmp_path):
    files = write(tmp_path, {"images/a.png": blank(16, 24), "masks/a.png": binary_jpeg(0, 255)})
    for config in (PreprocessConfig(classes=["a", "b"]), with_colors()):
        write(tmp_path, {"colors.csv": COLORS})
        with pytest.raises(ValueError, match="masks/a.png: expected class labels, found a JPEG, which blurs them"):
            folder.read_masks(files, items(folder, files)[0], 16, 24, config)


COLORS = "Name, R,G,B\nSky,128,128,128\nRoad,128,64,128\nVoid,0,0,0\n"


def with_colors(*ignore, path="colors.csv"):
    return PreprocessConfig(folder=FolderLayout(colors=path, ignore=list(ignore)))


def test_colours_become_classes_in_the_order_of_the_table(tmp_path):
    files = write(tmp_path, {"colors.csv": COLORS})
    assert folder.class_names(files, with_colors()) == ["Sky", "Road", "Void"]
    assert folder.class_names(files, with_colors("Sky")) == ["Road", "Void"]
    mask = np.array([[[128, 64, 128], [0, 0, 0]], [[128, 128, 128], [128, 64, 128]]], np.uint8)
    assert read_folder_mask(tmp_path, mask, with_colors()) == [[1, 2], [0, 1]]
    assert read_folder_mask(tmp_path, mask, with_colors("Void")) == [[1, 255], [0, 1]]
    assert read_folder_mask(tmp_path, mask, with_colors("Sky")) == [[0, 1], [255, 0]]


def test_colours_may_come_with_alpha_as_palette_or_as_grey(tmp_path):
    write(tmp_path, {"colors.csv": COLORS})
    colors = np.array([[[128, 64, 128], [0, 0, 0]], [[128, 128, 128], [128, 64, 128]]], np.uint8)
    for mode in ("RGBA", "P"):
        buffer = io.BytesIO()
        Image.fromarray(colors).convert(mode, palette=Image.Palette.ADAPTIVE).save(buffer, "PNG")
        assert read_folder_mask(tmp_path, buffer.getvalue(), with_colors()) == [[1, 2], [0, 1]]
    assert read_folder_mask(tmp_path, np.array([[0, 128], [128, 0]], np.uint8), with_colors()) == [[2, 0], [0, 2]]


def test_colours_of_sixteen_bits_are_refused(tmp_path):
    write(tmp_path, {"colors.csv": COLORS})
    with pytest.raises(ValueError, match="masks/a.png: expected a mask of 8-bit colours, found uint16"):
        read_folder_mask(tmp_path, np.zeros((2, 2, 3), np.uint16), with_colors())


def test_a_colour_that_is_not_in_the_table_is_named_with_the_nearest(tmp_path):
    write(tmp_path, {"colors.csv": COLORS})
    mask = np.array([[[127, 64, 129], [127, 64, 129]], [[9, 0, 0], [0, 0, 0]]], np.uint8)
    with pytest.raises(ValueError, match="masks/a.png: expected the colours of the table alone") as error:
        read_folder_mask(tmp_path, mask, with_colors())
    assert "found 3 pixels of 2 others, such as (127, 64, 129) at 2 pixels; the nearest is Road (128, 64, 128)" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,r,g\na,1,2\n", r"missing \['b'\]"),
        ("name,r,g,b\na,1,2,256\nb,0,0,0\n", "line 2: expected a name and 3 numbers of 0 to 255"),
        ("name,r,g,b\na,1,2\nb,0,0,0\n", "line 2: expected a name and 3 numbers of 0 to 255"),
        ("name,r,g,b\na,1,2,3\nb,1,2,3\n", r"expected different colours, found \(1, 2, 3\) twice"),
        ("name,r,g,b\na,1,2,3\na,1,2,4\n", "expected different names, found a twice"),
        ("name,r,g,b\na,1,2,3\n", r"expected 2 to 254 classes, found 1 \(a\)"),
        ("", "missing"),
    ],
)
def test_what_is_wrong_with_a_table_of_colours_is_said(tmp_path, table, message):
    with pytest.raises(ValueError, match=f"colors.csv: .*{message}"):
        folder.class_names(write(tmp_path, {"colors.csv": table}), with_colors())


def test_the_table_of_colours_may_lie_outside_and_must_lie_somewhere(tmp_path):
    files = write(tmp_path / "raw", {"images/a.png": blank()})
    write(tmp_path, {"colors.csv": b"\xef\xbb\xbf" + COLORS.encode()})
    names = folder.class_names(files, with_colors(path=str(tmp_path / "colors.csv")))
    assert names == ["Sky", "Road", "Void"]
    with pytest.raises(
        ValueError, match=r"folder.colors: expected the CSV file no.csv in .* or on disk, found it in neither"
    ):
        folder.class_names(files, with_colors(path="no.csv"))
    with pytest.raises(ValueError, match="folder.ignore: expected names among Sky, Road, Void, found void"):
        folder.class_names(files, with_colors("void", path=str(tmp_path / "colors.csv")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["a"]}, "classes: expected at least 2 names"),
        ({"classes": ["a", "b"], "folder": FolderLayout(colors="c.csv")}, "classes, folder.colors: choose one"),
        ({"classes": ["a", "b"], "folder": FolderLayout(invert=True)}, "folder.invert: expected binary masks"),
        ({"folder": FolderLayout(colors="c.csv", invert=True)}, "folder.invert: expected binary masks"),
        ({"folder": FolderLayout(ignore=["Void"])}, "folder.ignore: expected mask values .*, found 'Void'"),
        ({"overlap": "bits"}, "the classes of this layout never overlap"),
    ],
)
def test_settings_of_the_folder_layout_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        folder.class_names(None, PreprocessConfig(**settings))
