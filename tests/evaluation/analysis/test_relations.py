import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from evaluation.analysis.relations import describe_relations, rank_correlation, relate


def make_facts(count=60, seed=0, **columns) -> pd.DataFrame:
    names = [f"k{number:03d}" for number in range(count)]
    noise = np.random.default_rng(seed).normal(size=count)
    return pd.DataFrame({"group": names, "brightness": np.arange(count), "contrast": noise, **columns}, index=names)


def test_the_correlation_of_ranks_is_scipys_ties_and_all():
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, 6, 40).astype(float), generator.normal(size=40)
    assert rank_correlation(first, second) == pytest.approx([spearmanr(first, second).statistic])
    assert rank_correlation(first, -(first**3)) == pytest.approx([-1])
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4.0))).all()


def test_an_image_that_counts_twice_is_there_twice():
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 6, 30).astype(float), generator.normal(size=30)
    weights = generator.integers(0, 4, (5, 30))
    found = rank_correlation(first, second, weights.astype(float))
    for row, value in zip(weights, found, strict=True):
        assert value == pytest.approx(spearmanr(np.repeat(first, row), np.repeat(second, row)).statistic)


def test_a_measure_that_goes_with_the_score_is_told_from_one_that_does_not():
    found = relate(make_facts(dice=1 / (1 + np.arange(60.0))), "dice")
    assert found.index.tolist() == ["brightness", "contrast"]  # the strongest first
    assert found.loc["brightness", "correlation"] == pytest.approx(-1)
    assert found.loc["brightness", "verdict"] == "worse where higher"
    assert found.loc["contrast", "verdict"] == "can't tell"
    assert found.loc["contrast", "low"] < found.loc["contrast", "correlation"] < found.loc["contrast", "high"]
    said = describe_relations(found, "dice")
    assert "- dice worse where higher: brightness (-1.00)" in said and "- dice can't tell: contrast" in said


def test_of_a_distance_less_is_better():
    found = relate(make_facts(hausdorff95=np.arange(60.0)), "hausdorff95")
    assert found.loc["brightness", "correlation"] == pytest.approx(1)
    assert found.loc["brightness", "verdict"] == "worse where higher"


def test_few_groups_tell_nothing_however_many_images():
    facts = make_facts(dice=np.arange(60.0))
    assert relate(facts, "dice").loc["brightness", "verdict"] == "better where higher"
    facts["group"] = [f"g{number % 5}" for number in range(60)]
    assert relate(facts, "dice").loc["brightness", "verdict"] == "can't tell"
    facts["group"] = "one"
    assert np.isnan(relate(facts, "dice").loc["brightness", "low"])


def test_what_is_not_measured_counts_nowhere():
    facts = make_facts(dice=np.arange(60.0))
    facts.loc[facts.index[:50], "brightness"] = np.nan
    facts["diameter"] = np.nan
    found = relate(facts, "dice")
    assert found.loc["brightness", "images"] == 10 and "diameter" not in found.index
    nothing = relate(facts.assign(dice=1.0), "dice")
    assert nothing.empty and "nothing to relate" in describe_relations(nothing, "dice")
