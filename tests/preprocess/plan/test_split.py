import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.config import PreprocessConfig, Splits
from preprocess.plan import make_plan
from preprocess.plan.split import divide
from tests.preprocess.plan.tables import keys, make_index, splits_of

NEAR = ("00000000000000ff", "00000000000000fe")


def test_near_duplicates_share_a_split():
    generator = np.random.default_rng(0)
    pictures = generator.integers(2**64, size=60, dtype=np.uint64)
    hashes = [f"{value ^ np.uint64(1 << number % 64):016x}" for number, value in enumerate(np.tile(pictures, 3))]
    index = make_index(keys(180), perceptual_hash=hashes)
    for distance, together in ((2, True), (None, False)):
        plan = make_plan(index, PreprocessConfig(near_duplicates=distance))
        picture = plan["key"].str[1:].astype(int) % 60
        assert (plan.groupby(picture)["split"].nunique() == 1).all() == together


def test_near_duplicates_leave_raw_splits_alone():
    # a and b look the same; so do c, d and e, of which e has no split.
    hashes = [*NEAR, "ff00000000000000", "fe00000000000000", "ff00000000000000"]
    index = make_index("abcde", split=["train", "val", "train", "test", None], perceptual_hash=hashes)
    plan = make_plan(index, PreprocessConfig()).set_index("key")
    # e joins the split that is held out most.
    assert plan["split"].to_dict() == {"a": "train", "b": "val", "c": "train", "d": "test", "e": "test"}
    assert plan["cluster"].to_dict() == {"a": "a", "b": "b", "c": "c", "d": "d", "e": "d"}


def test_near_duplicates_of_test_do_not_move_what_is_divided_into_train_and_val():
    # There is no val directory, so train is divided; a looks like b of test.
    index = make_index(keys(20), split=["train"] * 10 + ["test"] * 10)
    index.loc[[0, 10], "perceptual_hash"] = NEAR
    for folds in (None, 3):
        splits = splits_of(make_plan(index, PreprocessConfig(splits=Splits(0.6, 0.2, 0.2, folds=folds))))
        assert {key for key, split in splits.items() if split == "test"} == set(keys(20)[10:])


def test_what_touches_a_named_split_by_a_near_duplicate_follows_it():
    index = make_index("abc", split=["test", None, None], perceptual_hash=[*NEAR, None], group=["a", "g", "g"])
    assert set(splits_of(make_plan(index, PreprocessConfig())).values()) == {"test"}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    shares=st.sampled_from([[0.8, 0.1, 0.1], [0.5, 0.5, 0.0], [0.2] * 5, [0.3, 0.3, 0.3, 0.1], [1.0, 0.0, 0.0]]),
    data=st.data(),
)
def test_each_split_gets_its_share_in_all_and_of_every_stratum(sizes, shares, data):
    sizes = np.array(sizes)
    strata = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(sizes), max_size=len(sizes))))
    split = divide(sizes, strata, shares)
    largest = sizes.max()
    for number, share in enumerate(shares):
        if share == 0:
            assert not (split == number).any()
    # A border lies within half a cluster; where a border before it lies behind it, it is moved up to that one, which
    # may add a cluster for each. A stratum has the remainder of those before it on top.
    allowed = (0.5 + np.arange(len(shares))) * largest
    if min(share for share in shares if share) * sizes.sum() < 2 * len(shares) * largest:
        allowed += len(shares) * largest  # so few clusters that one may be moved into every split
    for rows, times in [(slice(None), 1)] + [(strata == stratum, 2) for stratum in set(strata)]:
        got = np.bincount(split[rows], sizes[rows], len(shares)).cumsum()
        assert (abs(got - np.cumsum(shares) * sizes[rows].sum()) <= times * allowed + 1e-6).all()


def test_few_large_clusters_in_small_strata_stay_near_their_shares():
    split = divide(np.array([1, 8, 1, 3, 2, 8]), np.array([0, 0, 0, 2, 1, 1]), [0.2] * 5)
    assert np.bincount(split, [1, 8, 1, 3, 2, 8], 5).max() <= 9  # 23 / 5, and a cluster of 8


def test_without_strata_clusters_belong_where_their_middle_falls():
    # Middles at 1, 3, 4.5, 6, 8.5 of 10; borders at 5 and 8.
    assert divide(np.array([2, 2, 1, 2, 3]), np.zeros(5), [0.5, 0.3, 0.2]).tolist() == [0, 0, 0, 1, 2]


def test_of_few_patients_no_split_with_a_share_gets_none():
    for clusters in range(3, 9):
        split = divide(np.full(clusters, 64), np.zeros(clusters), [0.8, 0.1, 0.1])
        assert set(split.tolist()) == {0, 1, 2}
        assert (np.diff(split) >= 0).all()
    assert divide(np.full(4, 64), np.zeros(4), [0.8, 0.1, 0.1]).tolist() == [0, 0, 1, 2]
    assert divide(np.array([1, 1, 1]), np.zeros(3), [0.9, 0.0, 0.1]).tolist() == [0, 0, 2]
    assert divide(np.full(2, 64), np.zeros(2), [0.8, 0.1, 0.1]).tolist() == [0, 0]  # too few


def test_a_remainder_is_carried_from_stratum_to_stratum():
    # Ten strata of one cluster each: rounding alone would put all ten into the first split.
    split = divide(np.ones(10, np.int64), np.arange(10), [0.6, 0.2, 0.2])
    assert np.bincount(split).tolist() == [6, 2, 2]


def test_stratified_splits_have_the_same_mix_of_object_counts():
    objects = [0] * 100 + [1] * 50 + [2, 3] * 20 + [40] * 10
    index = make_index(keys(200), objects=objects)
    plan = make_plan(index, PreprocessConfig(splits=Splits(0.8, 0.1, 0.1, stratify=True)))
    bits = plan["objects"].map(lambda count: int(count).bit_length())
    counts = plan.groupby([bits, "split"]).size().unstack()
    assert counts["train"].tolist() == [80, 40, 32, 8]
    assert counts["val"].tolist() == counts["test"].tolist() == [10, 5, 4, 1]


def test_the_stratum_of_a_group_is_that_of_its_fullest_image():
    # Ten groups of an empty and a full image: each is full, and half of them go to either split.
    index = make_index(keys(40), objects=[0, 9] * 10 + [0] * 20)
    index["group"] = [f"g{number // 2}" for number in range(20)] + keys(40)[20:]
    plan = make_plan(index, PreprocessConfig(splits=Splits(0.5, 0.0, 0.5, stratify=True)))
    full = plan[plan["objects"] == 9]
    assert full["split"].value_counts().to_dict() == {"train": 5, "test": 5}


def test_stratify_needs_objects():
    index = make_index("ab", objects=[None, 1])
    with pytest.raises(
        ValueError, match=r"splits\.stratify: expected the number of objects of every image, found none"
    ):
        make_plan(index, PreprocessConfig(splits=Splits(stratify=True)))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=30, max_size=60),
    folds=st.integers(2, 5),
    stratify=st.booleans(),
    test=st.sampled_from([0.0, 0.2]),
)
def test_folds_are_of_equal_size_within_a_cluster_and_test_stays_apart(sizes, folds, stratify, test):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    index = make_index(keys(len(groups)), group=groups, objects=np.arange(len(groups)) % 7)
    splits = Splits(1 - test, 0.0, test, folds=folds, stratify=stratify)
    plan = make_plan(index, PreprocessConfig(splits=splits))
    counts = plan["fold"].value_counts()
    assert sorted(counts.index) == list(range(folds))
    # Each is within a cluster of its share; strata may shift both of its borders by as much.
    assert (abs(counts - (1 - test) * len(groups) / folds) <= max(sizes) * (2 if stratify else 1)).all()
    assert abs((plan["split"] == "test").sum() - test * len(groups)) <= max(sizes)
    assert (plan.groupby("group")["split"].nunique() == 1).all()
    assert plan["fold"].isna().equals(plan["split"] == "test")
    assert (plan["split"].dropna() == "fold" + plan["fold"].astype("str"))[plan["fold"].notna()].all()


def test_test_is_the_same_with_and_without_folds():
    index = make_index(keys(200))
    plain = splits_of(make_plan(index, PreprocessConfig()))
    folded = splits_of(make_plan(index, PreprocessConfig(splits=Splits(folds=4))))
    assert {key for key in plain if plain[key] == "test"} == {key for key in folded if folded[key] == "test"}


def test_folds_keep_a_raw_test_split_and_divide_train_and_val():
    index = make_index(keys(30), split=["train"] * 15 + ["val"] * 5 + ["test"] * 10)
    plan = make_plan(index, PreprocessConfig(splits=Splits(folds=4)))
    assert plan["split"].value_counts().to_dict() == {"test": 10, "fold0": 5, "fold1": 5, "fold2": 5, "fold3": 5}
    assert set(plan.loc[plan["split"] == "test", "key"]) == set(keys(30)[20:])


def test_with_folds_train_and_val_may_share_a_group_or_a_file_but_not_with_test():
    index = make_index(keys(30), split=["train"] * 15 + ["val"] * 5 + ["test"] * 10)
    index.loc[[0, 16], "group"] = "g"
    index.loc[[1, 17], "sha256"] = "s"
    plan = make_plan(index, PreprocessConfig(splits=Splits(folds=2))).set_index("key")
    assert (plan["status"] == "in").all()
    assert plan.loc["k0000", "fold"] == plan.loc["k0016", "fold"]
    assert plan.loc["k0001", "fold"] == plan.loc["k0017", "fold"]
    index.loc[25, "sha256"] = "s"
    plan = make_plan(index, PreprocessConfig(splits=Splits(folds=2))).set_index("key")
    assert plan.loc[["k0001", "k0017"], "reason"].tolist() == ["same file in split test: images/k0025"] * 2
    index.loc[26, "group"] = "g"
    with pytest.raises(ValueError, match="divide the group 'g' between splits: k0000 in train and k0016 in val and"):
        make_plan(index, PreprocessConfig(splits=Splits(folds=2)))


def test_an_empty_fold_is_an_error():
    index = make_index(keys(10), group=["a"] * 5 + ["b"] * 5)
    with pytest.raises(ValueError, match=r"splits\.folds: expected examples for 5 folds, found none for fold"):
        make_plan(index, PreprocessConfig(splits=Splits(folds=5)))


def test_without_folds_the_fold_is_not_known():
    assert make_plan(make_index(keys(5)), PreprocessConfig())["fold"].isna().all()
