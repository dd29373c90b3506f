"""What the benchmark of the server makes of its measurements, and that it sees what must not be."""

import itertools
from collections import Counter

import httpx
import pytest

from benchmarks.load.clients import Load, send_load
from benchmarks.load.hostile import Report, send_hostile
from benchmarks.serving import BenchmarkConfig, hostile_table, load_table, make_files, read_files
from imaging.codec import decode_image, encode_png
from tests.serving.served import address_of, picture, png


def cells(table) -> list[list[str]]:
    return [list(column.cells) for column in table.columns]


def test_rates_are_told_beside_the_models():
    turns = [Load(10, 90, 120, 150, 0), Load(18, 100, 130, 160, 2), Load(20, 95, 125, 155, 1)]
    columns = cells(load_table([19, 20, 30], {8: turns}, "title"))
    assert columns == [
        ["bare model", "8"], ["20.0", "18.0"], ["1.00", "0.90"], ["", "95"], ["", "125"], ["", "155"], ["", "3"],
    ]  # fmt: skip


def test_answers_are_told_by_the_kind_of_request():
    report = Report({"noise": Counter({422: 3}), "good": Counter({200: 5})})
    report.add(Report({"noise": Counter({413: 1}), "send": Counter({0: 2})}))
    assert cells(hostile_table(report)) == [
        ["good", "noise", "send"], ["5", "4", "2"], ["200: 5", "413: 1, 422: 3", "not waited for: 2"],
    ]  # fmt: skip


def test_clients_and_strangers_are_answered(monkeypatch):
    monkeypatch.setattr("benchmarks.load.hostile._RARE", 0.5)
    files = make_files(32)
    assert len(set(files)) == 8 and decode_image(files[0]).shape == (32, 32, 3)
    with address_of("small", timeout_s=2.0) as address:
        load = send_load(address, files, clients=3, seconds=0.5)
        assert load.rate > 0 and 0 < load.p50 <= load.p95 <= load.p99
        done = []
        report = send_hostile(address, files, total=200, seed=1, report=done.append, at_once=8)
        assert sorted(done) == list(range(1, 201))
        assert not report.faults
        assert sum(statuses.total() for statuses in report.statuses.values()) == 200 + len(files)
        assert len(report.statuses) == 14
        assert set(report.statuses["good"]) == {200}
        assert set(report.statuses["bomb"]) == {422}  # the model takes pictures
        assert set(report.statuses["huge dimensions"]) == {413}
        assert set(report.statuses["wrong path"]) <= {404, 405, 422}
        assert set(report.statuses["slowly"]) == {408}


def test_a_wrong_mask_and_an_error_of_the_server_are_seen(monkeypatch):
    answers = itertools.count()

    async def answer(self, path, **_):
        number = next(answers)
        return httpx.Response(500 if number % 3 == 2 else 200, content=b"%d" % number)

    async def metrics(self, path):
        return httpx.Response(200, text='segmentation_requests_total{path="x",status="500"} 3.0')

    monkeypatch.setattr(httpx.AsyncClient, "post", answer)
    monkeypatch.setattr(httpx.AsyncClient, "get", metrics)
    monkeypatch.setattr("benchmarks.load.hostile._GOOD_SHARE", 1.0)
    faults = send_hostile("http://127.0.0.1:9", [png()], 58, 0, lambda done: None, at_once=2).faults
    assert faults["a good request was answered with 500"] == 20
    assert faults["a good request was answered with another mask"] == 39
    assert faults["requests are in hand though nobody waits"] == 1
    assert faults['the server counts segmentation_requests_total{path="x",status="500"} 3.0'] == 1


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="repeats, clients: expected at least 1"):
        BenchmarkConfig(clients=[0])
    with pytest.raises(ValueError, match="seconds: expected more than 0"):
        BenchmarkConfig(seconds=0)
    with pytest.raises(ValueError, match="expected PNG or JPEG files, found none"):
        read_files(str(tmp_path))
    (tmp_path / "a.png").write_bytes(encode_png(picture()))
    assert len(read_files(str(tmp_path))) == 1
