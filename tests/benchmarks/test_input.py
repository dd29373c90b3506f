import multiprocessing
import time
from itertools import islice

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import input as benchmark
from benchmarks.loaders import CROP_LOADERS, LIMIT, LOADERS, OURS, why_missing
from benchmarks.loaders.layouts import IMAGES, MASKS, make_photograph, write_layouts
from benchmarks.loaders.opencv import file_pairs, opencv_loop
from benchmarks.loaders.tf_data import CROP
from benchmarks.loaders.watch import Speed, cpu_seconds, measure_loaders
from imaging.codec import encode_png

EXAMPLES, BATCH, SIZE = 16, 4, 32
NATIVE_SIZE = CROP + 16


def write_raw(folder, size):
    pairs = [make_photograph(np.random.default_rng(number), size) for number in range(EXAMPLES)]
    for name, column in zip((IMAGES, MASKS), zip(*pairs, strict=True), strict=True):
        (folder / name).mkdir(parents=True)
        for number, pixels in enumerate(column):
            (folder / name / f"{number:06d}.png").write_bytes(encode_png(pixels))
    return [(image, (mask > 0).astype(np.uint8)) for image, mask in pairs]


@pytest.fixture(scope="module", params=["jpeg", "png", "raw"])
def layouts(request, tmp_path_factory):
    """(folder, coding, pairs of image and mask: as they were drawn, but JPEGs as Pillow reads them)."""
    folder = tmp_path_factory.mktemp(request.param)
    examples = write_raw(folder / "raw", SIZE)
    write_layouts(str(folder / "raw"), str(folder), request.param, SIZE, cores=1)
    if request.param == "jpeg":
        examples = [tuple(np.array(Image.open(path)) for path in pair) for pair in file_pairs(str(folder))]
    return str(folder), request.param, examples


def first_batches(load, folder):
    batches = load(folder, BATCH, 2)
    try:
        pairs = list(islice(batches, EXAMPLES // BATCH))
    finally:
        batches.close()
    return [tuple(map(np.asarray, pair)) for images, masks in pairs for pair in zip(images, masks, strict=True)]


@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_of_every_loader_is_every_example_once_with_its_pixels_and_its_mask(name, layouts):
    folder, coding, examples = layouts
    reason = why_missing(name)
    if reason:
        pytest.skip(reason)
    seen = first_batches(LOADERS[name][0], folder)
    found = []
    for image, mask in seen:
        distances = [np.abs(image.astype(int) - drawn).mean() for drawn, _ in examples]
        number = int(np.argmin(distances))
        assert distances[number] <= (3 if coding == "jpeg" else 0)  # TensorFlow decodes JPEGs faster, less exactly
        np.testing.assert_array_equal(mask, examples[number][1])
        found.append(number)
    assert sorted(found) == list(range(EXAMPLES))


def test_all_loaders_but_the_limit_shuffle(layouts):
    folder = layouts[0]
    for name in (OURS, "plain tf.data", "Keras Sequence", "from_generator"):
        masks = [mask for _, mask in first_batches(LOADERS[name][0], folder)]
        in_order = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for _, path in file_pairs(folder)]
        assert any((mask != other).any() for mask, other in zip(masks, in_order, strict=True)), name


@pytest.mark.parametrize("name", CROP_LOADERS)
def test_crops_are_windows_of_the_whole_image_and_of_its_mask(name, tmp_path):
    write_raw(tmp_path / "raw", NATIVE_SIZE)
    write_layouts(str(tmp_path / "raw"), str(tmp_path), "jpeg", None, cores=1)
    wholes = [(cv2.imread(str(i), cv2.IMREAD_COLOR_RGB), cv2.imread(str(m), 0)) for i, m in file_pairs(str(tmp_path))]
    for image, mask in first_batches(CROP_LOADERS[name], str(tmp_path)):
        assert image.shape == (CROP, CROP, 3)
        matches = [cv2.matchTemplate(whole, image, cv2.TM_SQDIFF) for whole, _ in wholes]
        number = int(np.argmin([match.min() for match in matches]))
        y, x = np.unravel_index(np.argmin(matches[number]), matches[number].shape)
        whole, whole_mask = wholes[number]
        np.testing.assert_array_equal(mask, whole_mask[y : y + CROP, x : x + CROP])
        # TensorFlow decodes JPEGs faster, less exactly; colour at the borders of a crop decoded alone differs too.
        difference = np.abs(image.astype(int) - whole[y : y + CROP, x : x + CROP])
        assert difference.mean() < 2


def stopping_loader(folder, batch_size, cores):
    yield [], []
    raise SystemExit(1)


def forever(folder, batch_size, cores):
    while True:
        yield range(batch_size), []


def test_speed_cpu_and_memory_are_measured_in_turns(layouts):
    loaders = {"decoding": opencv_loop, "counting": forever}
    turns = list(measure_loaders(loaders, layouts[0], BATCH, 1, warm_up=0.1, seconds=0.3, turns=3))
    assert [list(turn) for turn in turns] == 3 * [list(loaders)]
    for turn in turns:
        assert turn["counting"].rate > turn["decoding"].rate > 10
        for speed in turn.values():
            # One core at most works all the time: 1,000 images take it 1000 / rate seconds.
            assert 0 < speed.cpu <= 1.3 * 1000 / speed.rate
            assert 1 < speed.memory_mib < 1000
    assert not multiprocessing.active_children()


def test_a_loader_rests_between_its_turns(tmp_path):
    cpu = {}
    for _ in measure_loaders({"counting": forever}, str(tmp_path), BATCH, 1, warm_up=0.1, seconds=0.1, turns=2):
        (process,) = multiprocessing.active_children()
        before = cpu_seconds(process.pid)
        time.sleep(0.5)
        cpu[process.pid] = cpu_seconds(process.pid) - before
    assert list(cpu.values()) == [0]


def test_a_loader_that_stops_is_named(layouts):
    with pytest.raises(ValueError, match="stopping_loader: the loader stopped"):
        list(measure_loaders({"stopping": stopping_loader}, layouts[0], BATCH, 1, warm_up=0.1, seconds=0.1, turns=1))


def test_a_loader_whose_package_is_missing_is_left_out_with_a_word(monkeypatch, layouts):
    folder, coding, _ = layouts
    monkeypatch.setitem(LOADERS, "WebDataset", (opencv_loop, ("no_such_package",)))
    monkeypatch.setattr(
        benchmark, "measure_loaders", lambda loaders, *_: [{name: Speed(100.0, 1.0, 50.0) for name in loaders}]
    )
    config = benchmark.BenchmarkConfig(loaders=["WebDataset"], starts=1, turns=1)
    table, ratios = benchmark.compare_loaders(folder, coding, config)
    assert ratios == {LIMIT: (1.0, 100.0)}
    assert [*table.columns[0].cells] == [LIMIT]
    assert "WebDataset left out: no_such_package cannot be imported" in str(table.caption)


def test_turns_of_all_starts_count(monkeypatch, layouts):
    rates = iter([100.0, 300.0, 200.0])
    monkeypatch.setattr(benchmark, "measure_loaders", lambda *_: [{LIMIT: Speed(next(rates), 1.0, 50.0)}])
    config = benchmark.BenchmarkConfig(loaders=[], starts=3, turns=1)
    assert benchmark.compare_loaders(*layouts[:2], config)[1] == {LIMIT: (1.0, 200.0)}


def test_the_ratio_is_of_runs_of_the_same_turn():
    ours = [Speed(rate, 1, 1) for rate in (90, 50, 100)]
    limit = [Speed(rate, 1, 1) for rate in (100, 50, 200)]
    assert benchmark._ratio(ours, limit) == 0.9


def test_the_chart_has_a_panel_for_each_coding(tmp_path):
    ratios = {LIMIT: (1.0, 2000.0), OURS: (0.98, 1960.0), "plain tf.data": (0.97, 1940.0)}
    paths = [str(tmp_path / name) for name in ("one.png", "two.png")]
    benchmark.draw_chart(paths[0], {"jpeg": ratios})
    benchmark.draw_chart(paths[1], {"jpeg": ratios, "png": ratios})
    one, two = (cv2.imread(path) for path in paths)
    assert one.shape[0] == two.shape[0]
    assert two.shape[1] > one.shape[1]
    orange = (np.abs(two.astype(int) - (0x2B, 0x51, 0xC8)) < 8).all(-1)
    assert orange[:, : two.shape[1] // 2].any() and orange[:, two.shape[1] // 2 :].any()


def test_settings_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match=r"images: expected at least 8 batches \(256\), found 100"):
        benchmark.BenchmarkConfig(images=100)
    with pytest.raises(ValueError, match="loaders: expected some of OpenCV loop, .* found nothing"):
        benchmark.BenchmarkConfig(loaders=["nothing"])
