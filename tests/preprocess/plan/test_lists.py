import pandas as pd
import pytest

from preprocess.config import PreprocessConfig, Splits
from preprocess.plan import make_plan
from preprocess.plan.lists import read_key_list, read_sample
from tests.preprocess.plan.tables import keys, make_index, splits_of

CONFIG = PreprocessConfig(splits=Splits(keys="splits.csv"))
FOLDS = PreprocessConfig(splits=Splits(keys="splits.csv", folds=3))
SAMPLE = PreprocessConfig(unlabeled=True, sample="sample.csv")


def listed(**split_by_key):
    return pd.DataFrame({"key": list(split_by_key), "split": list(split_by_key.values())})


def test_a_list_names_keys_groups_and_file_names():
    index = make_index("abcdef", group=["a", "p1", "p1", "d", "e", "f"], image=None)
    index["image"] = ["x/1.jpg", "x/2.jpg", "x/3.jpg", "x/4.jpg", "x/5.png", "x/scan.nii.gz"]
    entries = pd.DataFrame(
        [("a", "train"), ("p1", "val"), ("4.jpg", "test"), ("scan", "test")], columns=["key", "split"]
    )
    plan = make_plan(index, CONFIG, keys=entries).set_index("key")
    assert plan["split"].dropna().to_dict() == {"a": "train", "b": "val", "c": "val", "d": "test", "f": "test"}
    assert plan.loc["e", ["status", "reason"]].tolist() == ["dropped", "not in the list of splits"]


def test_a_list_comes_before_directories_shares_and_near_duplicates():
    index = make_index("abc", split=["test", "train", "train"], perceptual_hash="00000000000000ff")
    plan = make_plan(index, CONFIG, keys=listed(a="train", b="test", c="train"))
    assert splits_of(plan) == {"a": "train", "b": "test", "c": "train"}
    assert (plan.groupby("cluster")["split"].nunique() == 1).all()


def test_a_list_of_folds_names_their_numbers_and_test():
    plan = make_plan(make_index("abcd"), FOLDS, keys=listed(a=0, b=2, c="test", d=1)).set_index("key")
    assert plan["split"].to_dict() == {"a": "fold0", "b": "fold2", "c": "test", "d": "fold1"}
    assert plan["fold"].fillna(-1).to_dict() == {"a": 0, "b": 2, "c": -1, "d": 1}


def test_a_bad_item_may_be_listed():
    plan = make_plan(make_index("ab", error=["bad", None]), CONFIG, keys=listed(a="train", b="val")).set_index("key")
    assert plan["status"].to_dict() == {"a": "rejected", "b": "in"}


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (CONFIG, [("a", "dev")], r"expected the split train, val or test, found 'dev' \(for 'a'\)"),
        (CONFIG, [("a", "0")], "expected the split train, val or test, found '0'"),
        (CONFIG, [("a", None)], "expected the split train, val or test, found"),
        (FOLDS, [("a", "train")], "expected the split test, or 0 to 2, found 'train'"),
        (FOLDS, [("a", "3")], "expected the split test, or 0 to 2, found '3'"),
        (CONFIG, [("a", "train"), ("a", "val")], "expected one split for each key, found several for 'a'"),
        (
            CONFIG,
            [("a", "train"), ("q", "val"), ("r", "val"), ("s", "val"), ("t", "val")],
            r"file names of images, found 'q', 'r', 's', …, which name none \(4 of 5 entries\)",
        ),
        (CONFIG, [("b", "train"), ("c", "val")], "one split for the group 'g', found b in train and c in val"),
        (CONFIG, [("d", "train"), ("e", "val")], "expected equal files in one split, found d in train and e in val"),
        (CONFIG, [("b", "train"), ("g", "val")], "one split for 'b', found train and, by the entry 'g', val"),
    ],
)
def test_a_list_that_contradicts_itself_or_the_data_is_an_error(config, rows, message):
    index = make_index("abcde", group=["a", "g", "g", "d", "e"], sha256=["1", "2", "3", "4", "4"])
    with pytest.raises(ValueError, match=rf"^splits\.keys: .*{message}"):
        make_plan(index, config, keys=pd.DataFrame(rows, columns=["key", "split"]))


def test_what_the_list_leaves_out_divides_nothing():
    index = make_index("abc", group=["g", "g", "c"], sha256=["1", "2", "1"])
    plan = make_plan(index, CONFIG, keys=listed(b="train", c="val"))
    assert splits_of(plan.dropna(subset="split")) == {"b": "train", "c": "val"}


def test_a_sample_decides_who_is_in_and_in_which_order():
    index = make_index(keys(30), mask=None)
    index["image"] = "test/" + index["key"] + ".jpg"
    sample = ["k0007.jpg", "k0002", "k0029.jpg", "k0007.jpg", *keys(20)[10:]]
    plan = make_plan(index, SAMPLE, sample=sample)
    examples = plan[plan["status"] == "in"]
    assert examples["key"].tolist() == ["k0007", "k0002", "k0029", *keys(20)[10:]]
    assert set(examples["split"]) == {"test"}
    assert examples["shard"].is_monotonic_increasing
    assert set(plan.loc[plan["status"] == "dropped", "reason"]) == {"not in the sample submission"}


def test_slices_and_tiles_of_a_sample_stay_in_their_own_order():
    volumes = ["b.nii", "b.nii", "a.nii", "a.nii"]
    names = ["b/z0000", "b/z0001", "a/z0000", "a/z0001"]
    index = make_index(names, image=volumes, group=volumes, slice_index=[0, 1, 0, 1], height=64, width=128)
    config = PreprocessConfig(unlabeled=True, sample="sample.csv", tile=True, size=64)
    plan = make_plan(index, config, sample=["b", "a"])
    tiles = [f"{name}/y00000x{x:05d}" for name in names for x in (0, 64)]
    assert plan["key"].tolist() == tiles


def test_ids_of_a_sample_without_an_image_are_an_error():
    message = r"sample: expected an image for every id, found none for 'q', 'r', 's', … \(4 of 5 ids\)"
    with pytest.raises(ValueError, match=message):
        make_plan(make_index("ab"), SAMPLE, sample=["q", "a", "r", "s", "t"])


def test_an_id_of_a_sample_that_names_two_images_is_an_error():
    index = make_index("ab", image=["one/x.jpg", "two/x.jpg"])
    message = "sample: expected one image named 'x', found 'one/x.jpg', 'two/x.jpg'"
    with pytest.raises(ValueError, match=message):
        make_plan(index, SAMPLE, sample=["x"])


def test_a_key_list_is_read_as_text_whatever_its_keys_look_like(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("\ufeffsplit, key,note\n0, 007,x\ntest,NA,\n", encoding="utf-8")
    assert read_key_list(str(path)).values.tolist() == [["007", "0"], ["NA", "test"]]
    assert read_key_list(None) is None


def test_a_key_list_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("image,split\na,train\n")
    with pytest.raises(ValueError, match=r"expected the columns key and split, found image, split without key"):
        read_key_list(str(path))
    with pytest.raises(ValueError, match="splits.keys: .*missing.csv: expected a CSV file"):
        read_key_list(str(tmp_path / "missing.csv"))


def test_a_sample_names_each_image_once_in_its_order(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("Image_Label,EncodedPixels\nb_1.jpg_Fish,1 1\nb_1.jpg_Sugar,1 1\na.jpg_Fish,\n")
    assert read_sample(str(path)) == ["b_1.jpg", "a.jpg"]
    path.write_text("ImageId,EncodedPixels\nb_1.jpg,1 1\na.jpg,\nb_1.jpg,5 1\n")
    assert read_sample(str(path)) == ["b_1.jpg", "a.jpg"]
    path.write_text("ImageId,EncodedPixels\n")
    with pytest.raises(ValueError, match="expected a row for each image, found none"):
        read_sample(str(path))
