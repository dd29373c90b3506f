import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.config import PreprocessConfig, Splits
from preprocess.plan import SHARD_BYTES, describe_plan, fingerprint, make_plan, shard_count
from tests.preprocess.plan.tables import keys, make_index, splits_of


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
    assert plan.loc["a", "reason"] == "same file in split test: images/b"


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
    [
        (1, 10, 1),
        (16, 10, 1),
        (17, 10, 2),
        (1000, 10, 16),
        (1000, 17 * SHARD_BYTES, 17),
        (5, SHARD_BYTES + 1, 2),
        (2, 24 * SHARD_BYTES, 2),
    ],
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
    ("values", "message"),
    [
        ({"size": 0}, "size: expected a number of pixels of at least 1, or null, found 0"),
        ({"workers": 0}, "workers: expected at least 1, found 0"),
        ({"max_rejects": 2.0}, "max_rejects: expected a share between 0 and 1, found 2.0"),
        ({"classes": ["a", "a"]}, "classes: expected 1 to 255 different names"),
        ({"name": "My-Data"}, "name: expected small letters"),
        ({"group_by": "("}, "is no regular expression"),
        ({"plan_only": True, "overwrite": True}, "plan_only, overwrite: choose one"),
    ],
)
def test_settings_that_make_no_sense_are_quoted(values, message):
    with pytest.raises(ValueError, match=message):
        PreprocessConfig(**values)


@st.composite
def indexes(draw):
    count = draw(st.integers(2, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures = generator.integers(2**64, size=max(1, count // 2), dtype=np.uint64)
    flipped = np.uint64(1) << generator.integers(64, size=count, dtype=np.uint64)
    return make_index(
        keys(count),
        group=[f"g{number}" for number in generator.integers(2 * count, size=count)],
        sha256=[f"s{number}" for number in generator.integers(3 * count, size=count)],
        perceptual_hash=[f"{value:016x}" for value in generator.choice(pictures, count) ^ flipped],
        objects=generator.integers(9, size=count),
        foreground=generator.integers(2, size=count),
        height=generator.choice([50, 64, 100], count),
        width=generator.choice([64, 90], count),
        outlier=generator.choice(np.array([None, "blank", "clipped"], object), count),
        error=np.where(generator.random(count) < 0.05, "broken", None),
    )


CHOICES = [
    {},
    {"near_duplicates": None},
    {"splits": Splits(folds=2)},
    {"splits": Splits(stratify=True)},
    {"quota": "0:2,1-3:2,5+:4"},
    {"max_empty": 0.3},
    {"tile": True, "size": 40, "tile_overlap": 8},
    {"drop_outliers": ["blank"], "splits": Splits(folds=2, stratify=True)},
    {"unlabeled": True},
]


@settings(max_examples=40, deadline=None)
@given(index=indexes(), choice=st.sampled_from(CHOICES))
def test_a_plan_loses_nothing_takes_nothing_twice_and_divides_no_cluster(index, choice):
    config = PreprocessConfig(**choice)
    try:
        plan = make_plan(index, config)
    except ValueError as error:
        # Folds of so few images can be empty, and everything can be an outlier.
        assert "splits.folds: expected examples for 2 folds" in str(error) or "found none" in str(error)
        return
    assert plan["key"].is_unique
    assert set(plan["key"].str.replace(r"/y\d{5}x\d{5}$", "", regex=True)) == set(index["key"])
    assert set(plan.loc[plan["status"] == "rejected", "key"]) == set(index.loc[index["error"].notna(), "key"])
    is_in = plan["status"] == "in"
    assert (plan["reason"].isna() == is_in).all()
    for column in ("split", "shard", "shards", "position"):
        assert (plan[column].notna() == is_in).all()
    examples = plan[is_in]
    for column in ("group", "sha256", "duplicate", "cluster"):
        assert (examples.groupby(column)["split"].nunique() == 1).all()
    assert examples["cluster"].isin(index["key"]).all()
    for _, rows in examples.groupby("split"):
        assert rows["shard"].is_monotonic_increasing
        assert rows["shard"].unique().tolist() == list(range(rows["shards"].iloc[0]))
        for _, part in rows.groupby("shard"):
            assert part["position"].tolist() == list(range(len(part)))


def test_outliers_are_dropped_where_the_config_says_so():
    index = make_index("abcd", outlier=["blank", None, "clipped", "uniform"])
    plan = make_plan(index, PreprocessConfig(drop_outliers=["blank", "uniform"])).set_index("key")
    assert plan["status"].to_dict() == {"a": "dropped", "b": "in", "c": "in", "d": "dropped"}
    assert plan.loc[["a", "d"], "reason"].tolist() == ["outlier, blank", "outlier, uniform"]


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="expected examples that stay, found none: 2 are dropped, 2 of them: empty"):
        make_plan(make_index("ab", foreground=0), PreprocessConfig(drop_empty=True))


def test_the_fingerprint_covers_crops_slices_and_order():
    config = PreprocessConfig(tile=True, size=32)
    plan = make_plan(make_index(keys(3)), config)
    mark = fingerprint(plan, {})
    for column, value in (("crop_y", 5), ("slice_index", 7), ("position", 9), ("group", "g"), ("split", "val")):
        changed = plan.copy()
        changed.loc[0, column] = value
        assert fingerprint(changed, {}) != mark, column
    # What is out has no part in the records.
    out = pd.concat([plan, plan.iloc[:1].assign(key="x", status="dropped")], ignore_index=True)
    assert fingerprint(out, {}) == mark


def test_the_fingerprint_is_pinned():
    # It may change only where the records' bytes do, or finished records would be made again.
    plan = make_plan(make_index(keys(3)), PreprocessConfig())
    assert fingerprint(plan, {"size": 8}) == ("ddd9a71c1d711e7c92b0c6da892ac04ab5337799e9c98959637ea55604eca9f1")


def test_shards_are_counted_by_the_bytes_of_their_coding():
    index = make_index(keys(40), height=2048, width=2048, channels=3, image_bytes=2_000_000)
    one = {"splits": Splits(1.0, 0.0, 0.0), "size": None}
    pixels = 2048 * 2048
    for coding, image in (("keep", 2_000_000), ("png", pixels * 3 / 2), ("jpeg", pixels * 3 / 4), ("raw", pixels * 3)):
        expected = shard_count(40, int(40 * (image + pixels / 20)))
        assert make_plan(index, PreprocessConfig(coding=coding, **one))["shards"].iloc[0] == expected
    assert shard_count(40, int(40 * pixels * 3.05)) == 4


def test_shards_are_counted_by_the_bytes_of_their_own_split():
    index = make_index(keys(64), split=["train"] * 32 + ["val"] * 16 + ["test"] * 16)
    index["height"] = index["width"] = pd.array([4096] * 32 + [64] * 32, "Int64")
    plan = make_plan(index, PreprocessConfig(coding="raw", size=None))
    expected = shard_count(32, int(32 * 4096 * 4096 * 3.05))
    assert plan.groupby("split")["shards"].first().to_dict() == {"train": expected, "val": 1, "test": 1}
    assert expected > 2


def test_raw_examples_all_have_the_most_channels_and_the_widest_dtype():
    index = make_index(keys(32), height=2048, width=2048, channels=[1] * 31 + [3], depth=[8] * 31 + [16])
    plan = make_plan(index, PreprocessConfig(coding="raw", size=None, splits=Splits(1.0, 0.0, 0.0)))
    assert plan["shards"].iloc[0] == shard_count(32, int(32 * 2048 * 2048 * 6.05))


def test_the_description_tells_splits_drops_flags_duplicates_and_shortages():
    index = make_index(keys(20), objects=[0] * 5 + [1] * 14 + [9], sha256=["same", "same", *keys(18)])
    index["outlier"] = ["blank"] * 2 + [None] * 18
    config = PreprocessConfig(quota="0:5,1:8,2:4", splits=Splits(0.8, 0.2, 0.0))
    lines = describe_plan(make_plan(index, config), config)
    assert lines[0].startswith("plan       train ")
    assert lines[0].endswith("test 0 (0 shards) · dropped 7")
    assert lines[1:] == [
        "dropped    above the quota 6 · not in the quota 1",
        "outliers   blank 2 are in; --drop_outliers leaves them out",
        "duplicates 2 examples are in 1 cluster, the largest of 2",
        "quota: 2 objects: 4 wanted, 0 found",
    ]


def test_the_description_names_folds():
    config = PreprocessConfig(splits=Splits(folds=2))
    lines = describe_plan(make_plan(make_index(keys(20)), config), config)
    assert lines == ["plan       fold0 9 (1 shard) · fold1 9 (1 shard) · test 2 (1 shard)"]


def test_a_split_that_no_patient_is_left_for_is_told():
    index = make_index(keys(40), group=[f"p{number // 20}" for number in range(40)])
    config = PreprocessConfig()
    lines = describe_plan(make_plan(index, config), config)
    assert lines[1] == (
        "warning    val and test without examples: 2 independent images or groups, choose larger --splits"
    )
    config = PreprocessConfig(splits=Splits(1, 0, 0))
    lines = describe_plan(make_plan(index, config), config)
    assert lines[1:] == ["groups     2, the largest of 20 examples"]
