"""Coefficients with their errors are statsmodels'; columns that depend on others, and that separate, are found."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlgrad
from rlgrad.run.records import read_records
from rlgrad.supervised.conclusions import convergence
from rlgrad.supervised.families import family_of
from rlgrad.supervised.inference import Design, fitted, independent, moments
from rlgrad.supervised.preprocessing import Preprocessing
from rlgrad.supervised.separation import separated

EXAMPLES = 150


def made(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns of three scales [N, 3], and labels [N]."""
    rng = np.random.default_rng(5)
    z = rng.standard_normal((EXAMPLES, 3)).round(3)
    x, score = (z * [1, 8, 0.01] + [0, 1990, 0.5]).round(6), z @ [0.6, -0.4, 0.2] + 0.3
    if kind == "poisson":
        return x, rng.poisson(np.exp(score))
    if kind == "gaussian":
        return x, (score + rng.standard_normal(EXAMPLES)).round(3)
    if kind == "logistic":
        return x, (rng.random(EXAMPLES) < 1 / (1 + np.exp(-score))).astype(int)
    return x, (np.column_stack([score, -score, 0 * score]) + rng.gumbel(size=(EXAMPLES, 3))).argmax(1)


def write(path: Path, x: np.ndarray, y: np.ndarray, names: str = "a,year,rate") -> Path:
    rows = [",".join(map(str, [*row, label])) for row, label in zip(x.tolist(), y.tolist(), strict=True)]
    path.write_text(f"{names},y\n" + "\n".join(rows))
    return path


def trained(path: Path, quiet: bool = True, **settings: Any) -> rlgrad.run.training.Run:
    given = {"problem": "logistic", "data": str(path), "test_fraction": 0, "dtype": "float64", "updates": 3}
    return rlgrad.train(given | {"optimizer": {"name": "Newton"}} | settings, out=path.parent / "run", quiet=quiet)


def twin(kind: str, x: np.ndarray, y: np.ndarray, errors: str) -> Any:
    sm = pytest.importorskip("statsmodels.api")
    more = {"cov_type": "HC0"} if errors == "sandwich" else {}
    x = sm.add_constant((x - [0, 1990, 0.5]) / [1, 8, 0.01])  # its own Newton steps need columns of one scale
    if kind == "poisson":
        return sm.GLM(y, x, family=sm.families.Poisson()).fit(tol=1e-14, maxiter=100, **more)
    if kind == "gaussian":
        return sm.OLS(y, x).fit(**more)
    model = sm.Logit if kind == "logistic" else sm.MNLogit
    return model(y, x).fit(disp=0, method="newton", gtol=1e-14, xtol=1e-14, maxiter=100, **more)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("errors", ["fisher", "sandwich"])
@pytest.mark.parametrize("kind", ["logistic", "multinomial", "poisson", "gaussian"])
def test_the_table_of_coefficients_is_statsmodels_s(tmp_path: Path, kind: str, errors: str, dtype: str) -> None:
    x, y = made(kind)
    family = "logistic" if kind == "multinomial" else kind
    run = trained(write(tmp_path / "t.csv", x, y), family=family, errors=errors, dtype=dtype)
    reference, found = twin(kind, x, y, errors), run.summary["coefficients"]
    t = found["rows"]
    unit, rows = np.tile([1, 8, 0.01], len(t) // 4), [k for k in range(len(t)) if t[k]["name"] != "intercept"]
    digits = 1e-8 if dtype == "float64" else 1e-6

    def theirs(values: Any) -> np.ndarray:
        return np.asarray(values).T.reshape(-1)[rows]

    ends = np.asarray(reference.conf_int()).reshape(-1, 2)[rows]
    for key, expected in {
        "estimate": theirs(reference.params) / unit,
        "error": theirs(reference.bse) / unit,
        "z": theirs(reference.tvalues),
        "p": theirs(reference.pvalues),
        "low": ends[:, 0] / unit,
        "high": ends[:, 1] / unit,
        **({} if kind == "gaussian" else {"ratio": np.exp(theirs(reference.params) / unit)}),
    }.items():
        ours = [t[k][key] for k in rows]
        np.testing.assert_allclose(ours, expected, rtol=digits * (100 if key == "p" else 1), err_msg=key)
    assert found["statistic"] == ("t" if kind == "gaussian" and errors == "fisher" else "z")
    assert found["log-likelihood"] == pytest.approx(reference.llf, rel=1e-7)
    assert found["AIC"] == pytest.approx(reference.aic, rel=1e-7)
    if kind == "gaussian":
        assert found["R²"] == pytest.approx(reference.rsquared, rel=1e-6)
    elif kind != "poisson":
        assert found["pseudo-R²"] == pytest.approx(reference.prsquared, rel=1e-6)
        assert found["BIC"] == pytest.approx(reference.bic, rel=1e-7)
    else:
        assert found["pseudo-R²"] == pytest.approx(reference.pseudo_rsquared("mcf"), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_intercept_is_that_of_the_file_s_units(tmp_path: Path) -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y = made("gaussian")
    row = trained(write(tmp_path / "t.csv", x, y), family="gaussian").summary["coefficients"]["rows"][0]
    reference = sm.OLS(y, sm.add_constant(x)).fit()
    assert row["name"] == "intercept"
    assert [row["estimate"], row["error"]] == pytest.approx([reference.params[0], reference.bse[0]], rel=1e-8)


def test_the_table_is_there_as_csv_markdown_latex_and_in_tensorboard(tmp_path: Path) -> None:
    x, y = made("logistic")
    run = trained(write(tmp_path / "t.csv", x, y, 'a,x_1 & 50%,"b|c\nd"'))
    folder = tmp_path / "run"
    table = list(csv.DictReader((folder / "coefficients.csv").open()))
    rows = run.summary["coefficients"]["rows"]
    assert [float(line["standard error"]) for line in table] == [row["error"] for row in rows]
    assert [line["column"] for line in table] == ["intercept", "a", "x_1 & 50%", "b|c\nd"]
    markdown = (folder / "coefficients.md").read_text()
    assert "| b\\|c d |" in markdown
    assert len({line.count(" | ") for line in markdown.splitlines()[:6]}) == 1
    tex = (folder / "coefficients.tex").read_text()
    assert r"x\_1 \& 50\%" in tex
    assert r"\bottomrule" in tex
    with next(folder.glob("events*")).open("rb") as file:
        assert any(b"coefficients" in record and b"odds ratio" in record for record in read_records(file))


def test_a_short_table_is_shown_at_the_end_and_of_a_long_one_the_command(tmp_path: Path, capsys) -> None:
    """Whose it is is said where there are several replicas."""
    x, y = made("logistic")
    path = write(tmp_path / "t.csv", x, y, "a,x_1 & 50%,b|c")
    run = trained(path, quiet=False, replicas=2)
    said = capsys.readouterr().out.splitlines()
    start = next(k for k, line in enumerate(said) if line.startswith("column "))
    assert said[start].split() == [
        "column",
        "estimate",
        "standard",
        "error",
        "z",
        "p",
        "95%",
        "low",
        "95%",
        "high",
        "odds",
        "ratio",
    ]
    rows = run.summary["coefficients"]["rows"]
    assert [line.rsplit(maxsplit=7)[:2] for line in said[start + 1 : start + 5]] == [
        [row["name"], format(row["estimate"], ".4g")] for row in rows
    ]
    assert "standard errors: fisher; replica: the first of 2" in said[start + 5]
    many = np.random.default_rng(0).standard_normal((EXAMPLES, 20))
    (tmp_path / "long").mkdir()
    write(tmp_path / "long/t.csv", many, y, ",".join("abcdefghijklmnopqrst"))
    trained(tmp_path / "long/t.csv", quiet=False, l2=0.1)
    assert f"21 coefficients:  cat {tmp_path}/long/run/coefficients.md" in capsys.readouterr().out


def test_an_example_that_counts_twice_is_two_examples() -> None:
    x, y = made("logistic")
    x, y = torch.from_numpy(x), torch.from_numpy(y).double()
    weight = torch.ones(EXAMPLES, dtype=torch.float64)
    weight[:40] = 2
    tables = []
    for design in (
        Design(x, y, weight, ["a", "b", "c"], True),
        Design(torch.cat([x, x[:40]]), torch.cat([y, y[:40]]), None, ["a", "b", "c"], True),
    ):
        start, done = np.zeros((4, 1)), Preprocessing(["a", "b", "c"], "error")
        for _ in range(8):
            start[:, 0] += moments(family_of("logistic", 2), design, start).step
        tables.append(fitted(family_of("logistic", 2), design, start, done, [0, 1], "fisher"))
    for a, b in zip(tables[0].rows, tables[1].rows, strict=True):
        np.testing.assert_allclose(a[2:], b[2:], rtol=1e-8)
    assert tables[0].facts == pytest.approx(tables[1].facts, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "class_weight"), [("logistic", 1.0), ("logistic", 3.0), ("poisson", 1.0), ("gaussian", 1.0)]
)
def test_sandwich_errors_of_counted_rows_are_statsmodels_s_of_repeated_rows(
    tmp_path: Path, kind: str, class_weight: float
) -> None:
    """A weight of a class is no count: it is squared, as statsmodels' `var_weights` are."""
    sm = pytest.importorskip("statsmodels.api")
    x, y = made(kind)
    count = np.random.default_rng(6).integers(1, 4, EXAMPLES)
    path = write(tmp_path / "t.csv", np.column_stack([x, count]), y, "a,year,rate,count")
    of_class = {"class_weights": {"1": class_weight}} if kind == "logistic" else {}
    run = trained(path, family=kind, weight="count", errors="sandwich", **of_class)
    inputs, each = sm.add_constant((x - [0, 1990, 0.5]) / [1, 8, 0.01]), np.where(y == 1, class_weight, 1.0)
    own = {"logistic": sm.families.Binomial, "poisson": sm.families.Poisson, "gaussian": sm.families.Gaussian}[kind]()
    solver = {"cov_type": "HC0", "tol": 1e-14, "maxiter": 100}
    counted = sm.GLM(y, inputs, family=own, freq_weights=count, var_weights=each)
    rows = np.repeat(np.arange(EXAMPLES), count)
    repeated = sm.GLM(y[rows], inputs[rows], family=own, var_weights=each[rows])
    found = [row["error"] for row in run.summary["coefficients"]["rows"][1:]]
    for reference in (counted, repeated):
        np.testing.assert_allclose(found, reference.fit(**solver).bse[1:] / [1, 8, 0.01], rtol=1e-7)


def test_columns_that_others_determine_are_named_and_left_blank(tmp_path: Path) -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y = made("logistic")
    wide = np.column_stack([x, 2 * x[:, 0] - x[:, 1]])
    run = trained(write(tmp_path / "t.csv", wide, y, "a,year,rate,mixed"))
    assert "mixed is determined by a and year" in run.summary["conclusion"]
    assert run.summary["conclusion"][0].startswith("converged")
    *rows, last = run.summary["coefficients"]["rows"]
    assert last["estimate"] is None
    reference = sm.Logit(y, sm.add_constant(x - [0, 1990, 0.5])).fit(disp=0, method="newton", maxiter=100)
    for key, expected in (("estimate", reference.params), ("error", reference.bse)):
        np.testing.assert_allclose([row[key] for row in rows[1:]], expected[1:], rtol=1e-6)


def test_independent_columns_and_how_the_others_depend_on_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3))
    design = np.column_stack([x[:, 0], x[:, 1], 3 * x[:, 0] - x[:, 1], x[:, 2], np.zeros(30), x[:, 2]])
    kept, determined = independent(design.T @ design)
    assert kept == [0, 1, 3]
    assert set(determined) == {2, 4, 5}
    assert determined[2] == pytest.approx({0: 3, 1: -1})
    assert determined[5] == pytest.approx({3: 1})
    assert determined[4] == {}


@pytest.mark.parametrize("case", ["wholly", "nearly", "not", "three classes", "counts"])
def test_separated_labels_are_explained_with_their_columns(tmp_path: Path, case: str) -> None:
    """By construction: a column whose sign is the label; one that is 1 in class 1 alone; none."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 3)).round(3)
    y = (rng.random(60) < 0.5).astype(int)
    if case == "wholly":
        y = (x[:, 1] + x[:, 2] > 0).astype(int)
    if case == "nearly":
        x[:, 1] = (y == 1) & (rng.random(60) < 0.4)
    if case == "three classes":
        y = np.where(x[:, 1] > 0.3, 2, y)
    if case == "counts":
        x[:, 1] = np.arange(60) % 3 == 0
        y = np.where(x[:, 1] == 1, 0, rng.poisson(2.0, 60))
    family = "poisson" if case == "counts" else "logistic"
    run = trained(write(tmp_path / "t.csv", x, y, "a,b,c"), updates=12, family=family)
    said, columns = (
        " ".join(run.summary["conclusion"]),
        {"wholly": "b and c separate", "not": ""}.get(case, "b separates"),
    )
    assert columns in said
    assert ("the likelihood has no maximum" in said) == (case != "not")
    errors = [row["error"] for row in run.summary["coefficients"]["rows"]]
    assert all(error is None for error in errors) == (case != "not")
    assert run.summary["status"] == "completed"
    assert (run.summary["updates"] < 12) == (case == "wholly")  # then no step is worth another


@pytest.mark.parametrize("kind", ["logistic", "multinomial", "poisson"])
def test_rows_of_weight_0_do_not_hide_that_labels_are_separated(kind: str) -> None:
    """The same is said as without these rows."""
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.standard_normal((80, 3)))
    above = x[:, 1] > 0
    y = {"logistic": above.double(), "multinomial": above + (x[:, 1] > 1).long()}.get(kind)
    if y is None:
        x[:, 1], y = above, torch.where(above, 0.0, torch.from_numpy(rng.poisson(2.0, 80)).double())
    weight, names = (torch.arange(160) < 80).double(), ["a", "b", "c"]
    hidden = Design(torch.cat([x, x]), torch.cat([y, y.max() - y]), weight, names, True)
    family, classes = ("poisson", 1) if kind == "poisson" else ("logistic", 2 + (kind == "multinomial"))
    said = separated(family, hidden, classes)
    assert said is not None
    assert said == separated(family, Design(x, y, None, names, True), classes)


def test_whether_it_has_converged_is_said_of_each_replica(tmp_path: Path) -> None:
    x, y = made("logistic")
    path = write(tmp_path / "t.csv", x, y)
    slow = {"name": "SGD", "lr": 0.01}
    run = trained(path, optimizer=slow, replicas=2, initial_deviation=0.5, l2=0.01)
    assert run.summary["conclusion"][0].startswith("no replica has converged")
    assert len(run.summary["left_to_gain"]) == 2
    (tmp_path / "run").rename(tmp_path / "first")
    assert trained(path, l2=0.01).summary["conclusion"][0].startswith("converged")
    said = convergence(np.array([1e-9, 2e-3, np.nan, 1e-8]), "more updates")
    assert said.startswith("replicas 1 and 2 of 4 have not converged")
    assert said.endswith("; more updates go further")


def test_where_single_precision_ends_it_is_said_that_double_goes_further(tmp_path: Path) -> None:
    x, _ = made("gaussian")
    y = 3e9 + 1e3 * (x @ [1.0, 2.0, 0.5]) + 300 * np.random.default_rng(5).standard_normal(len(x))
    path = write(tmp_path / "t.csv", x, y)
    (said, *_) = trained(path, family="gaussian", dtype="float32").summary["conclusion"]
    assert said.startswith("not converged")
    assert said.endswith("; more updates, Newton or float64 go further")
    (tmp_path / "run").rename(tmp_path / "first")
    assert trained(path, family="gaussian").summary["conclusion"][0].startswith("converged")


def test_what_is_left_to_gain_is_what_the_optimum_gains(tmp_path: Path) -> None:
    """Near the optimum; where it is from the value that Newton comes to."""
    x, y = made("poisson")
    path = write(tmp_path / "t.csv", x, y)
    near = trained(path, family="poisson", optimizer={"name": "Newton", "max_iter": 2}, updates=1)
    (tmp_path / "run").rename(tmp_path / "first")
    best = trained(path, family="poisson").summary["objective"]["mean"]
    value = near.summary["objective"]["mean"]
    assert near.summary["left_to_gain"][0] == pytest.approx((value - best) / value, rel=0.1)
    assert near.summary["left_to_gain"][0] > 1e-7


def test_a_column_that_others_determine_takes_no_degree_of_freedom_without_an_intercept() -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y = made("gaussian")
    z = (x[:, [0, 2]] - [0, 0.5]) / [1, 0.01]
    reference = sm.OLS(y, z).fit()
    columns = torch.from_numpy(np.column_stack([z, z.sum(1)]))
    design = Design(columns, torch.from_numpy(y), None, ["a", "b", "both"], intercept=False)
    start = np.zeros((3, 1))
    table = fitted(family_of("gaussian", 1), design, start, Preprocessing(["a", "b", "both"], "error"), [], "fisher")
    for number in range(2):
        row = table.rows[number]
        assert row.estimate == pytest.approx(reference.params[number])
        assert (row.error, row.p) == pytest.approx((reference.bse[number], reference.pvalues[number]))
    assert table.rows[2].estimate is None
    assert table.facts["R²"] == pytest.approx(reference.rsquared)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
@pytest.mark.parametrize("made_of", [["one"], ["u", "v"], []])
def test_without_an_intercept_the_constant_is_still_the_best_one(
    tmp_path: Path, family: str, made_of: list[str]
) -> None:
    """Also where other columns make an intercept: one that is constant, or those of all categories."""
    sm = pytest.importorskip("statsmodels.api")
    x = np.arange(1.0, 9)
    columns = {"one": np.full(8, 2.0), "u": x % 2, "v": 1 - x % 2, "x": x}
    design = np.column_stack([columns[name] for name in [*made_of, "x"]])
    y = np.array([11, 12, 12, 14, 15, 13, 17, 18])
    data = write(tmp_path / "t.csv", design, y, ",".join([*made_of, "x"]))
    kind = {"gaussian": sm.families.Gaussian(), "poisson": sm.families.Poisson()}[family]
    found = trained(data, family=family, intercept=False, dtype="float32").summary["coefficients"]
    constant = sm.GLM(y, np.ones(8), kind).fit()
    if family == "gaussian":
        assert found["log-likelihood of a constant"] == pytest.approx(sm.OLS(y, np.ones(8)).fit().llf)
        assert found["R²"] == pytest.approx(sm.OLS(y, design).fit().rsquared)
    else:
        assert found["log-likelihood of a constant"] == pytest.approx(constant.llf)
        assert found["pseudo-R²"] == pytest.approx(1 - sm.GLM(y, design, kind).fit().llf / constant.llf)


def test_the_table_says_whose_coefficients_these_are(tmp_path: Path) -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y = made("logistic")

    def found_with(name: str, **settings: Any) -> Any:
        (tmp_path / name).mkdir()
        data = write(tmp_path / name / "t.csv", x[:, :1], y, "a")
        return trained(data, **settings).summary["coefficients"]

    assert "replica" not in found_with("all", replicas={"bootstrap": 3})
    reference = sm.Logit(y, sm.add_constant(x[:, :1])).fit(disp=0)
    for values in ([0.0, 0.1], [0.1, 0.0]):  # the table is of the first
        found = found_with(str(values[0]), l2={"sweep": values}, updates=8)
        assert found["replica"] == "the first of 2"
        errors = [row["error"] for row in found["rows"]]
        if values[0]:
            assert found["standard errors"] == "none, as the optimum is penalised"
            assert errors == [None, None]
        else:
            assert errors == pytest.approx(reference.bse)


def test_a_column_called_intercept_is_told_from_the_intercept(tmp_path: Path) -> None:
    data = write(tmp_path / "t.csv", np.array([[1], [2], [3], [4]]), np.array([0, 0, 1, 1]), "intercept")
    run = trained(data)
    assert [row["name"] for row in run.summary["coefficients"]["rows"]] == ["intercept", "intercept (column)"]
    said = " ".join(run.problem.conclusion())
    assert "intercept (column) separates the classes wholly" in said  # at 2.5
    assert "the intercept separates" not in said


def test_coefficients_are_brought_into_the_file_s_units() -> None:
    """A model of u = (x - 5) / 2 that is centred again: c (u - shift) / unit + b, as a line of x."""
    u = torch.tensor([[1.0], [3.0], [8.0]], dtype=torch.float64)
    design = Design(u, torch.zeros(3), None, ["x"], intercept=True)
    unit = float(u.std(correction=0))
    intercept, slope = design.outer(Preprocessing(["x"], "error", mean=[5.0], deviation=[2.0])) @ [10.0, 3.0]
    for x in (0.0, 7.0):
        assert intercept + slope * x == pytest.approx(3.0 * ((x - 5) / 2 - 4.0) / unit + 10.0)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("x", "y", "errors"),
    [
        ([[1], [2], [3]], [5, 5, 5], "fisher"),  # no residual at all
        ([[1], [2], [4]], [3, 5, 9], "fisher"),
        ([[1, 1], [2, 5], [4, 7]], [3, 5, 8], "none, as there are no more examples than coefficients"),
        ([[1, 1, 0], [2, 5, 1]], [3, 5], "none, as there are no more examples than coefficients"),
    ],
)
def test_an_exact_fit_ends_in_a_table(tmp_path: Path, x: list, y: list, errors: str) -> None:
    data = write(tmp_path / "t.csv", np.array(x), np.array(y), ",".join("abc"[: len(x[0])]))
    run = trained(data, family="gaussian")
    found = run.summary["coefficients"]
    assert found["standard errors"] == errors
    np.testing.assert_allclose(rlgrad.load(tmp_path / "run").predict(np.array(x, float)), y, atol=1e-9)


def test_where_the_likelihood_has_no_curvature_nothing_has_converged(tmp_path: Path) -> None:
    """Steps of SGD that are much too long make every prediction certain, and many of them wrong."""
    x, y = made("logistic")
    given = {"standardise": False, "optimizer": {"name": "SGD", "lr": 0.1}}
    run = trained(write(tmp_path / "t.csv", x * [1, 1e6, 1], y), **given)
    assert (
        run.summary["coefficients"]["standard errors"]
        == "none, as the likelihood has no curvature at these coefficients"
    )
    assert run.summary["left_to_gain"] == [None]
    assert any(line.startswith("not converged") for line in run.problem.conclusion())


def test_large_counts_are_statsmodels_s(tmp_path: Path) -> None:
    """Newton's first step from a mean of 1 is about as long as the mean of the counts."""
    sm = pytest.importorskip("statsmodels.api")
    x, _ = made("poisson")
    y = np.random.default_rng(1).poisson(1e8 * np.exp(x[:, 0] / 5))
    run = trained(write(tmp_path / "t.csv", x, y), family="poisson")
    there = sm.add_constant((x - [0, 1990, 0.5]) / [1, 8, 0.01])
    expected = sm.GLM(y, there, family=sm.families.Poisson()).fit(tol=1e-14).params[1:] / [1, 8, 0.01]
    found = [row["estimate"] for row in run.summary["coefficients"]["rows"]]
    np.testing.assert_allclose(found[1:], expected, atol=1e-9)
