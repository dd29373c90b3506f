"""The search space: what a file means, and which mistakes are found before anything starts."""

import json
import re

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from training.config import TrainConfig
from training.optimizer_config import OptimizerConfig
from training.tuning.config import TuneConfig
from training.tuning.names import Names
from training.tuning.plot import plot_trials
from training.tuning.space import Setting, Space, read_space
from training.tuning.study import Proposal
from training.tuning.trial import Trial


def read(tmp_path, text: str, base: TrainConfig | None = None) -> Space:
    (tmp_path / "space.yaml").write_text(text)
    return read_space(tmp_path / "space.yaml", base or TrainConfig())


def test_ranges_and_choices_become_what_they_say(tmp_path):
    space = read(
        tmp_path,
        """
learning_rate: {low: 1e-4, high: 1e-2, log: true}
model.dropout: {low: 0, high: 0.3, step: 0.1}
epochs: {low: 10, high: 30, step: 5}
global_batch_size: {low: 4, high: 64, log: true}
loss.terms: [{bce: 1, dice: 1}, {bce: 1}]
early_stopping: [null, 5]
""",
    )
    assert {setting.name: setting.distribution for setting in space.settings} == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "model.dropout": FloatDistribution(0, 0.3, step=0.1),
        "epochs": IntDistribution(10, 30, step=5),
        "global_batch_size": IntDistribution(4, 64, log=True),
        "loss.terms": CategoricalDistribution(('{"bce": 1, "dice": 1}', '{"bce": 1}')),
        "early_stopping": CategoricalDistribution(("null", "5")),
    }


def test_values_replace_settings_of_the_base_and_nothing_else(tmp_path):
    base = TrainConfig(epochs=7, optimizer=OptimizerConfig(clip_norm=1.0))
    space = read(
        tmp_path,
        """
learning_rate: {low: 1e-4, high: 1e-2}
model.filters: [8, [8, 16, 32, 64, 128]]
loss.terms: [{bce: 1, dice: 1}, {bce: 1}]
optimizer: [{name: adam}, {name: adamw, weight_decay: 0.05}]
""",
        base,
    )
    values = {
        "learning_rate": 2e-3,
        "model.filters": [8, 16, 32, 64, 128],
        "loss.terms": {"bce": 1},
        "optimizer": {"name": "adamw", "weight_decay": 0.05},
    }
    config = space.config(values)
    assert (config.epochs, config.learning_rate) == (7, 2e-3)
    assert config.model.filters == (8, 16, 32, 64, 128)
    assert config.loss.terms == {"bce": 1}
    assert config.optimizer == OptimizerConfig("adamw", weight_decay=0.05, clip_norm=1.0)
    assert config.model.depth == base.model.depth
    assert space.config(values | {"model.filters": 8}).model.filters == 8


def test_all_that_is_proposed_lies_within_and_is_a_setting(tmp_path):
    space = read(
        tmp_path,
        """
learning_rate: {low: 1.2345678e-4, high: 1.2345679e-2, log: true}
model.dropout: {low: 0.1, high: 0.4, step: 0.1}
epochs: {low: 4, high: 12, step: 4}
model.filters: [8, [8, 16, 32, 64, 128]]
""",
    )
    config, ended = TuneConfig(space=""), []
    for number in range(30):
        settings = Proposal(config, space, ended).settings()
        assert 1.2345678e-4 <= settings["learning_rate"] <= 1.2345679e-2
        assert settings["model.dropout"] in (0.1, 0.2, 0.3, 0.4)
        assert settings["epochs"] in (4, 8, 12)
        assert settings["model.filters"] in (8, [8, 16, 32, 64, 128])
        space.config(settings)
        ended.append(Trial(number, json.loads(json.dumps(settings)), "finished", [number / 30]))
    rates = sorted(trial.settings["learning_rate"] for trial in ended)
    assert rates[0] < 5e-4 and rates[-1] > 5e-3


def test_proposals_are_rounded_to_what_people_read_but_stay_within():
    rate = Setting("learning_rate", FloatDistribution(0.12344, 0.5), {})
    assert [rate.value(proposed) for proposed in (0.234567, 0.12344, 0.5)] == [0.2346, 0.12344, 0.5]
    stepped = Setting("model.dropout", FloatDistribution(0.1, 0.7, step=0.1), {})
    assert stepped.value(0.1 + 2 * 0.1) == 0.3
    assert stepped.values() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert (stepped.count, rate.count) == (7, None)


def test_combinations_are_counted_where_there_is_an_end_of_them(tmp_path):
    finite = read(tmp_path, "epochs: {low: 4, high: 6}\nmodel.attention: [true, false]")
    combinations = list(finite.combinations())
    assert len(combinations) == 6
    assert combinations[0] == {"epochs": 4, "model.attention": True}
    assert read(tmp_path, "learning_rate: {low: 0.1, high: 0.2}\nepochs: [4, 5]").combinations() is None
    assert read(tmp_path, "epochs: {low: 1, high: 5000}").combinations() is None


def test_the_values_of_a_wide_range_are_counted_and_never_listed(tmp_path, monkeypatch):
    space = read(tmp_path, "seed: {low: 0, high: 2147483647}\nmodel.attention: [true, false]")
    monkeypatch.setattr(Setting, "values", lambda setting: pytest.fail(f"all values of {setting.name} were listed"))
    assert [setting.count for setting in space.settings] == [2**31, 2]
    assert space.combinations() is None
    trials = [Trial(0, {"seed": 2**31 - 1, "model.attention": True}, "finished", [0.5])]
    settings = Proposal(TuneConfig(space=""), space, trials).settings()
    assert 0 <= settings["seed"] < 2**31
    plot_trials(space, trials, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filters: [8, 16]",
            "filters: expected a setting of the trainer, found none of this name; did you mean model.f",
        ),
        ("optimiser.name: [adam, sgd]", "did you mean optimizer.name?"),
        ("depth: [3, 4]", "did you mean model.depth?"),
        ("task: [segment, classify]", "task: expected settings of one task"),
        ("name: [adam, cosine]", "did you mean optimizer.name or schedule.name?"),
        ("xyzzy: [1, 2]", "found none of this name; `python train.py --help` shows all"),
        ("optimizer.name: [adam, adamm]", 'expected one of adam, adamw, sgd, lamb, found "adamm"'),
        ("model.filters: [8.5, 8]", "model.filters: expected a whole number or a list of whole numbers, found 8.5"),
        ("early_stopping: [no, 8]", "early_stopping: expected a whole number or null, found"),
        ("model.attention: [1, 0]", "model.attention: expected true or false, found 1"),
        ("model.filters: 8", "model.filters: expected a list of choices, or {low: ..., high: ...}"),
        ("model.filters: [8]", "expected two or more different choices, found [8]"),
        ("model.filters: [8, 16, 8]", "expected two or more different choices, found [8, 16, 8]"),
        ("model.dropout: {min: 0, max: 1}", "expected a list of choices, or {low: ..., high: ...}"),
        ("model.dropout: {low: 0.3, high: 0.3}", "expected low < high, found 0.3 and 0.3"),
        ("model.dropout: {low: .nan, high: 0.3}", "expected low < high, found nan and 0.3"),
        ("model.dropout: {low: 0, high: .inf}", "expected low < high, found 0 and inf"),
        ("model.dropout: {low: 0, high: 0.3, log: true}", "expected low above 0 and no step with log: true"),
        ("model.dropout: {low: 0.1, high: 0.3, log: 3}", "expected log: true or false, found 3"),
        ("model.dropout: {low: 0, high: 0.3, step: 0.2}", "expected steps that lead from low to high"),
        ("model.dropout: {low: 0, high: 0.3, step: -0.1}", "expected steps that lead from low to high"),
        ("model.dropout: {low: 0, high: 0.3, step: 0.6}", "expected steps that lead from low to high"),
        ("epochs: {low: 1.5, high: 3}", "epochs: expected whole numbers, found low: 1.5"),
        ("epochs: {low: true, high: 3}", "epochs: expected whole numbers, found low: true"),
        ("learning_rate: {low: small, high: 3}", 'learning_rate: expected numbers, found low: "small"'),
        ("model.encoder: {low: 1, high: 3}", "model.encoder: expected a list of choices, as it is no number"),
        (
            "model: {filters: [8, 16]}",
            "model: expected a list of choices, as it is a group; .*write model.filters: ...",
        ),
        ("optimizer: [adam, sgd]", 'optimizer: expected some of its settings as {name: value}, found "adam"'),
        ("optimizer: [{name: adam}, {nam: sgd}]", "did you mean optimizer.name?"),
        ("optimizer: [{name: adam}, {name: sgd}]\noptimizer.name: [adam, sgd]", "expected optimizer or optimizer.name"),
        ("epochs: [3, 4]\nepochs: [5, 6]", "expected every setting once, found epochs again"),
        (
            "model.dropout: {low: 0, high: 2}",
            "space.yaml: model.dropout: expected a share from 0 to below 1, found 2.0",
        ),
        ("loss.terms: [{bce: 1}, {bcee: 1}]", "loss.terms: expected one or more of bce, .*; found bcee"),
        (
            "model.encoder: [plain, resnet34]\nmodel.depth: [4, 5]",
            "space.yaml: model.encoder resnet34: model.depth: expected 5, as encoder resnet34 halves images five times",
        ),
        (
            "optimizer.name: [adamw, sgd]\nmodel.attention: [true, false]\noptimizer.nesterov: [false, true]\n"
            "optimizer.weight_decay: [0.1, 0.2]",
            "optimizer.nesterov: expected sgd with momentum",
        ),
        (
            "epochs: [5, 30]\noptimizer.average: [ema, swa]",
            "epochs 5 with optimizer.average swa: optimizer.swa_start: expected at most the 5 epochs, found 10",
        ),
        ("", "expected settings and what each may be, .* found None"),
        ("- epochs", "expected settings and what each may be"),
        ("epochs: [1", "expected a search space in YAML, found something else"),
        ("epochs: !!set {1, 2}", "expected a search space in YAML, found something else"),
    ],
)
def test_mistakes_are_named_in_a_line(tmp_path, text, message):
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=rf"space.yaml: .*{pattern}" if "space.yaml" not in message else pattern):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml: expected a search space, a YAML file; found no such file"):
        read_space(tmp_path / "nowhere.yaml", TrainConfig())


def test_where_there_are_many_combinations_pairs_are_checked(tmp_path):
    many = "".join(
        f"augment.{name}: {{low: 0.1, high: 0.2}}\n"
        for name in ("affine", "rotation", "scale", "shift", "brightness", "contrast")
    ) + "".join(f"{name}: [1, 2, 3, 4]\n" for name in ("seed", "checkpoint_minutes", "freeze_epochs"))
    assert len(read(tmp_path, f"{many}epochs: [5, 30]").settings) == 10
    with pytest.raises(ValueError, match="epochs 5 with optimizer.average swa: optimizer.swa_start"):
        read(tmp_path, f"{many}epochs: [5, 30]\noptimizer.average: [ema, swa]")


def test_the_names_are_those_of_the_flags():
    names = Names(TrainConfig)
    assert names.is_group("model") and not names.is_group("model.filters")
    assert [names.number(name) for name in ("learning_rate", "epochs", "early_stopping", "model.filters")] == [
        float,
        int,
        int,
        int,
    ]
    assert names.number("optimizer.clip_norm") is float
    assert names.number("loss.class_weights") is names.number("model.attention") is None
    value = [8, 16]
    assert names.read("model.window", value) == {"model.window": (8.0, 16.0)}
    assert value == [8, 16]
