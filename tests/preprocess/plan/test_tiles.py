import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.tiling import tile_windows
from preprocess.config import PreprocessConfig
from preprocess.plan import make_plan
from tests.preprocess.plan.tables import keys, make_index


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 100)), min_size=1, max_size=12),
    size=st.integers(20, 50),
    overlap=st.integers(0, 19),
)
def test_tiles_are_those_that_cover_their_image_and_share_its_split(sizes, size, overlap):
    height, width = zip(*sizes, strict=True)
    index = make_index(keys(len(sizes)), height=height, width=width)
    plan = make_plan(index, PreprocessConfig(tile=True, size=size, tile_overlap=overlap))
    for image, tiles in plan.groupby("image"):
        key = image.removeprefix("images/")
        windows = tile_windows(*sizes[int(key[1:])], size, overlap)
        crops = list(zip(*(tiles[f"crop_{name}"] for name in ("y", "x", "height", "width")), strict=True))
        assert crops == windows
        assert tiles["key"].tolist() == [f"{key}/y{window.y:05d}x{window.x:05d}" for window in windows]
        assert tiles["split"].nunique() == 1
        # Side by side in the shards.
        assert np.array_equal(np.diff(tiles.index), np.ones(len(tiles) - 1))
        assert set(tiles["cluster"]) == {key}


def test_tiles_know_their_own_foreground_and_no_objects():
    index = make_index("abcd", height=64, width=[128, 64, 64, 128], error=[None, None, "bad", None])
    index["tile_foreground"] = [[0, 7], [3], None, None]
    plan = make_plan(index, PreprocessConfig(tile=True, size=64)).set_index("key").sort_index()
    tiles = ["a/y00000x00000", "a/y00000x00064", "b/y00000x00000", "c", "d/y00000x00000", "d/y00000x00064"]
    assert plan.index.tolist() == tiles
    assert plan["foreground"].fillna(-1).tolist() == [0, 7, 3, 1, -1, -1]
    assert plan["objects"].fillna(-1).tolist() == [-1, -1, -1, 1, -1, -1]
    assert plan.loc["c", ["crop_y", "crop_x", "crop_height", "crop_width"]].isna().all()
    assert plan["height"].tolist() == [64] * 6  # of the raw image


def test_empty_tiles_can_be_dropped():
    index = make_index("ab", height=64, width=128)
    index["tile_foreground"] = [[0, 7], [3, 0]]
    plan = make_plan(index, PreprocessConfig(tile=True, size=64, drop_empty=True)).set_index("key")
    assert set(plan.index[plan["status"] == "in"]) == {"a/y00000x00064", "b/y00000x00000"}


def test_a_quota_counts_images_before_they_are_cut():
    index = make_index(keys(10), height=64, width=128, objects=[1] * 6 + [2] * 4)
    plan = make_plan(index, PreprocessConfig(tile=True, size=64, quota="1:3,2:9"))
    assert plan[plan["status"] == "in"].groupby("image").size().tolist() == [2] * 7
    assert plan.attrs["shortages"] == ["quota: 2 objects: 9 wanted, 4 found"]


def test_shares_count_tiles():
    index = make_index(keys(60), height=64, width=[64] * 40 + [640] * 20)
    plan = make_plan(index, PreprocessConfig(tile=True, size=64))
    # 240 tiles; an image of ten at each border moves it by five at most.
    counts = plan["split"].value_counts()
    assert abs(counts["train"] - 192) <= 5
    assert abs(counts["test"] - 24) <= 5


def test_without_tiles_there_is_no_crop():
    plan = make_plan(make_index(keys(3)), PreprocessConfig())
    assert plan[["crop_y", "crop_x", "crop_height", "crop_width"]].isna().all(axis=None)


def test_where_everything_is_bad_there_is_no_tile():
    plan = make_plan(make_index(keys(3), error="bad"), PreprocessConfig(tile=True, size=64))
    assert sorted(plan["key"]) == keys(3)
    assert set(plan["status"]) == {"rejected"}
