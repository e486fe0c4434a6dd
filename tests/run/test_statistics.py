import numpy as np
import pytest
from scipy import stats

from rlgrad.run.statistics import summarize


def test_mean_iqm_and_interval() -> None:
    x = np.random.default_rng(1).normal(size=12)
    found = summarize(x.tolist())
    ordered = np.sort(x)
    assert found["mean"] == pytest.approx(x.mean())
    assert found["iqm"] == pytest.approx(ordered[3:9].mean())
    t = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))  # another method, so only about the same
    assert found["ci95"] == pytest.approx(t, abs=0.25)
    assert found["per_replica"] == x.tolist()


@pytest.mark.parametrize("n", [2, 3, 8, 33])
def test_the_interval_is_scipy_s(n: int) -> None:
    x = np.random.default_rng(n).exponential(size=n)
    low, high = stats.bootstrap((x,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    assert summarize(x.tolist())["ci95"] == pytest.approx([low, high], rel=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = summarize(rng.normal(size=30).tolist())["ci95"]
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_one_replica_says_nothing_about_the_spread() -> None:
    assert summarize([2.0]) == {"mean": 2.0, "iqm": 2.0, "ci95": [None, None], "per_replica": [2.0]}


def test_equal_values_have_no_spread() -> None:
    assert summarize([2.0, 2.0])["ci95"] == [2.0, 2.0]


def test_what_is_not_finite_is_none() -> None:
    found = summarize([1.0, float("nan")])
    assert found == {"mean": None, "iqm": None, "ci95": [None, None], "per_replica": [1.0, None]}
