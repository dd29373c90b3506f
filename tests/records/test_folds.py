"""Records made with folds: which splits are trained on, and in which order."""

import dataclasses

import pytest

from records.config import InputConfig
from records.info import judged_split, training_splits
from records.input_pipeline import eval_batches, steps_per_epoch, train_batches

KEYS = [["a0", "a1", "a2", "a3", "a4"], ["b0", "b1", "b2", "b3"], ["c0", "c1"]]


def flat(batches) -> list[str]:
    return [key.decode() for batch in batches for key in batch["source_id"].numpy()]


def train_keys(records, examples, splits, **how) -> list[str]:
    folder, info = records
    return flat(train_batches(info.shard_files(folder, splits), info, 1, 7, InputConfig(), **how).take(examples))


@pytest.fixture
def folds(tmp_path, make_record, write_records):
    """(folder, info): three folds of the shards of KEYS, and a test split."""
    shards = {f"fold{number}": [[make_record(key) for key in shard]] for number, shard in enumerate(KEYS)}
    return str(tmp_path), write_records(tmp_path, shards | {"test": [[make_record("t0")]]})


def test_without_folds_the_training_split_is_trained_on(small_records):
    assert training_splits(small_records[1], None) == (["train"], "val")


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_fold_is_validated_on_and_the_others_are_trained_on(folds, fold):
    splits, validation = training_splits(folds[1], fold)
    assert validation == f"fold{fold}"
    expected = sorted(key for number, shard in enumerate(KEYS) if number != fold for key in shard)
    order = train_keys(folds, 2 * len(expected), splits=splits)
    assert sorted(order[: len(expected)]) == sorted(order[len(expected) :]) == expected
    assert order[: len(expected)] != order[len(expected) :]
    assert steps_per_epoch(folds[1].shard_files(folds[0], splits), 2) == len(expected) // 2
    assert flat(eval_batches(folds[1].shard_files(folds[0], [validation]), folds[1], 1, InputConfig())) == KEYS[fold]


def test_the_shards_of_folds_are_shuffled_like_those_of_one_split(folds, tmp_path_factory, make_record, write_records):
    shards = [[make_record(key) for key in shard] for shard in KEYS]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    together = str(elsewhere), write_records(elsewhere, {"train": shards})
    assert train_keys(folds, 22, splits=["fold0", "fold1", "fold2"]) == train_keys(together, 22, splits=["train"])


def test_resuming_over_folds_continues_exactly(folds):
    splits = ["fold0", "fold2"]
    whole = train_keys(folds, 21, splits=splits)  # 7 steps an epoch
    assert train_keys(folds, 10, splits=splits, start_epoch=1, start_step=4) == whole[11:]


def test_an_empty_fold_is_not_trained_on(folds):
    _, info = folds
    empty = dataclasses.replace(info.splits["fold1"], shard_lengths=[], shard_bytes=[], shard_crc32c=[])
    info = dataclasses.replace(info, splits=info.splits | {"fold1": empty})
    assert training_splits(info, 0) == (["fold2"], "fold0")
    with pytest.raises(ValueError, match=r"expected a split that has examples \(fold0, fold2, test\), found 'fold1'"):
        info.shards(training_splits(info, 1)[1])


def test_a_fold_that_does_not_fit_the_records_is_refused(folds, small_records):
    with pytest.raises(ValueError, match=r"these records have 3 folds; say which one validates: --input\.fold 0 to 2"):
        training_splits(folds[1], None)
    with pytest.raises(ValueError, match=r"input\.fold: expected 0 to 2, found 3"):
        training_splits(folds[1], 3)
    message = (
        r"input\.fold: expected records made with folds, found the splits train, val, test; leave --input\.fold out"
    )
    with pytest.raises(ValueError, match=message):
        training_splits(small_records[1], 0)


def test_a_run_is_judged_on_test_or_where_that_is_empty_on_what_validated_it(folds, small_records):
    for info, fold, validation in ((small_records[1], None, "val"), (folds[1], 1, "fold1")):
        full = next(split for split in info.splits.values() if split.num_examples)
        empty = dataclasses.replace(full, shard_lengths=[])
        splits = {name: split for name, split in info.splits.items() if name != "test"}
        for test, expected in (({"test": full}, "test"), ({"test": empty}, validation), ({}, validation)):
            assert judged_split(dataclasses.replace(info, splits=splits | test), fold) == expected
