import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from imaging.codec import decode_colors, decode_image, decode_mask
from imaging.rle import decode_rle
from imaging.volume import read_mask, read_scan
from preprocess.config import CtLayout, FolderLayout, PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.synthetic import WRITERS, SyntheticConfig, make_scene

COLORS = FolderLayout(colors="class_dict.csv", ignore=["Void"])


def hashes(folder, suffixes=()):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes or "")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("layout", WRITERS)
def test_the_same_seed_gives_the_same_files_and_another_seed_other_pictures(tmp_path, layout):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        WRITERS[layout](tmp_path / name, SyntheticConfig(images=3, seed=seed))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    pictures = (".png", ".jpg", ".nii", ".nii.gz")
    assert set(hashes(tmp_path / "a", pictures).values()).isdisjoint(hashes(tmp_path / "c", pictures).values())


@pytest.mark.parametrize(
    ("writer", "layout", "settings", "classes"),
    [
        ("nuclei", "nuclei", {}, {0, 1}),
        ("airbus", "airbus", {}, {0, 1}),
        ("clouds", "clouds", {"overlap": "exclusive"}, {0, 1, 2, 3, 4}),
        ("ct", "ct", {"ct": CtLayout(mask="infection_mask")}, {0, 1}),
        ("folder", "folder", {}, {0, 1}),
        ("colors", "folder", {"folder": COLORS}, {0, 1, 2, 3, 4, 255}),
        ("coco", "coco", {}, {0, 1, 2, 3, 255}),
    ],
)
def test_every_item_is_sound_and_every_class_is_shown(tmp_path, writer, layout, settings, classes):
    WRITERS[writer](tmp_path / "raw", SyntheticConfig(images=12))
    files, source, config = RawFiles(str(tmp_path / "raw")), SOURCES[layout], PreprocessConfig(**settings)
    items = list(source.find_items(files, config))
    assert len(items) == (3 if layout == "ct" else 12)
    seen = set()
    for item in items:
        assert item.error is None
        for index in range(24) if layout == "ct" else [None]:
            part = item._replace(slice_index=index)
            height, width = source.read_image(files, part).pixels.shape[:2]
            seen |= set(np.unique(source.read_masks(files, part, height, width, config).classes).tolist())
    assert seen == classes
    assert max(seen - {255}) == len(source.class_names(files, config)) - 1


@pytest.mark.parametrize("layout", ["airbus", "clouds"])
def test_unlabelled_images_and_a_sample_submission_lie_beside(tmp_path, layout):
    WRITERS[layout](tmp_path, SyntheticConfig(images=8))
    items = list(SOURCES[layout].find_items(RawFiles(str(tmp_path)), PreprocessConfig(unlabeled=True)))
    table = pd.read_csv(next(tmp_path.glob("sample_submission*.csv")))
    named = {name.split(".jpg")[0] for name in table.iloc[:, 0]}
    assert {item.key for item in items} == named
    assert len(items) == 2


def test_a_scene_has_objects_that_differ_from_the_background_and_do_not_overlap():
    for seed in range(8):
        image, masks = make_scene(np.random.default_rng(seed))
        stacked = np.stack(masks) > 0
        assert stacked.sum(0).max() == 1
        inside = stacked.any(0)
        grey = image.astype(float).mean(2)
        assert abs(grey[inside].mean() - grey[~inside].mean()) > 10


def test_nuclei_and_folder_show_the_same_scenes(tmp_path):
    for layout in ("nuclei", "folder"):
        WRITERS[layout](tmp_path / layout, SyntheticConfig(images=1))
    nuclei = next((tmp_path / "nuclei").glob("*/images/*.png"))
    image = decode_image(nuclei.read_bytes())
    np.testing.assert_array_equal(image, decode_image((tmp_path / "folder/images/scene0000.png").read_bytes()))
    union = sum(decode_mask(path.read_bytes()).astype(int) for path in nuclei.parent.parent.glob("masks/*.png"))
    np.testing.assert_array_equal(union, decode_mask((tmp_path / "folder/masks/scene0000.png").read_bytes()))


def test_ships_are_small_and_brighter_than_the_sea_around_them_and_many_images_are_empty(tmp_path):
    WRITERS["airbus"](tmp_path, SyntheticConfig(images=16))
    table = pd.read_csv(tmp_path / "train_ship_segmentations_v2.csv", keep_default_na=False)
    assert table["ImageId"].is_monotonic_increasing
    empty = (table["EncodedPixels"] == "").sum()
    assert 5 <= empty <= 13
    for name, codes in table[table["EncodedPixels"] != ""].groupby("ImageId")["EncodedPixels"]:
        grey = decode_image((tmp_path / "train_v2" / name).read_bytes()).astype(float).mean(2)
        ships = np.stack([decode_rle(code, 768, 768) for code in codes]) > 0
        assert ships.sum(0).max() == 1
        assert ships.mean() < 0.01
        assert grey[ships.any(0)].mean() > grey[~ships.any(0)].mean() + 60


def test_the_table_of_clouds_has_a_row_for_each_image_and_class(tmp_path):
    WRITERS["clouds"](tmp_path, SyntheticConfig(images=4))
    table = pd.read_csv(tmp_path / "train.csv", keep_default_na=False)
    images = sorted(path.name for path in (tmp_path / "train_images").iterdir())
    assert table["Image_Label"].tolist() == [
        f"{image}_{name}" for image in images for name in ("Fish", "Flower", "Gravel", "Sugar")
    ]


def test_the_colours_of_a_street_say_what_is_there(tmp_path):
    WRITERS["colors"](tmp_path, SyntheticConfig(images=2))
    table = pd.read_csv(tmp_path / "class_dict.csv", index_col="name")
    mask = decode_colors((tmp_path / "masks/street0000.png").read_bytes())
    assert {tuple(color) for color in mask.reshape(-1, 3).tolist()} <= set(table.itertuples(index=False, name=None))
    assert tuple(mask[0, 0]) == tuple(table.loc["Sky"])
    assert tuple(mask[-1, 0]) == tuple(table.loc["Void"])


def test_some_shapes_of_coco_are_crowds_and_all_have_the_area_that_they_say(tmp_path):
    WRITERS["coco"](tmp_path, SyntheticConfig(images=24))
    content = json.loads((tmp_path / "annotations/instances.json").read_text())
    crowds = [entry for entry in content["annotations"] if entry["iscrowd"]]
    assert 0 < len(crowds) < len(content["annotations"]) / 4
    for entry in content["annotations"]:
        if isinstance(entry["segmentation"], dict) and isinstance(entry["segmentation"]["counts"], list):
            assert sum(entry["segmentation"]["counts"][1::2]) == entry["area"]


def test_volumes_have_kaggles_names_several_directions_and_lungs_of_air(tmp_path):
    WRITERS["ct"](tmp_path, SyntheticConfig(images=24))
    table = pd.read_csv(tmp_path / "metadata.csv")
    assert table.columns.tolist() == ["ct_scan", "lung_mask", "infection_mask", "lung_and_infection_mask"]
    assert table.loc[0, "ct_scan"] == "../input/covid19-ct-scans/ct_scans/coronacases_org_001.nii"
    assert table.loc[0, "lung_mask"] == "../input/covid19-ct-scans/lung_mask/coronacases_001.nii"
    directions = set()
    for row in table.itertuples(index=False):
        paths = [tmp_path / path.removeprefix("../input/covid19-ct-scans/") for path in row]
        scan, geometry = read_scan(paths[0].read_bytes())
        lungs, infection, both = (read_mask(path.read_bytes())[0] for path in paths[1:])
        directions.add("".join(geometry.axis_codes))
        assert scan.shape == (64, 64, 24)
        assert scan[(lungs > 0) & (infection == 0)].mean() < -800 < -400 < scan[infection > 0].mean()
        np.testing.assert_array_equal(both, np.where(infection, 3, lungs))
        # The first axis runs from the patient's left to the right, whatever the file's direction.
        assert np.argwhere(lungs == 1)[:, 0].max() < np.argwhere(lungs == 2)[:, 0].min()
    assert directions == {"RAS", "LPS", "LAS"}
