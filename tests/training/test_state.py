import dataclasses

import tensorflow as tf

from training.state import TrainState

# Another value than the default in every field; 0.1 + 0.2 has no short decimal form.
STATE = {
    "epoch": 3,
    "step": 14,
    "best_score": 0.1 + 0.2,
    "best_epoch": 2,
    "plateau_wait": 1,
    "plateau_scale": 0.25,
    "finished": True,
    "epoch_seconds": 1.5,
    "epoch_wait": 0.25,
    "loss_sum": 1 / 3,
    "num_lost": 2,
    "history": [{"epoch": 1, "loss": 2 / 3}, {"epoch": 2, "loss": 1e-300}],
}


def test_a_checkpoint_brings_every_field_back_exactly(tmp_path):
    state = TrainState(**STATE)
    assert all(getattr(state, item.name) != getattr(TrainState(), item.name) for item in dataclasses.fields(state))
    path = tf.train.Checkpoint(state=state, weight=tf.Variable(5.0)).save(str(tmp_path / "checkpoint"))
    restored, weight = TrainState(), tf.Variable(0.0)
    tf.train.Checkpoint(state=restored, weight=weight).restore(path).assert_consumed()
    assert dataclasses.asdict(restored) == STATE
    assert float(weight) == 5


def test_each_checkpoint_holds_the_state_of_its_time(tmp_path):
    state = TrainState()
    checkpoint = tf.train.Checkpoint(state=state)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    for step in (1, 2, 3):
        state.step = step
        state.history.append({"epoch": step})
        manager.save()
    kept = []
    for path in manager.checkpoints:
        checkpoint.restore(path)
        kept.append((state.step, len(state.history)))
    assert kept == [(2, 2), (3, 3)]


def test_states_do_not_share_their_history():
    TrainState().history.append({"epoch": 1})
    assert TrainState().history == []
