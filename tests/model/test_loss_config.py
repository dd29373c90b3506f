import subprocess
import sys
from dataclasses import dataclass, field

import pytest

import cli
from model.loss_config import LossConfig


@dataclass(frozen=True)
class Outer:
    """Settings that hold those of the loss."""

    loss: LossConfig = field(default_factory=LossConfig)
    """The loss."""


def parsed(*arguments: str) -> LossConfig:
    return cli.parse(Outer, {}, "prog", "", list(arguments))[1].loss


def test_the_loss_is_cross_entropy_and_dice_unless_told_otherwise():
    assert parsed() == LossConfig()
    assert LossConfig().terms == {"bce": 1, "dice": 1}


def test_flags_make_a_loss():
    found = parsed("--loss.terms", "{focal: 2, boundary: 0.01}", "--loss.focal_alpha", "null")
    assert found == LossConfig({"focal": 2.0, "boundary": 0.01}, focal_alpha=None)
    assert parsed("--loss.class_weights", "[0.5, 3]").class_weights == [0.5, 3.0]
    assert parsed("--loss.class_weights", "balanced").class_weights == "balanced"


def test_a_loss_in_a_recipe_replaces_the_default_one(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("loss:\n  terms: {tversky: 1}\n  tversky_beta: 0.9\n")
    assert parsed("--config", str(recipe)) == LossConfig({"tversky": 1.0}, tversky_beta=0.9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": {"bce_dice": 1}}, "expected one or more of bce, focal, dice, .*boundary; found bce_dice"),
        ({"terms": {}}, "found none"),
        ({"terms": {"bce": 0}}, "expected weights above 0, found bce: 0; leave it out"),
        ({"terms": {"bce": -1}}, "found bce: -1"),
        ({"terms": {"bce": float("nan")}}, "found bce: nan"),
        ({"class_weights": [1, -1]}, "at least 0, not all of them 0"),
        ({"class_weights": [0, 0]}, "at least 0, not all of them 0"),
        ({"label_smoothing": 1.0}, "loss.label_smoothing: expected a share from 0 to below 1, found 1.0"),
        ({"terms": {"focal": 1}, "focal_alpha": 0}, "focal_alpha: expected a share between 0 and 1, or null"),
        ({"terms": {"focal": 1}, "focal_gamma": 0.5}, "focal_gamma: expected at least 1, found 0.5"),
        ({"terms": {"focal_tversky": 1}, "focal_tversky_gamma": 0}, "focal_tversky_gamma: expected at least 1"),
        ({"terms": {"tversky": 1}, "tversky_alpha": 0}, "tversky_alpha: expected a weight above 0"),
        ({"terms": {"boundary": 1}, "boundary_reach": 0}, "boundary_reach: expected pixels above 0, or null"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_weights", "balanced"),
        ("label_smoothing", 0.1),
        ("focal_alpha", None),
        ("focal_gamma", 3.0),
        ("tversky_alpha", 0.5),
        ("tversky_beta", 0.5),
        ("focal_tversky_gamma", 2.0),
        ("boundary_reach", 9.0),
    ],
)
def test_a_setting_that_no_term_reads_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"loss.{name}: found .*, which only .* among loss.terms reads; leave it out"):
        LossConfig({"dice": 1.0, "lovasz": 1.0}, **{name: value})


def test_the_settings_import_no_tensorflow():
    code = "import sys, model.loss_config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
