import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.config import PreprocessConfig, parse_quota
from preprocess.plan import make_plan
from tests.preprocess.plan.tables import keys, make_index


def chosen(plan):
    return set(plan.loc[plan["status"] == "in", "key"])


def test_a_quota_takes_what_it_names_and_nothing_else():
    objects = [0] * 10 + [1] * 10 + [2] * 3 + [3] * 5 + [9] * 10
    plan = make_plan(make_index(keys(38), objects=objects), PreprocessConfig(quota="0:4,1-2:5,8+:2"))
    assert plan[plan["status"] == "in"].groupby("objects").size().to_dict() == {0: 4, 1: 5, 2: 3, 9: 2}
    reasons = plan[plan["status"] == "dropped"].groupby("objects")["reason"].unique()
    assert {count: list(texts) for count, texts in reasons.items()} == {
        0: ["above the quota: 0 objects"],
        1: ["above the quota: 1 objects"],
        3: ["not in the quota: 3 objects"],
        9: ["above the quota: 9 objects"],
    }
    assert plan.attrs["shortages"] == ["quota: 2 objects: 5 wanted, 3 found"]


@settings(max_examples=50, deadline=None)
@given(
    objects=st.lists(st.integers(0, 12), min_size=1, max_size=80),
    quota=st.sampled_from(["0:3,1-5:4,6+:9", "0+:5", "2:1", "12:80,0-3:2"]),
)
def test_each_number_is_met_or_its_shortage_told(objects, quota):
    index = make_index(keys(len(objects)), objects=objects)
    parts = parse_quota(quota)
    if not any(low <= count <= (12 if high is None else high) for count in objects for low, high, _ in parts):
        with pytest.raises(ValueError, match="expected examples that stay, found none"):
            make_plan(index, PreprocessConfig(quota=quota))
        return
    plan = make_plan(index, PreprocessConfig(quota=quota))
    taken = plan.loc[plan["status"] == "in", "objects"].to_list()
    told = []
    for low, high, wanted in sorted(parts):
        matches = [count for count in objects if low <= count and (high is None or count <= high)]
        got = [count for count in taken if low <= count and (high is None or count <= high)]
        assert len(got) == min(wanted, len(matches))
        told += [f"{wanted} wanted, {len(matches)} found"] if len(matches) < wanted else []
    assert [line.split(": ")[2] for line in plan.attrs["shortages"]] == told


def test_a_shortage_of_one_or_more_objects_reads_well():
    plan = make_plan(make_index(keys(3), objects=[1, 5, 6]), PreprocessConfig(quota="1:2,5+:9"))
    assert plan.attrs["shortages"] == [
        "quota: 1 object: 2 wanted, 1 found",
        "quota: 5 or more objects: 9 wanted, 2 found",
    ]


def test_a_dataset_that_grows_keeps_most_of_what_the_quota_chose():
    config = PreprocessConfig(quota="1:100")
    before = chosen(make_plan(make_index(keys(400)), config))
    after = chosen(make_plan(make_index(keys(440)), config))
    assert len(before) == len(after) == 100
    assert len(before & after) > 80
    assert chosen(make_plan(make_index(keys(400)), PreprocessConfig(quota="1:100", seed=1))) != before


def test_a_quota_without_known_objects_is_an_error():
    index = make_index(keys(4), objects=[1, None, None, 2])
    message = (
        "quota: expected the number of objects of every image, found none for 'k0001' (2 in all); the layout counts"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        make_plan(index, PreprocessConfig(quota="1:1"))
    # Of what is out, nothing needs to be known.
    index["error"] = [None, "bad", "bad", None]
    assert chosen(make_plan(index, PreprocessConfig(quota="1:1"))) == {"k0000"}


@settings(max_examples=60, deadline=None)
@given(empty=st.integers(0, 60), others=st.integers(1, 60), percent=st.integers(0, 100))
def test_empty_examples_are_the_most_that_their_highest_share_allows(empty, others, percent):
    index = make_index(keys(empty + others), foreground=[0] * empty + [7] * others)
    plan = make_plan(index, PreprocessConfig(max_empty=percent / 100))
    examples = plan[plan["status"] == "in"]
    kept = int((examples["foreground"] == 0).sum())
    assert len(examples) - kept == others
    # In whole numbers: kept / (kept + others) <= percent / 100, and one more would be too many.
    assert 100 * kept <= percent * (kept + others)
    assert kept == empty or 100 * (kept + 1) > percent * (kept + 1 + others)


def test_a_share_that_comes_out_even_loses_nothing_to_rounding():
    # 3 of 25 are 12 %, though 0.12 * 22 / (1 - 0.12) is 2.9999999999999996.
    index = make_index(keys(30), foreground=[0] * 8 + [7] * 22)
    plan = make_plan(index, PreprocessConfig(max_empty=0.12))
    assert len(chosen(plan)) == 25


def test_drop_empty_leaves_none():
    index = make_index("abcd", foreground=[0, 5, None, None], objects=[1, 0, 0, 2])
    plan = make_plan(index, PreprocessConfig(drop_empty=True)).set_index("key")
    # Pixels count before objects; where they are unknown, objects do.
    assert plan["status"].to_dict() == {"a": "dropped", "b": "in", "c": "dropped", "d": "in"}
    assert plan.loc["a", "reason"] == "empty"


def test_which_empty_examples_stay_is_decided_by_hashes():
    foreground = np.arange(300) % 2
    config = PreprocessConfig(max_empty=0.2)
    before = chosen(make_plan(make_index(keys(300), foreground=foreground), config))
    after = chosen(make_plan(make_index(keys(320), foreground=np.arange(320) % 2), config))
    assert len(before - after) <= 6


def test_empty_is_unknown_without_pixels_and_objects():
    index = make_index("ab", foreground=None, objects=[None, 1])
    message = "drop_empty, max_empty: expected annotated pixels or objects of every example, found neither for 'a'"
    with pytest.raises(ValueError, match=message):
        make_plan(index, PreprocessConfig(max_empty=0.5))
