"""What the benchmark of evaluation times, and what it makes of its measurements."""

import json
from types import SimpleNamespace

import pytest
import tensorflow as tf

from benchmarks.evaluation import NETWORKS, BenchmarkConfig, memory_table, rate_table, verdict
from benchmarks.rates import (
    CONSTANT,
    RECORDS,
    REPORT,
    WHOLE,
    Measured,
    Task,
    judge_all,
    open_predictor,
    predict_all,
    ways_to_judge,
)
from evaluation.config import EvalConfig
from evaluation.folder import METRICS_FILE, PER_IMAGE_FILE
from model.labels import Labels
from records.info import read_info


def measured(whole: float, without_objects: float, without_distances: float) -> Measured:
    """Returns what was measured of 10 and 110 images, where 100 take so many seconds, behind a start of 2."""
    hundred = {
        CONSTANT: 8.0,
        RECORDS: 10.0,
        WHOLE: whole,
        "without objects": without_objects,
        "without distances": without_distances,
    }
    seconds = {name: (2 + value / 10, 2 + value * 1.1) for name, value in hundred.items()}
    cpu = {name: (5.0, 5.0 + 2 * value) for name, value in hundred.items()}
    return Measured((10, 110), seconds | {REPORT: (0.5, 1.5)}, cpu, "no GPU")


def cells(table) -> list[list[str]]:
    return [list(column.cells) for column in table.columns]


def test_rates_are_those_of_further_images_and_the_start_is_told_apart():
    found = measured(20, 16, 12.5)
    assert found.rate(RECORDS) == pytest.approx(10)
    assert found.rate(WHOLE) == pytest.approx(5)
    assert found.start(WHOLE) == pytest.approx(2)
    assert found.work(WHOLE) == pytest.approx(400)
    names, rates, ratios, work, starts = cells(rate_table(found, "title"))
    assert names == [CONSTANT, RECORDS, WHOLE, "without objects", "without distances"]
    assert rates == ["12.5", "10.0", "5.0", "6.2", "8.0"]
    assert ratios == ["1.25", "1.00", "0.50", "0.62", "0.80"]
    assert work == ["160.0", "200.0", "400.0", "320.0", "250.0"]
    assert starts == ["2.0"] * 5


def test_a_split_that_seems_to_take_no_longer_than_the_small_one_has_no_end_of_speed():
    found = Measured((10, 110), {RECORDS: (3.0, 3.0)}, {RECORDS: (0.0, 0.0)}, "no GPU")
    assert (found.rate(RECORDS), found.start(RECORDS)) == (float("inf"), 3.0)


def test_judges_that_keep_up_leave_the_model_as_the_limit():
    text = verdict(measured(10.5, 10.5, 10.5))
    assert "The model is the limit" in text
    assert "1.05 times as long" in text
    assert "report.html of 110 images takes 1.5 s more" in text


def test_judges_that_are_slower_are_the_limit_and_the_costly_part_is_named():
    assert "0.50 of the bare model's rate, without boundaries to 0.80" in verdict(measured(20, 16, 12.5))
    assert "0.50 of the bare model's rate, without objects to 0.80" in verdict(measured(20, 12.5, 16))


@pytest.mark.parametrize("whole", [5, 0])
def test_an_evaluation_that_is_faster_than_its_model_says_nothing(whole):
    assert "Nothing can be said" in verdict(measured(whole, 10, 10))


def test_memory_is_a_row_for_each_number_of_images():
    memories = [{"images": count, "driver_mib": 900.4, "worker_mib": 100.0, "cpu": 1.0} for count in (32, 256)]
    assert cells(memory_table(memories, "title")) == [["32", "256"], ["900", "900"], ["100", "100"]]


def test_every_way_leaves_out_what_it_is_called_after():
    ways = ways_to_judge(EvalConfig(workers=3, objects=False, batch_size=5))
    left_out = {name: (way.objects, way.distances, way.workers) for name, way in ways.items()}
    assert left_out == {
        WHOLE: (True, True, 3),
        "without objects": (False, True, 3),
        "without distances": (True, False, 3),
        "without either": (False, False, 3),
        "in one process": (True, True, 0),
    }
    assert {(way.pictures, way.batch_size) for way in ways.values()} == {(0, 5)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": "runs/nuclei"}, "run, records: expected both or neither, found runs/nuclei and None"),
        ({"repeats": 0}, "repeats: expected at least 1, found 0"),
        ({"images": 31}, "images: expected at least 32, found 31"),
        ({"networks": ["V-Net"]}, "networks: expected some of U-Net, tiny U-Net, found V-Net"),
    ],
)
def test_settings_that_measure_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(**settings)


@pytest.mark.parametrize("constant", [False, True])
def test_the_bare_model_predicts_every_batch_of_a_split(nuclei_records, constant):
    seen, firsts = tf.Variable(0), tf.Variable(tf.zeros([0]), shape=[None])

    def probabilities(images):
        seen.assign_add(tf.shape(images)[0])
        firsts.assign(tf.concat([firsts, [tf.reduce_sum(tf.cast(images, tf.float32))]], 0))
        return tf.zeros([*images.shape[:3], 1])

    trained = SimpleNamespace(labels=Labels(2), probabilities=probabilities, crop=None)
    predictor = SimpleNamespace(trained=trained, strategy=tf.distribute.get_strategy(), thresholds=[0.5])
    task = Task(str(nuclei_records), ("test", "train"), None, NETWORKS["tiny U-Net"], EvalConfig(batch_size=4))
    predict_all(predictor, read_info(str(nuclei_records)), task, "train", constant)
    assert seen.numpy() == 16  # 14, padded
    assert len(set(firsts.numpy().tolist())) == (1 if constant else 4)


def test_the_untrained_network_finds_made_up_nuclei_and_is_judged_with_all_files_but_no_pictures(
    nuclei_records, tmp_path
):
    config = EvalConfig(batch_size=4, workers=0)
    task = Task(str(nuclei_records), ("test", "train"), None, NETWORKS["tiny U-Net"], config)
    predictor, info, _ = open_predictor(task)
    judge_all(predictor, info, task, "test", tmp_path, ways_to_judge(config)[WHOLE])
    metrics = json.loads((tmp_path / METRICS_FILE).read_text())
    assert {"object_f2", "hausdorff95", "calibration_error", "dice_per_image_ci95"} <= metrics.keys()
    assert (tmp_path / PER_IMAGE_FILE).is_file()
    assert not list((tmp_path / "result-image").iterdir())
    assert metrics["dice_pooled"] > 0.6
