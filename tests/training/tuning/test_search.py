"""Laws of a search: what comes of its trials, and whom it refuses."""

import dataclasses
import fcntl
import json
import os

import pytest

from tests.training.tuning.fake_train import score
from tests.training.tuning.searches import (
    BASE,
    CONFIG,
    INFO,
    SPACE,
    imagined_trials,
    run_search,
    use_fake,
    without_times,
)
from training.preemption import Preempted
from training.tuning import process, search
from training.tuning.space import Space
from training.tuning.trial import SearchFolder, read_trials


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    use_fake(monkeypatch)


def altered(**settings):
    return dataclasses.replace(CONFIG, **settings)


def failing(batch_size: int) -> str:
    return f"global_batch_size: [{batch_size}, 4]\n{SPACE}"


def test_trials_train_with_what_was_proposed_and_are_judged_by_their_epochs(tmp_path):
    trials, told = run_search(tmp_path / "search", config=altered(pruner="none"))
    folder = SearchFolder(tmp_path / "search")
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    for trial in trials:
        assert trial.state == "finished"
        assert trial.scores == pytest.approx([score(trial.settings, epoch) for epoch in (1, 2, 3, 4)])
        assert trial.best == (trial.scores[-1], 4)
        assert "begins behind epoch 0" in folder.log(trial.number).read_text()
        assert "Ctrl-C" not in folder.log(trial.number).read_text()
    assert read_trials(folder) == trials
    best = max(trials, key=lambda trial: trial.scores[-1])
    assert [line for line in told if line.endswith("best")][-1] == told[2 * best.number + 1]


def test_a_trial_that_is_given_up_is_asked_to_stop_and_keeps_its_model(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_PACE", "0 0 2 0")
    monkeypatch.setattr(search, "_POLL", 0.1)
    trials, _ = run_search(tmp_path / "search", config=altered(trials=4, min_epochs=2, pruner="hyperband"))
    folder, best = SearchFolder(tmp_path / "search"), 0.0
    for trial in trials:
        # The rule of Hyperband while there are fewer than six: at epoch 2, all but the best so far are given up.
        pruned = trial.scores[1] < best
        assert trial.state == ("pruned" if pruned else "finished")
        best = max(best, trial.scores[1])
        assert len(trial.scores) == (2 if pruned else 4)
        run, log = folder.run(trial.number), folder.log(trial.number).read_text()
        assert log.endswith("stopped as asked\n" if pruned else "finished\n")
        assert run.model.exists() and run.history.exists()
        assert not run.checkpoints.exists() and not run.cache.exists()
    assert {trial.state for trial in trials} == {"finished", "pruned"}


@pytest.mark.parametrize(("pruner", "min_epochs"), [("hyperband", 1), ("median", 3)])
def test_a_trial_at_its_last_epoch_has_finished_and_counts_for_those_behind_it(tmp_path, pruner, min_epochs):
    three = altered(pruner=pruner, trials=9, min_epochs=min_epochs, train=dataclasses.replace(BASE, epochs=3))
    trials, _ = run_search(tmp_path / "search", config=three)
    for trial in trials:
        assert trial.state == ("finished" if len(trial.scores) == 3 else "pruned")
    finished = [trial for trial in trials if trial.state == "finished"]
    last = [trial.scores[-1] for trial in finished]
    assert sorted(last) != last  # one that is worse than those before it has finished too
    if pruner == "hyperband":  # its last rung, at epoch 3, is the last epoch
        assert {trial.scores[-1] for trial in finished} == {max(trial.notes.values()) for trial in finished}


def test_the_median_rule_gives_up_what_was_never_as_good_as_half_of_the_others(tmp_path):
    trials, _ = run_search(tmp_path / "search", config=altered(trials=12, min_epochs=2))
    finished = []
    for trial in trials:  # as Golovin et al. 2017 have it; five trials come first
        medians = [sorted(scores[epoch] for scores in finished) for epoch in range(4)]
        medians = [(each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2 for each in medians if each]
        if len(finished) >= 5:
            best = [max(trial.scores[: epoch + 1]) for epoch in range(len(trial.scores))]
            passed = [value >= median for value, median in zip(best, medians, strict=False)]
            judged = passed[1:3]  # behind the last of its four epochs a trial has finished
            assert all(judged[:-1])
            assert judged[-1] == (trial.state == "finished")
        if trial.state == "finished":
            finished.append(trial.scores)
    assert {trial.state for trial in trials} == {"finished", "pruned"}


@pytest.mark.parametrize(
    ("batch_size", "reason"),
    [
        (13, "the loss of step 3 is nan; lower --learning_rate (exit code 2)"),
        (14, "OOM when allocating (exit code 1)"),
        (16, "no epoch has a finite score"),
    ],
)
def test_a_trial_that_fails_is_one_failed_trial_with_its_reason(tmp_path, batch_size, reason):
    trials, told = run_search(tmp_path / "search", failing(batch_size), altered(trials=6, max_failures=6))
    for trial in trials:
        assert (trial.state == "failed") == (trial.settings["global_batch_size"] == batch_size)
        assert trial.reason == (reason if trial.state == "failed" else "")
    assert {"failed", "finished"} <= {trial.state for trial in trials}
    assert any(f"failed after 0 s: {reason}" in line for line in told)


def test_a_search_whose_trials_all_fail_stops_and_the_same_command_goes_on(tmp_path):
    config, space = altered(trials=5, max_failures=2), failing(13).replace(", 4]", ", 14]")
    for count in (2, 4):
        with pytest.raises(ValueError, match=r"2 trials failed one after the other, .*; see .*000\d.log; the same"):
            run_search(tmp_path / "search", space, config)
        assert [trial.state for trial in read_trials(SearchFolder(tmp_path / "search"))] == ["failed"] * count
    assert len(run_search(tmp_path / "search", space, config)[0]) == 5


def test_a_full_disk_fails_no_trial(tmp_path):
    full = altered(train=dataclasses.replace(BASE, global_batch_size=15))
    for _ in range(2):
        with pytest.raises(ValueError, match="trial 0: .*No space left on device.*; make room, and the same command"):
            run_search(tmp_path / "search", config=full)
        assert [trial.state for trial in read_trials(SearchFolder(tmp_path / "search"))] == ["running"]


def test_a_trial_that_somebody_stops_goes_on(tmp_path, monkeypatch):
    wait = process.subprocess.Popen.wait

    def stopped(child, timeout=None):
        child.terminate()
        return wait(child)

    with monkeypatch.context() as patch:
        patch.setattr(process.subprocess.Popen, "wait", stopped)
        patch.setenv("FAKE_PACE", "5")
        with pytest.raises(Preempted, match="trial 0 was stopped by somebody"):
            run_search(tmp_path / "search")
    assert read_trials(SearchFolder(tmp_path / "search"))[0].state == "running"


def test_settings_that_turn_out_not_to_go_together_fail_without_a_process(tmp_path, monkeypatch):
    config = Space.config

    def fussy(space, values):
        if values["model.filters"] == 8:
            raise ValueError("not 8")
        return config(space, values)

    with monkeypatch.context() as patch:
        patch.setattr(Space, "config", fussy)
        trials, _ = run_search(tmp_path / "search", config=altered(trials=8))
    folder = SearchFolder(tmp_path / "search")
    for trial in trials:
        is_eight = trial.settings["model.filters"] == 8
        assert (trial.state, trial.reason) == (("failed", "not 8") if is_eight else (trial.state, ""))
        assert folder.log(trial.number).exists() != is_eight
    assert len({trial.settings["model.filters"] for trial in trials}) == 3


def test_no_combination_is_tried_twice_and_the_search_ends_with_the_last(tmp_path):
    space = "model.filters: [4, 8]\nmodel.dropout: {low: 0.1, high: 0.3, step: 0.1}"
    trials, told = run_search(tmp_path / "search", space, altered(trials=30))
    tried = [(trial.settings["model.filters"], trial.settings["model.dropout"]) for trial in trials]
    assert sorted(tried) == [(filters, rate) for filters in (4, 8) for rate in (0.1, 0.2, 0.3)]
    assert told[-1] == "every combination of the settings has been tried"
    again, told = run_search(tmp_path / "search", space, altered(trials=30))
    assert again == trials


def test_more_trials_may_be_asked_for_and_are_those_of_a_longer_search(tmp_path):
    run_search(tmp_path / "search", config=altered(trials=2, pruner="none"))
    longer = altered(trials=4, pruner="none")
    trials, told = run_search(tmp_path / "search", config=longer)
    assert told[0] == "going on: 2 trials have ended"
    assert without_times(trials) == imagined_trials(tmp_path / "space.yaml", longer)


def test_seeds_propose_other_trials(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    first, second = (
        [trial.settings for trial in imagined_trials(tmp_path / "space.yaml", altered(seed=seed, pruner="none"))]
        for seed in (0, 1)
    )
    assert not [settings for settings in first if settings in second]


# --- refusals


@pytest.mark.parametrize(
    ("space", "config", "info", "message"),
    [
        (SPACE.replace("16", "32"), CONFIG, INFO, r"space.model.filters: \[4, 8, 16\] there, \[4, 8, 32\] here"),
        (SPACE, altered(seed=1), INFO, "search.seed: 0 there, 1 here"),
        (SPACE, altered(train=dataclasses.replace(BASE, epochs=5)), INFO, "train.epochs: 4 there, 5 here"),
        (SPACE, CONFIG, dataclasses.replace(INFO, fingerprint="f"), "records.fingerprint: 0123456789abcdef there, f"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(tmp_path, space, config, info, message):
    run_search(tmp_path / "search", config=altered(trials=1))
    with pytest.raises(ValueError, match=f"holds another search .*{message}.*choose another SEARCH folder"):
        run_search(tmp_path / "search", space, config, info)


def test_a_second_process_is_refused(tmp_path):
    run_search(tmp_path / "search", config=altered(trials=1))
    handle = os.open(tmp_path / "search", os.O_RDONLY)  # a lock belongs to the opened file, as of another process
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process searches in this SEARCH folder; wait for its end"):
        run_search(tmp_path / "search")
    os.close(handle)
    run_search(tmp_path / "search", config=altered(trials=2))


def test_a_folder_with_other_files_is_refused_and_one_that_was_just_begun_is_not(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder, or one of a search; it holds other files"):
        run_search(tmp_path / "other")
    (tmp_path / "begun" / "trials").mkdir(parents=True)
    (tmp_path / "begun" / "search.json.tmp").write_text("{")
    run_search(tmp_path / "begun", config=altered(trials=1))


def test_damaged_files_are_named(tmp_path):
    run_search(tmp_path / "search", config=altered(trials=2))
    folder = SearchFolder(tmp_path / "search")
    sound = folder.trial(0).read_text()
    for damage in (sound[:50], json.dumps({"number": 0, "colour": 1})):
        folder.trial(0).write_text(damage)
        with pytest.raises(ValueError, match=r"0000.json: damaged \(.*\); search anew"):
            run_search(tmp_path / "search")
    folder.trial(0).unlink()
    with pytest.raises(ValueError, match=r"0000.json: damaged \(.*No such file"):
        run_search(tmp_path / "search")
    folder.trial(0).write_text(sound)
    folder.settings.write_text("{")
    with pytest.raises(ValueError, match=r"search.json: damaged \("):
        run_search(tmp_path / "search")


def test_trials_must_be_longer_than_what_they_get_anyway(tmp_path):
    with pytest.raises(ValueError, match="min_epochs: expected at most the 4 epochs of a trial, found 5"):
        run_search(tmp_path / "search", config=altered(min_epochs=5))
    trials, _ = run_search(tmp_path / "search", "epochs: [4, 5]", altered(min_epochs=5, trials=1))
    assert len(trials) == 1
