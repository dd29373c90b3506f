"""Choices on validation, from records to files: what is counted, chosen, written, and used by what predicts."""

import dataclasses
import json
import runpy
import sys
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.statistics import count_masks, overlap_ratios
from evaluation.tuning.choice import _Judge, tune
from evaluation.tuning.config import TuneConfig
from evaluation.tuning.scoring import (
    OBJECT_METRICS,
    PIXEL_METRICS,
    Task,
    judge_candidates,
    judge_together,
    score_counts,
)
from evaluation.tuning.spool import THRESHOLDS, keep_images, read_image
from evaluation.workers import worker_pool
from imaging.codec import encode_png
from imaging.objects import label_objects
from inference.config import PredictConfig
from inference.postprocess import Steps, read_postprocess
from inference.predictor import load_predictor
from inference.run import TrainedModel
from model.labels import Labels
from preprocess.config import Splits
from records.info import read_info
from tests.conftest import make_records, predictor_of, silent_progress
from training.run_folder import RunFolder

SIZE = 32


def write_images(folder, count: int = 24) -> None:
    """Raw data in the folder layout: squares of value 120, specks of value 120 that are nothing, noise below 90."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        image = generator.integers(0, 90, [SIZE, SIZE, 3]).astype(np.uint8)
        mask = np.zeros([SIZE, SIZE], np.uint8)
        y, x = generator.integers(2, SIZE - 12, 2)
        mask[y : y + 9, x : x + 9] = 1
        image[mask > 0] = 120
        for row, column in generator.integers(0, SIZE, [4, 2]):
            image[row, column] = 120
        (folder / "images" / f"{number}.png").write_bytes(encode_png(image))
        (folder / "masks" / f"{number}.png").write_bytes(encode_png(mask))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """(folder, info) of such images, a third each for training, validation and test; read only."""
    folder = tmp_path_factory.mktemp("tune")
    write_images(folder / "raw")
    make_records("folder", folder / "raw", folder / "records", size=SIZE, splits=Splits(0.34, 0.33, 0.33))
    return str(folder / "records"), read_info(str(folder / "records"))


def timid(info, crop: int | None = None) -> TrainedModel:
    """A model without weights, too careful: what it should find has a probability of 0.27."""
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Rescaling(0.1, -13.0)(inputs[..., :1])
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    return TrainedModel(keras.Model(inputs, logits), **known, digest="of timid", crop=crop)


def choose(records, run: RunFolder, crop=None, **settings):
    folder, info = records
    config = TuneConfig(**{"workers": 0, **settings})
    predictor = predictor_of(timid(info, crop))
    run.path.mkdir(exist_ok=True)
    return tune(predictor, folder, info, run, config, PredictConfig(batch_size=5), silent_progress)


@pytest.mark.parametrize("crop", [None, 16])
def test_a_threshold_and_a_size_are_found_and_test_scores_with_them(records, tmp_path, crop):
    run = RunFolder(tmp_path / "run")
    choice = choose(records, run, crop)
    assert choice.plain < 0.1 and choice.chosen > 0.99
    steps = choice.found["object"].best.steps
    # Noise of up to 89 has a probability of 0.016, the squares and the specks of 0.269.
    assert 0.02 <= steps.threshold <= 0.26 and steps.min_size + steps.opening > 0
    found = read_postprocess(run.postprocess, "", "of timid", {1: "object"})
    assert found == {1: steps}
    assert (run.plots / "thresholds.png").is_file() and choice.plot == run.plots / "thresholds.png"
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".tune")] == []
    folder, info = records
    scores = {}
    for name, postprocess in (("chosen", found), ("plain", {})):
        predictor = predictor_of(timid(info, crop), postprocess=postprocess)
        for split in ("val", "test"):
            config = EvalConfig(split=split, pictures=0)
            where = tmp_path / f"{name}-{split}"
            scores[name, split] = evaluate(predictor, folder, info, where, config, silent_progress)
    assert scores["chosen", "val"]["dice_per_image"] == pytest.approx(choice.chosen)
    assert scores["plain", "val"]["dice_per_image"] == pytest.approx(choice.plain)
    assert scores["chosen", "test"]["dice_per_image"] > 0.99
    assert scores["chosen", "test"]["threshold"] == steps.threshold


def test_what_is_written_says_what_it_was_chosen_for(records, tmp_path):
    run = RunFolder(tmp_path / "run")
    choice = choose(records, run, metric="iou_pooled")
    content = json.loads(run.postprocess.read_text())[""]
    assert content["metric"] == "iou_pooled" and content["split"] == "val"
    assert content["fingerprint"] == records[1].fingerprint and content["num_examples"] == choice.num_examples == 8
    assert (content["plain"], content["chosen"]) == (choice.plain, choice.chosen)
    curve = dict(map(tuple, content["sweeps"]["object"]))
    assert list(curve) == THRESHOLDS.tolist()
    assert curve[0.5] == choice.plain < curve[choice.found["object"].best.steps.threshold]


def test_processes_choose_what_one_process_chooses(records, tmp_path):
    alone = choose(records, RunFolder(tmp_path / "alone"), metric="object_map", min_gain=0.0)
    beside = choose(records, RunFolder(tmp_path / "beside"), metric="object_map", min_gain=0.0, workers=2)
    assert alone.found == beside.found and alone.chosen == beside.chosen
    assert alone.found["object"].stages.keys() >= {"split"}


def test_other_records_and_classifiers_are_refused(records, tmp_path):
    folder, info = records
    run = RunFolder(tmp_path)
    how = (run, TuneConfig(workers=0), PredictConfig(), silent_progress)
    model = timid(info)
    for change, message in (
        ({"fingerprint": "another"}, "records: expected those that the run was trained on"),
        ({"task": "classify"}, "run: expected one that segments, found one of --task classify"),
        (
            {"others": (dataclasses.replace(model, fold=1),)},
            "ensemble: expected runs on the same records and fold",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            tune(predictor_of(dataclasses.replace(model, **change)), folder, info, *how)
    assert list(tmp_path.iterdir()) == []


def kept(tmp_path, probabilities, truths, softmax=False, instances=None):
    batch = {
        "probabilities": probabilities,
        "mask": truths,
        "instances": [b""] * len(truths) if instances is None else instances,
    }
    return keep_images([batch], softmax, tmp_path)


def test_levels_tell_every_threshold_exactly(tmp_path):
    """Probabilities on, just below and just above every threshold, in float32 as a model has them."""
    edges = THRESHOLDS.astype(np.float32)
    values = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1), [0, 1]]).astype(np.float32)
    truth = np.zeros((1, len(values)), np.uint8)
    image = read_image(kept(tmp_path, [values[None, :, None]], [truth])[0])
    for threshold in THRESHOLDS:
        expected = tf.constant(values) >= float(threshold)
        np.testing.assert_array_equal(image.area(1, threshold, False)[0], expected)


def test_the_metrics_are_those_that_can_be_scored():
    field = {field.name: field for field in dataclasses.fields(TuneConfig)}["metric"]
    assert set(get_args(field.type)) == {*PIXEL_METRICS, *OBJECT_METRICS}


def made_images(overlapping: bool, outputs: int):
    generator = np.random.default_rng(1)
    probabilities = [generator.random((20 + number, 24, outputs), np.float32) for number in range(3)]
    dtype, high = (np.uint16, 2**outputs) if overlapping else (np.uint8, 2)
    truths = [generator.integers(0, high, one.shape[:2]).astype(dtype) for one in probabilities]
    for truth in truths:
        truth[0, :5] = 2**15 if overlapping else 255
    return probabilities, truths


@pytest.mark.parametrize("metric", ["dice_per_image", "dice_pooled", "iou_nonempty"])
@pytest.mark.parametrize(("overlapping", "outputs"), [(False, 1), (True, 3)])
def test_candidates_score_what_their_masks_score(tmp_path, metric, overlapping, outputs):
    probabilities, truths = made_images(overlapping, outputs)
    paths = kept(tmp_path, probabilities, truths)
    numbers = list(range(outputs)) if overlapping else [1]
    task = Task(metric, numbers, overlapping)
    candidates = [Steps(), Steps(0.7), Steps(0.6, min_size=4, fill_holes=True)]
    known = [truth < 2**15 if overlapping else truth != 255 for truth in truths]
    for number in numbers:
        counts = np.stack(judge_candidates(task, paths, number, candidates))
        for index, steps in enumerate(candidates):
            cells = []
            for one, truth, inside in zip(probabilities, truths, known, strict=True):
                found = steps.clean(one[..., number if overlapping else 0] >= np.float32(steps.threshold))[inside]
                true = ((truth >> number) % 2 if overlapping else truth == number)[inside].astype(bool)
                cells.append([(found & true).sum(), (found & ~true).sum(), (~found & true).sum()])
            expected = overlap_ratios(*np.array(cells, float).T[..., None])[metric].value()
            assert score_counts(metric, counts[:, [index]]) == pytest.approx(expected)
    classes = [f"class {number}" for number in range(3 if overlapping else 2)]
    choice = dict.fromkeys(numbers, Steps(0.6, min_size=4))
    together = np.stack(judge_together(task, paths, [choice]))[:, 0]
    masks = []
    for one in probabilities:
        areas = [Steps(min_size=4).clean(one[..., index] >= np.float32(0.6)) for index in range(outputs)]
        bits = [area.astype(np.uint16) << number for area, number in zip(areas, numbers, strict=True)]
        masks.append(sum(bits).astype(np.uint16) if overlapping else areas[0].astype(np.uint8))
    whole = count_masks(truths, masks, classes, overlapping)
    assert score_counts(metric, together) == pytest.approx(overlap_ratios(*whole[:3])[metric].value())


def random_softmax():
    generator = np.random.default_rng(2)
    logits = [generator.normal(size=(20 + number, 24, 3)) for number in range(3)]
    probabilities = [tf.nn.softmax(one).numpy().astype(np.float32) for one in logits]
    truths = [generator.integers(0, 3, one.shape[:2]).astype(np.uint8) for one in logits]
    return probabilities, truths


def test_candidates_of_exclusive_classes_score_what_the_predictor_makes_of_them(tmp_path):
    probabilities, truths = random_softmax()
    paths, labels = kept(tmp_path, probabilities, truths, softmax=True), Labels(3)
    task = Task("dice_pooled", [1, 2], False)
    for number in (1, 2):
        candidates = [Steps(threshold) for threshold in (0.1, 0.37, 0.5, 0.8)]
        counts = np.stack(judge_candidates(task, paths, number, candidates))
        for index, steps in enumerate(candidates):
            thresholds = [steps.threshold if output == number else 0.5 for output in range(3)]
            masks = [labels.classify(tf.constant(one), thresholds).numpy() for one in probabilities]
            hits = sum(((mask == number) & (truth == number)).sum() for mask, truth in zip(masks, truths, strict=True))
            assert counts[:, index, 0].sum() == hits
    choice = {1: Steps(0.4), 2: Steps(0.7, min_size=5)}
    predictor = predictor_of(softmax_model(), postprocess=choice)
    masks = predictor.decide({"probabilities": probabilities})["prediction"]
    whole = count_masks(truths, masks, ["background", "a", "b"], False)
    together = np.stack(judge_together(task, paths, [choice]))[:, 0]
    assert score_counts("dice_pooled", together) == overlap_ratios(*whole[:3])["dice_pooled"].value()


def test_of_exclusive_classes_the_score_of_all_decides_for_each(tmp_path):
    paths = kept(tmp_path, *random_softmax(), softmax=True)
    candidates = [Steps(0.2), Steps(0.6, min_size=3)]
    with worker_pool(0) as pool:
        judge = _Judge(pool, Task("iou_pooled", [1, 2], False), paths)
        beside = judge.score_beside(1, {2: Steps(0.7)})(candidates)
        assert beside == judge.together([{1: steps, 2: Steps(0.7)} for steps in candidates])
        assert beside != judge.score_of(1)(candidates)


def softmax_model() -> TrainedModel:
    inputs = keras.Input([None, None, 3])
    return TrainedModel(keras.Model(inputs, inputs), ["background", "a", "b"], 3, "uint8", "")


def test_touching_objects_are_found_by_splitting(tmp_path):
    rows, columns = np.mgrid[:30, :40]
    disks = [(rows - 15) ** 2 + (columns - centre) ** 2 < 64 for centre in (12, 26)]
    truth = (disks[0] | disks[1]).astype(np.uint8)
    instances = encode_png(np.where(disks[1], 2, disks[0]).astype(np.uint16))
    paths = kept(tmp_path, [np.where(truth, 0.9, 0.1).astype(np.float32)[..., None]], [truth], instances=[instances])
    task = Task("object_map", [1], False)
    counts = np.stack(judge_candidates(task, paths, 1, [Steps(), Steps(split=5)]))
    together, apart = (score_counts("object_map", counts[:, [index]]) for index in range(2))
    assert label_objects(truth > 0).max() == 1 and label_objects(truth > 0, 5).max() == 2
    assert together < 0.1 and apart > 0.9
    both = np.stack(judge_together(task, paths, [{}, {1: Steps(split=5)}]))
    assert [score_counts("object_map", both[:, index]) for index in range(2)] == [together, apart]


def test_the_command_chooses_and_what_predicts_uses_it(records, tmp_path, monkeypatch, capsys):
    folder, info = records
    monkeypatch.setattr("inference.predictor.load_run", lambda run: timid(info))
    monkeypatch.setattr("training.run_folder.read_config", lambda run: {})
    run = tmp_path / "run"
    run.mkdir()

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, str(run), folder, *arguments])
        if script == "test.py":
            return runpy.run_path(script)["main"]()
        return runpy.run_module(script)["main"]()

    call("evaluation.tune", "--workers", "0")
    said = capsys.readouterr().out
    assert "all classes together: dice_per_image 0.0000 before, 0.99" in said
    strategy = tf.distribute.get_strategy()
    chosen = load_predictor(str(run), PredictConfig(), strategy)
    assert chosen.postprocess[1].threshold < 0.27
    assert load_predictor(str(run), PredictConfig(threshold=0.5), strategy).postprocess == {1: Steps()}
    assert load_predictor(str(run), PredictConfig(tta=True), strategy).postprocess == {}
    call("test.py", "--pictures", "0")
    said = " ".join(capsys.readouterr().out.split())
    assert f"threshold {chosen.postprocess[1].threshold:g}" in said and "chosen on validation" in said
    assert json.loads((run / "eval" / "test" / "metrics.json").read_text())["dice_per_image"] > 0.99
    call("test.py", "--pictures", "0", "--tta", "true")
    said = " ".join(capsys.readouterr().out.split())
    assert "threshold 0.5; steps were chosen for plain predictions, not for tta: the two do not compare" in said
    monkeypatch.setattr("inference.predictor.load_run", lambda run: dataclasses.replace(timid(info), digest="new"))
    call("test.py", "--pictures", "0", "--split", "val")
    assert "postprocess.json holds is of other weights" in " ".join(capsys.readouterr().out.split())
    assert "was trained on" not in (run / "eval" / "val" / "report.html").read_text()
    call("test.py", "--pictures", "0", "--split", "train")
    assert f"{run} was trained on these images" in capsys.readouterr().out.replace("\n", "")
    assert "was trained on these images" in (run / "eval" / "train" / "report.html").read_text()
    assert json.loads((run / "eval" / "train" / "evaluated.json").read_text())["seen_by"] == [str(run)]
    evaluated = json.loads((run / "eval" / "test" / "evaluated.json").read_text())
    assert evaluated["postprocess"] == {"object": dataclasses.asdict(chosen.postprocess[1])}
