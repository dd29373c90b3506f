"""TF_CONFIG: how many machines it names, and what it must look like."""

import json

import pytest

from training.cluster import cluster_size


def set_cluster(monkeypatch, cluster, task=None) -> None:
    content = {"cluster": cluster} | ({"task": {"type": task[0], "index": task[1]}} if task else {})
    monkeypatch.setenv("TF_CONFIG", json.dumps(content))


def test_the_size_of_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster_size() == 1
    set_cluster(monkeypatch, {})
    assert cluster_size() == 1
    set_cluster(monkeypatch, {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("worker", 1))
    assert cluster_size() == 3


@pytest.mark.parametrize(
    ("cluster", "task"),
    [
        ({"worker": ["a:1", "b:1"]}, None),
        ({"worker": ["a:1", "b:1"]}, ("worker", 2)),
        ({"worker": ["a:1", "b:1"]}, ("chief", 0)),
        ({"worker": ["a:1"], "ps": ["b:1"]}, ("worker", 0)),
        ({"worker": ["a:1"], "chief": ["b:1", "c:1"]}, ("worker", 0)),
        ("worker", ("worker", 0)),
        ({"worker": "a:1"}, ("worker", 0)),
        ({"worker": {"0": "a:1"}}, ("worker", 0)),
        ({"worker": ["a:1", 1]}, ("worker", 0)),
    ],
)
def test_a_cluster_that_cannot_train_is_refused(monkeypatch, cluster, task):
    set_cluster(monkeypatch, cluster, task)
    with pytest.raises(ValueError, match=r'TF_CONFIG: expected \{"cluster": \{"worker": .*, found '):
        cluster_size()


def test_text_that_is_no_json_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "two machines, please")
    with pytest.raises(ValueError, match="TF_CONFIG: expected .*, found two machines, please"):
        cluster_size()
