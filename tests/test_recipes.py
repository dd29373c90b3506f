"""Every recipe is one that train.py takes, and says where its numbers come from; spaces can be searched."""

from pathlib import Path

import pytest

import cli
from training.config import TrainConfig
from training.tuning.space import read_space

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def read(path: Path) -> TrainConfig:
    return cli.parse(TrainConfig, {}, "train.py", "", ["--config", str(path)])[1]


def test_there_are_recipes():
    assert {"demo", "nuclei", "airbus", "camvid", "clouds", "ct_lungs", "ct_lungs_infection", "membrane"} == {
        path.stem for path in RECIPES
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_one_of_the_trainers_settings(path):
    assert read(path) != TrainConfig()


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem != "demo"], ids=lambda path: path.stem)
def test_a_recipe_says_how_it_was_measured(path):
    head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    for words in (
        "python -m preprocess ",
        f"--config recipes/{path.name}",
        "python test.py ",
        "Machine:",
        "Time:",
        "Dice",
    ):
        assert words in head, words


@pytest.mark.parametrize("path", sorted((FOLDER / "spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_space_can_be_searched(path):
    assert read_space(path, read(FOLDER / "demo.yaml")).settings
