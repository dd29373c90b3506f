import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.config import PreprocessConfig
from preprocess.plan import make_plan
from preprocess.plan.duplicates import connect, describe_clusters, find_duplicates, first_rows, near_hashes
from tests.preprocess.plan.tables import keys, make_index

EDGES = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40)


def plain_components(count, pairs):
    """Returns the smallest member of each one's component, found by a walk."""
    neighbours = {number: set() for number in range(count)}
    for left, right in pairs:
        neighbours[left].add(right)
        neighbours[right].add(left)
    labels = [None] * count
    for start in range(count):
        todo = [start] if labels[start] is None else []
        while todo:
            number = todo.pop()
            if labels[number] is None:
                labels[number] = start
                todo.extend(neighbours[number])
    return labels


def brute_force(hashes, distance):
    values = [int(value) for value in hashes]
    pairs = [
        (left, right)
        for left, right in itertools.combinations(range(len(values)), 2)
        if (values[left] ^ values[right]).bit_count() <= distance
    ]
    return plain_components(len(values), pairs)


@pytest.mark.parametrize("distance", range(9))
def test_near_hashes_are_those_of_brute_force(distance):
    generator = np.random.default_rng(distance)
    pictures = generator.integers(2**64, size=60, dtype=np.uint64)
    hashes = list(pictures)
    for value in pictures[:40]:
        # Neighbours at the very limit and just beyond it, their bits anywhere.
        for count in (distance, distance + 1):
            bits = generator.choice(64, count, replace=False)
            hashes.append(value ^ np.uint64(sum(1 << int(bit) for bit in bits)))
    hashes = np.unique(np.array(hashes, np.uint64))
    expected = brute_force(hashes, distance)
    assert near_hashes(hashes, distance).tolist() == expected
    assert (len(set(expected)) < len(hashes)) == (distance > 0)


@settings(max_examples=60, deadline=None)
@given(values=st.sets(st.integers(0, 2**64 - 1), max_size=30), distance=st.integers(0, 4), data=st.data())
def test_any_hashes_agree_with_brute_force(values, distance, data):
    flips = [data.draw(st.integers(0, 63)) for _ in values]
    hashes = np.array(sorted(values | {value ^ 1 << bit for value, bit in zip(values, flips, strict=True)}), np.uint64)
    assert near_hashes(hashes, distance).tolist() == brute_force(hashes, distance)


def test_a_long_chain_of_neighbours_is_one_cluster():
    # A Gray code: each hash differs from the next in one bit, the ends in many.
    hashes = np.array(sorted(number ^ number >> 1 for number in range(900)), np.uint64)
    assert (near_hashes(hashes, 1) == 0).all()


def test_in_a_bucket_of_very_many_hashes_each_is_compared_with_the_next_hundred():
    # 4096 hashes that differ in their last 12 bits alone.
    hashes = np.uint64(0xFEDCBA9876543000) + np.arange(4096, dtype=np.uint64)
    pairs = [
        (left, right)
        for left in range(4096)
        for right in range(left + 1, min(left + 101, 4096))
        if (left ^ right).bit_count() <= 3
    ]
    assert near_hashes(hashes, 3).tolist() == plain_components(4096, pairs)


@settings(max_examples=100, deadline=None)
@given(first=EDGES, second=EDGES)
def test_join_finds_components_also_of_what_is_joined_already(first, second):
    labels = np.arange(30)
    for pairs in (first, second):
        left, right = np.array(pairs, np.int64).reshape(-1, 2).T
        labels = connect(labels, left, right)
    assert labels.tolist() == plain_components(30, first + second)


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_join_follows_a_chain_of_a_hundred_thousand(order):
    chain = np.arange(100_000)
    if order == "descending":
        chain = chain[::-1]
    if order == "shuffled":
        chain = np.random.default_rng(0).permutation(chain)
    assert (connect(np.arange(100_000), chain[:-1], chain[1:]) == 0).all()


def test_first_rows_number_equal_values_and_leave_missing_ones_alone():
    assert first_rows(pd.Series(["b", None, "a", "b", None, "a"])).tolist() == [0, 1, 2, 0, 4, 2]
    assert first_rows(pd.Series([None, None], dtype="str")).tolist() == [0, 1]


def test_equal_files_and_near_hashes_are_duplicates_and_groups_are_not():
    index = make_index(
        "abcdef",
        group=["g", "g", "c", "d", "e", "f"],
        sha256=["1", "2", "2", "3", "4", "5"],
        perceptual_hash=[None, None, "00000000000000ff", "00000000000000fe", "ffffffffffffffff", "000000000000f0ff"],
    )
    plan = make_plan(index, PreprocessConfig(near_duplicates=3)).set_index("key")
    assert plan["duplicate"].dropna().to_dict() == {"b": "b", "c": "b", "d": "b"}
    # The cluster also holds what the group ties.
    assert plan["cluster"].to_dict() == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e", "f": "f"}
    exact = make_plan(index, PreprocessConfig(near_duplicates=None)).set_index("key")
    assert exact["duplicate"].dropna().to_dict() == {"b": "b", "c": "b"}


def test_slices_duplicate_those_of_an_equal_volume_not_each_other():
    volumes = ["one", "one", "two", "two"]
    index = make_index("abcd", image=volumes, group=volumes, sha256="same", slice_index=[0, 1, 0, 1])
    plan = make_plan(index, PreprocessConfig()).set_index("key")
    assert plan["duplicate"].to_dict() == {"a": "a", "b": "b", "c": "a", "d": "b"}
    assert set(plan["cluster"]) == {"a"}


def test_bad_items_and_outliers_that_are_dropped_duplicate_nothing():
    same = "0123456789abcdef"
    index = make_index("abcd", perceptual_hash=same, sha256=["x", "x", "y", "z"], error=["bad", None, None, None])
    index["outlier"] = [None, None, "blank", None]
    plan = make_plan(index, PreprocessConfig(drop_outliers=["blank"])).set_index("key")
    assert plan["duplicate"].dropna().to_dict() == {"b": "b", "d": "b"}


def test_no_hash_at_all_is_no_duplicate():
    plan = make_index(keys(3)).assign(status="in")
    assert find_duplicates(plan, 3).tolist() == [0, 1, 2]


def test_the_description_counts_clusters_and_warns_of_a_large_one():
    plan = make_plan(make_index(keys(20)), PreprocessConfig())
    assert describe_clusters(plan) is None
    contents = ["x"] * 2 + ["y"] * 3 + keys(15)
    plan = make_plan(make_index(keys(20), sha256=contents), PreprocessConfig())
    assert describe_clusters(plan) == "5 examples are in 2 clusters, the largest of 3"
    plan = make_plan(make_index(keys(20), sha256=["x"] * 5 + keys(15)), PreprocessConfig())
    assert describe_clusters(plan) == (
        "5 examples are in 1 cluster, the largest of 5; warning: 25% of all examples in one cluster, "
        "--near_duplicates may be too wide"
    )


def test_the_description_counts_near_duplicates_in_two_raw_splits():
    hashes = ["00000000000000ff", "00000000000000fe", "ffffffff00000000", "ffffffff00000001", *[None] * 16]
    index = make_index(keys(20), perceptual_hash=hashes, split=["train", "test", "val", "val"] + ["train"] * 16)
    line = describe_clusters(make_plan(index, PreprocessConfig()))
    assert line == (
        "4 examples are in 2 clusters, the largest of 2; 2 near-duplicates lie in two splits, "
        "where raw directories or the list of splits put them"
    )


def test_the_description_does_not_count_what_was_dropped():
    index = make_index(keys(3), sha256=["x", "x", "y"], objects=[1, 2, 2], height=64, width=128)
    plan = make_plan(index, PreprocessConfig(quota="1:1,2:2", tile=True, size=64))
    assert describe_clusters(plan).startswith("4 examples are in 1 cluster, the largest of 4")
    index.loc[0, "objects"] = 7
    assert describe_clusters(make_plan(index, PreprocessConfig(quota="2:2", tile=True, size=64))) is None
