import numpy as np
import pytest
from scipy import stats

from rlgrad.run.statistics import student, summarize


def test_mean_iqm_and_interval() -> None:
    x = np.random.default_rng(1).normal(size=12)
    found = summarize(x.tolist())
    ordered = np.sort(x)
    assert found["mean"] == pytest.approx(x.mean())
    assert found["iqm"] == pytest.approx(ordered[3:9].mean())
    t = stats.t.interval(0.95, 11, loc=x.mean(), scale=stats.sem(x))
    assert found["ci95"] == pytest.approx(t, rel=1e-7)
    assert found["per_replica"] == x.tolist()


@pytest.mark.parametrize("degrees", [*range(1, 130), 999, 99_999])
def test_student_s_quantile_is_scipy_s(degrees: int) -> None:
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-7)


@pytest.mark.parametrize("replicas", [2, 3, 8, 30])
def test_the_interval_covers_the_truth_as_often_as_it_says(replicas: int) -> None:
    """For normal data, however few: the count is binomial."""
    rng = np.random.default_rng(0)
    hits = 0
    for x in rng.normal(size=(2000, replicas)):
        low, high = summarize(x.tolist())["ci95"]
        hits += low <= 0 <= high
    assert stats.binomtest(hits, 2000, 0.95).pvalue > 1e-3


def test_one_replica_says_nothing_about_the_spread() -> None:
    assert summarize([2.0]) == {"mean": 2.0, "iqm": 2.0, "ci95": [None, None], "per_replica": [2.0]}


def test_equal_values_have_no_spread() -> None:
    found = summarize([2.0, 2.0])
    assert (found["mean"], found["iqm"], found["ci95"]) == (2.0, 2.0, [None, None])


def test_what_does_not_differ_by_chance_has_no_interval() -> None:
    found = summarize([1.0, 2.0, 4.0, 9.0], by_chance=False)
    assert (found["mean"], found["iqm"], found["ci95"]) == (4.0, 3.0, [None, None])


def test_what_is_not_finite_is_none() -> None:
    found = summarize([1.0, float("nan")])
    assert found == {"mean": None, "iqm": None, "ci95": [None, None], "per_replica": [1.0, None]}


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 10, 33])
def test_a_quarter_at_either_end_rounded_down_is_left_out_of_the_iqm(n: int) -> None:
    x = np.random.default_rng(n).exponential(size=n)
    assert summarize(x.tolist())["iqm"] == pytest.approx(stats.trim_mean(x, 0.25))


def test_replicas_set_aside_do_not_count() -> None:
    found = summarize([1.0, 50.0, 2.0, float("nan")], without=[1, 3])
    alone = summarize([1.0, 2.0])
    assert found == alone | {"per_replica": [1.0, None, 2.0, None]}
