"""Several machines: processes of train.py on this one, joined by TF_CONFIG; what they agree on; how they end."""

import dataclasses
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from model.config import AugmentConfig, ModelConfig
from tests.records.conftest import made_record, write_made_records
from tests.training.events import step_losses
from tests.training.runs import start, without_timings
from training.config import TrainConfig
from training.preemption import EXIT_CODE, Preempted
from training.run_folder import RunFolder
from training.workers import Agreement, Wishes, Workers, peers_present

ROOT = Path(__file__).parents[2]
# One shard, so that two workers share each batch of a single machine; nothing depends on a place in the batch.
CONFIG = TrainConfig(
    epochs=3,
    global_batch_size=8,
    checkpoint_minutes=0,
    early_stopping=None,
    model=ModelConfig(depth=1, filters=2, norm="none", dropout=0.0),
    augment=AugmentConfig.none(),
)

WAITING = "machines   waiting until all 2 of TF_CONFIG are started; Ctrl-C gives up\n"


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "records"
    shards = {
        split: [[made_record(f"{split}{n}") for n in range(count)]] for split, count in [("train", 64), ("val", 7)]
    }
    write_made_records(folder, shards)
    return folder


def launch(records: Path, run: Path, config: TrainConfig | tuple[TrainConfig, TrainConfig]) -> list[subprocess.Popen]:
    """Starts two workers, the chief first."""
    configs = config if isinstance(config, tuple) else (config, config)
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (first, second)]
    processes = []
    for index, settings in enumerate(configs):
        recipe = run.with_name(f"recipe-{index}.yaml")
        recipe.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(settings)))))
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, "train.py", str(records), str(run), "--config", str(recipe)],
                cwd=ROOT,
                env=os.environ | {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": "-1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def ends(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Returns (exit codes, what was printed); nothing outlives it."""
    try:
        printed = [process.communicate(timeout=150)[0] for process in processes]
        return [process.returncode for process in processes], printed
    finally:
        for process in processes:
            process.kill()


def wait_for_checkpoint(run: Path, processes: list[subprocess.Popen], number: int) -> None:
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / f"ckpt-{number}.index").is_file():
        assert time.monotonic() < deadline, "no checkpoint came"
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


@pytest.mark.slow
def test_two_workers_one_killed_and_both_restarted_train_what_one_machine_trains(records, tmp_path):
    alone, _ = start(records, tmp_path / "alone", CONFIG)
    run = tmp_path / "run"
    processes = launch(records, run, CONFIG)
    wait_for_checkpoint(run, processes, 1)
    processes[1].kill()
    codes, printed = ends(processes)
    assert codes == [EXIT_CODE, -signal.SIGKILL]
    assert "another machine is gone" in printed[0].splitlines()[-1]
    assert "the same command on all 2 machines goes on from the last checkpoint" in printed[0]
    assert not (run / "model.keras").exists(), "killed too late to show anything"

    codes, printed = ends(launch(records, run, CONFIG))
    assert codes == [0, 0]
    assert "going on from epoch 1, step " in printed[0]
    assert printed[1] == WAITING, "then only the chief talks"
    together, single = (step_losses(RunFolder(folder).tensorboard) for folder in (run, tmp_path / "alone"))
    assert together.keys() == single.keys()
    assert [together[step] for step in single] == pytest.approx(list(single.values()), rel=1e-5)
    history = np.genfromtxt(run / "history.csv", delimiter=",", names=True)
    for name in without_timings(alone.history)[0]:
        assert history[name].tolist() == pytest.approx([row[name] for row in alone.history], rel=1e-4, abs=1e-6), name
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in (tmp_path / "alone").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_two_workers_that_was_stopped_and_killed_equals_an_uninterrupted_one(records, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        deterministic=True,
        model=ModelConfig(depth=1, filters=2, dropout=0.2, noise=0.1),
        augment=AugmentConfig(affine=1.0),
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ends(launch(records, whole, config))[0] == [0, 0]

    processes = launch(records, broken, config)
    wait_for_checkpoint(broken, processes, 1)
    processes[1].send_signal(signal.SIGTERM)  # one is asked, both stop behind the same step
    codes, printed = ends(processes)
    assert codes == [EXIT_CODE, EXIT_CODE]
    lines = [text.splitlines()[-1] for text in printed]
    assert lines[0].replace("(another machine)", "(SIGTERM)") == lines[1]
    assert "stopped as asked (SIGTERM)" in lines[1]

    processes = launch(records, broken, config)
    wait_for_checkpoint(broken, processes, 12)
    processes[0].kill()  # the chief
    assert ends(processes)[0] == [-signal.SIGKILL, EXIT_CODE]
    assert ends(launch(records, broken, config))[0] == [0, 0]

    losses = [step_losses(RunFolder(folder).tensorboard) for folder in (whole, broken)]
    assert losses[0] == losses[1]
    last = [tf.train.load_checkpoint(str(folder / "checkpoints")) for folder in (whole, broken)]
    names = {
        name for name in last[0].get_variable_to_shape_map() if "state" not in name and "CHECKPOINTABLE" not in name
    }
    assert any("moving_mean" in name for name in names)
    for name in names - {"save_counter/.ATTRIBUTES/VARIABLE_VALUE"}:
        # A checkpoint holds the mean of all replicas' statistics of batch normalisation, which is rounded.
        tolerance = 1e-6 if "moving_" in name else 0
        np.testing.assert_allclose(last[0].get_tensor(name), last[1].get_tensor(name), rtol=tolerance, err_msg=name)


@pytest.mark.slow
def test_workers_with_different_settings_all_end_with_one_line(records, tmp_path):
    other = dataclasses.replace(CONFIG, learning_rate=0.5, precision="mixed_bfloat16")
    codes, printed = ends(launch(records, tmp_path / "run", (CONFIG, other)))
    assert codes == [2, 2]
    for text in printed:
        assert text.splitlines()[-1].startswith(
            "error: expected the same on all 2 machines, found different: learning_rate, precision; start all"
        )
    assert not (tmp_path / "run" / "config.json").exists(), "the folder is free for another try"


@pytest.mark.slow
def test_waiting_for_a_machine_that_never_comes_can_be_ended(records, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in (first, second)]
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    process = subprocess.Popen(
        [sys.executable, "train.py", str(records), str(tmp_path / "run")],
        cwd=ROOT,
        env=os.environ | {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == WAITING
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


# --- what they agree on


def workers(index: int, count: int = 2) -> Workers:
    return Workers(tf.distribute.get_strategy(), index, count)


def test_one_worker_that_is_asked_to_stop_stops_all():
    asked = [Wishes(workers(index), 9, 9).ask(stop=index == 1, checked=True) for index in range(2)]
    assert Agreement.of(tf.add_n(asked)) == Agreement(stop=True, checked=True)


def test_only_the_chiefs_clock_and_check_count():
    chief, other = (Wishes(workers(index), 0, 0) for index in range(2))
    assert Agreement.of(other.ask(stop=False, checked=True)) == Agreement()
    assert Agreement.of(chief.ask(stop=False, checked=True)) == Agreement(save=True, show=True, checked=True)


def test_nothing_is_saved_before_the_shards_are_checked():
    assert Agreement.of(Wishes(workers(0), 0, 9).ask(stop=False, checked=False)) == Agreement()


def test_the_clock_begins_anew_with_each_wish(monkeypatch):
    seconds = itertools.count()  # one passes between any two looks
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    wishes = Wishes(workers(0), 5, 1e9)
    saves = [Agreement.of(wishes.ask(False, True)).save for _ in range(12)]
    assert 1 < sum(saves) < 6
    assert not any(first and second for first, second in itertools.pairwise(saves))


def test_what_two_steps_agree_on_adds_up():
    assert Agreement(stop=True) | Agreement(save=True) == Agreement(stop=True, save=True)


def test_a_broken_connection_ends_a_worker_as_a_stop_and_a_single_machine_as_an_error():
    error = tf.errors.UnavailableError(None, None, "Socket closed")
    with pytest.raises(Preempted, match="another machine is gone.* \\(UnavailableError\\)"), peers_present(workers(1)):
        raise error
    with pytest.raises(tf.errors.UnavailableError), peers_present(workers(0, 1)):
        raise error
