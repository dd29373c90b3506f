import numpy as np
import pandas as pd
import pytest

from preprocess.config import PreprocessConfig, Splits
from preprocess.plan import SHARD_BYTES, fingerprint, make_plan, shard_count


def make_index(keys, **columns):
    table = pd.DataFrame({"key": list(keys)})
    defaults = {
        "group": table["key"],
        "image": "images/" + table["key"],
        "mask": "masks/" + table["key"],
        "objects": 1,
        "split": None,
        "image_bytes": 1000,
        "sha256": table["key"].map(lambda key: f"sha-{key}"),
        "mask_hash": "",
        "height": 64,
        "width": 64,
        "channels": 3,
        "depth": 8,
        "error": None,
    }
    for name, value in (defaults | columns).items():
        table[name] = value
    return table.astype({"split": "str", "error": "str"})


def keys(count):
    return [f"k{number:04d}" for number in range(count)]


def splits_of(plan):
    return dict(zip(plan["key"], plan["split"], strict=True))


def test_fractions_are_exact_where_every_example_is_its_own_group():
    plan = make_plan(make_index(keys(100)), PreprocessConfig(splits=Splits(0.7, 0.2, 0.1)))
    assert plan["split"].value_counts().to_dict() == {"train": 70, "val": 20, "test": 10}
    assert sorted(plan["key"]) == keys(100)


def test_the_plan_does_not_depend_on_the_order_of_the_index():
    index = make_index(keys(50))
    shuffled = index.sample(frac=1, random_state=0, ignore_index=True)
    pd.testing.assert_frame_equal(
        make_plan(index, PreprocessConfig()), make_plan(shuffled, PreprocessConfig()), check_dtype=False
    )


def test_another_seed_gives_other_splits_and_another_order():
    index = make_index(keys(50))
    first, second = make_plan(index, PreprocessConfig(seed=0)), make_plan(index, PreprocessConfig(seed=1))
    assert splits_of(first) != splits_of(second)
    assert first["key"].tolist() != second["key"].tolist()


def test_most_examples_stay_in_their_split_when_the_dataset_grows():
    before = splits_of(make_plan(make_index(keys(200)), PreprocessConfig()))
    after = splits_of(make_plan(make_index(keys(220)), PreprocessConfig()))
    moved = sum(after[key] != split for key, split in before.items())
    assert moved < 10  # only what lies at a border


def test_groups_and_equal_contents_are_never_divided():
    generator = np.random.default_rng(0)
    groups = [f"patient{number}" for number in generator.integers(30, size=200)]
    contents = [f"sha{number}" for number in generator.integers(150, size=200)]
    plan = make_plan(make_index(keys(200), group=groups, sha256=contents), PreprocessConfig())
    assert (plan.groupby("group")["split"].nunique() == 1).all()
    assert (plan.groupby("sha256")["split"].nunique() == 1).all()
    assert (plan.groupby("cluster")["split"].nunique() == 1).all()


def test_a_chain_of_groups_and_contents_is_one_cluster_named_by_its_smallest_key():
    # a-b share a group, b-c a content, c-d a group; e is alone.
    index = make_index("abcde", group=["g1", "g1", "g2", "g2", "g3"], sha256=["s1", "s2", "s2", "s3", "s4"])
    plan = make_plan(index, PreprocessConfig()).set_index("key")
    assert plan["cluster"].to_dict() == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}


def test_split_directories_are_respected():
    named = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    plan = make_plan(make_index(keys(10), split=named), PreprocessConfig())
    assert splits_of(plan) == dict(zip(keys(10), named, strict=True))


def test_without_a_val_directory_validation_comes_out_of_train_alone():
    named = ["train"] * 90 + ["test"] * 10
    plan = make_plan(make_index(keys(100), split=named), PreprocessConfig(splits=Splits(0.8, 0.2, 0.0)))
    assert plan["split"].value_counts().to_dict() == {"train": 72, "val": 18, "test": 10}
    assert {key for key, split in splits_of(plan).items() if split == "test"} == set(keys(100)[90:])


def test_a_file_that_directories_put_into_two_splits_stays_in_the_held_out_one():
    index = make_index("abcd", split=["train", "test", "train", "val"], sha256=["same", "same", "other", "third"])
    plan = make_plan(index, PreprocessConfig()).set_index("key")
    assert plan["status"].to_dict() == {"a": "dropped", "b": "in", "c": "in", "d": "in"}
    assert plan.loc["a", "reason"] == "same file as images/b in split test"


def test_what_was_dropped_ties_nothing_together():
    # a's file is also b's, in test; without a, nothing ties c, d of train to test.
    index = make_index(
        "abcd", split=["train", "test", "train", "val"], sha256=["x", "x", "y", "z"], group=["g", "h", "g", "v"]
    )
    plan = make_plan(index, PreprocessConfig()).set_index("key")
    assert plan["status"].to_dict() == {"a": "dropped", "b": "in", "c": "in", "d": "in"}
    assert plan.loc[["b", "c", "d"], "split"].tolist() == ["test", "train", "val"]


def test_directories_that_divide_a_chain_of_groups_and_files_are_an_error():
    # b, in no directory of a split, ties a of train to c of test.
    splits, contents, groups = ["train", None, "test", "val"], ["x", "x", "z", "v"], ["a", "g", "g", "v"]
    index = make_index("abcd", split=splits, sha256=contents, group=groups)
    with pytest.raises(ValueError, match="divide what groups and equal files tie to 'a' between splits"):
        make_plan(index, PreprocessConfig())


def test_directories_that_divide_a_group_are_an_error():
    index = make_index("ab", group="p1", split=["train", "test"])
    with pytest.raises(ValueError, match="divide the group 'p1' between splits: a in train and b in test"):
        make_plan(index, PreprocessConfig())


def test_bad_items_are_out_with_their_reason():
    plan = make_plan(make_index("abc", error=[None, "b is broken", None]), PreprocessConfig()).set_index("key")
    assert plan.loc["b", ["status", "reason"]].tolist() == ["rejected", "b is broken"]
    assert plan.loc["b", ["split", "shard", "position"]].isna().all()


def test_unlabelled_examples_are_all_in_test():
    plan = make_plan(make_index(keys(5), mask=None), PreprocessConfig(unlabeled=True))
    assert set(plan["split"]) == {"test"}


@pytest.mark.parametrize(
    ("examples", "size", "expected"),
    [(1, 10, 1), (16, 10, 1), (17, 10, 2), (1000, 10, 16), (1000, 17 * SHARD_BYTES, 17), (5, SHARD_BYTES + 1, 2)],
)
def test_the_number_of_shards(examples, size, expected):
    assert shard_count(examples, size) == expected


def test_shards_hold_every_example_once_in_positions_without_gaps():
    plan = make_plan(make_index(keys(103)), PreprocessConfig())
    for _, rows in plan.groupby("split"):
        sizes = rows.groupby("shard").size()
        assert sizes.max() - sizes.min() <= 1
        assert sizes.index.tolist() == list(range(rows["shards"].iloc[0]))
        for _, part in rows.groupby("shard"):
            assert part["position"].tolist() == list(range(len(part)))


def test_examples_of_one_container_lie_side_by_side():
    containers = [f"volume{number // 10}" for number in range(100)]
    plan = make_plan(make_index(keys(100), image=containers, group=containers), PreprocessConfig())
    for _, rows in plan.groupby("split", sort=False):
        runs = (rows["image"] != rows["image"].shift()).sum()
        assert runs == rows["image"].nunique()


def test_the_fingerprint_changes_with_content_split_and_settings_only():
    config = PreprocessConfig()
    index = make_index(keys(20))
    plan = make_plan(index, config)
    mark = fingerprint(plan, config.content("folder"))
    assert mark == fingerprint(plan, PreprocessConfig(workers=7, max_rejects=0.5).content("folder"))
    assert mark != fingerprint(plan, PreprocessConfig(size=64).content("folder"))
    for column in ("sha256", "mask_hash"):
        changed = make_plan(make_index(keys(20), **{column: ["x", *index[column][1:]]}), config)
        assert mark != fingerprint(changed, config.content("folder"))


@pytest.mark.parametrize("shares", [(0.8, 0.3, 0.1), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_shares_must_add_up_and_not_be_negative(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        Splits(*shares)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size: expected a number of pixels of at least 1, or null, found 0"),
        ({"workers": 0}, "workers: expected at least 1, found 0"),
        ({"max_rejects": 2.0}, "max_rejects: expected a share between 0 and 1, found 2.0"),
        ({"classes": ["a", "a"]}, "classes: expected 2 to 255 different names"),
        ({"name": "My-Data"}, "name: expected small letters"),
        ({"group_by": "("}, "is no regular expression"),
        ({"plan_only": True, "overwrite": True}, "plan_only, overwrite: choose one"),
    ],
)
def test_settings_that_make_no_sense_are_quoted(settings, message):
    with pytest.raises(ValueError, match=message):
        PreprocessConfig(**settings)
