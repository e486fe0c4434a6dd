"""Formulas: what statsmodels makes of them, and nothing that is executed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import rlgrad
from rlgrad.cli import main
from rlgrad.errors import SettingError, UsageError
from rlgrad.run import train
from rlgrad.supervised.formulas import LONGEST, parsed

EVAL = "formulaic.materializers.base.stateful_eval"  # how formulaic would execute what stands in a term
FORMULAS = {  # how statsmodels writes it, where it takes no such name
    "survived ~ C(class) + age*sex": "survived ~ C(Q('class')) + age*sex",
    "survived ~ (center(age) + sex + np_log)**2 - center(age):np_log + C(port):sex": None,
    "survived ~ bs(age, df=4) + standardize(np_log) - 1": None,
    "survived ~ log(`fare paid`) + exp(-age / 50) + I(age**2 / 100):sex": (
        "survived ~ np.log(Q('fare paid')) + np.exp(-age / 50) + I(age**2 / 100):sex"
    ),
}


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    rng = np.random.default_rng(0)
    age, fare = rng.gamma(4, 8, 300).round(1), rng.exponential(30, 300).round(2) + 0.1
    sex, port = rng.choice(["female", "male"], 300), rng.integers(1, 4, 300)
    probability = 1 / (1 + np.exp(-(1 - 0.02 * age - 1.2 * (sex == "male") + 0.01 * fare)))
    columns = {"class": rng.integers(1, 4, 300), "age": age, "sex": sex, "port": port, "np_log": np.log(fare).round(3)}
    return pandas.DataFrame({**columns, "fare paid": fare, "survived": (rng.random(300) < probability).astype(int)})


def config(table: pandas.DataFrame, path: Path, formula: str, **more: Any) -> dict[str, Any]:
    table.to_csv(path / "data.csv", index=False)
    told = {"problem": "logistic", "data": str(path / "data.csv"), "formula": formula, "dtype": "float64"}
    return told | {"optimizer": {"name": "Newton"}, "updates": 1, "test_fraction": 0, **more}


@pytest.mark.parametrize("formula", FORMULAS)
def test_coefficients_and_predictions_are_statsmodels_s(
    table: pandas.DataFrame, tmp_path: Path, formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the fit, of their errors, and of rows that it has not seen, one by one."""
    sm = pytest.importorskip("statsmodels.api")
    oracle = sm.Logit.from_formula(FORMULAS[formula] or formula, table[:200]).fit(disp=0, tol=1e-12, maxiter=100)
    monkeypatch.setattr(EVAL, None)
    run = train(config(table[:200], tmp_path, formula, intercept="- 1" not in formula), out=tmp_path / "run")
    rows = {row["name"]: row for row in run.summary["coefficients"]["rows"]}
    names = {our_name(name): name for name in oracle.params.index}
    if "bs" not in formula:  # whose columns are counted from 1
        assert set(rows) == set(names)
        for ours, theirs in names.items():
            assert rows[ours]["estimate"] == pytest.approx(oracle.params[theirs], rel=1e-6)
            assert rows[ours]["error"] == pytest.approx(oracle.bse[theirs], rel=1e-6)
    assert run.summary["coefficients"]["log-likelihood"] == pytest.approx(oracle.llf, rel=1e-9)
    model, inside = (
        rlgrad.load(run.directory),
        table[200:][table[200:]["age"].between(table["age"][:200].min(), table["age"][:200].max())],
    )
    answers = np.concatenate([model.predict_proba(inside[k : k + 1]) for k in range(9)])[:, 1]
    monkeypatch.undo()
    assert np.allclose(answers, oracle.predict(inside[:9]), rtol=1e-6)


def our_name(theirs: str) -> str:
    name = theirs.replace("Q('class')", "class").replace("Q('fare paid')", "fare paid").replace("np.", "")
    return "intercept" if name == "Intercept" else name


HOSTILE = [
    "{__import__('os').system('touch owned')}",
    "y ~ {x + 1}",
    "__import__('os')",
    "y ~ exec(x)",
    "y ~ eval(x)",
    "y ~ np.log(x)",
    "y ~ C(x).__class__",
    "y ~ log.__globals__(x)",
    "y ~ I(log.x(x))",
    "y ~ I((log)(x))",
    "y ~ log(x)(x)",
    "y ~ x[0]",
    "y ~ I(x[0])",
    "y ~ [x ~ z]",
    "y ~ I(lambda: x)",
    "y ~ I([x for x in x])",
    "y ~ I(x if x else x)",
    "y ~ I(x := 1)",
    "y ~ I(f'{x}')",
    "y ~ I(9**9**9)",
    "y ~ I(x**x)",
    "y ~ I(x**1000)",
    "y ~ poly(x, 10**9)",
    "y ~ poly(x, 1000000)",
    "y ~ bs(x, knots=x)",
    "y ~ bs(x, df=True)",
    "y ~ C(x, y)",
    "y ~ C(log(x))",
    "y ~ log(C(x))",
    "y ~ I(poly(x, 2))",
    "y ~ `log`(x)",
    "y ~ x %in% z",
    "y ~ x | z",
    "y ~ x @ z",
    "y ~ x; import os",
    "y ~ x\\",
    "y ~ .",
    "y ~ 'x'",
    "y ~ x ~ z",
    "log(y) ~ x",
    "y + z ~ x",
    "y ~ y",
    "y ~ 1",
    "y ~",
    "",
    "y ~ C(x) + x",
    "y ~ I(" + "-" * 900 + "x)",
    "y ~ " + "x+" * LONGEST + "x",
    "y ~ (((x",
    "y ~ (x+z+w)**20",
    "y ~ " + "*".join(f"x{k}" for k in range(60)),
    "y ~ " + "(" * 9 + "x+z" + ")**9" * 9,
    "y ~ " + "/".join(f"(x{k}+z{k})" for k in range(20)),
    "y ~ " + ":".join(f"(x{k}+z{k})" for k in range(20)),
]  # fmt: skip


@pytest.mark.parametrize("formula", HOSTILE)
def test_what_is_not_on_the_list_is_refused_in_one_line(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVAL, None)
    with pytest.raises(SettingError) as refused:
        parsed(formula)
    assert refused.value.path == ("formula",)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("formula", "more", "said"),
    [
        ("survived ~ agee", {}, "no column 'agee'"),
        ("survived ~ age.__class__", {}, "no column 'age.__class__'"),
        ("survived ~ __builtins__", {}, "no column '__builtins__'"),
        ("survived ~ np", {}, "no column 'np'"),
        ("survived ~ log(sex)", {}, "log(sex): these are words, not numbers"),
        ("survived ~ poly(port, 3)", {}, "poly(port, 3): 3 different values have no polynomial of that degree"),
        ("survived ~ log(age - 30)", {}, "log(age - 30) is not finite for some rows"),
        ("survived ~ age - 1", {}, "the formula has none: set intercept: false"),
        ("survived ~ age", {"intercept": False}, "the formula has one"),
        ("survived ~ age", {"columns": ["sex"]}, "columns: the formula already gives it"),
        ("survived ~ age", {"label": "sex"}, "label: the formula already gives it"),
        ("age + survived", {"label": "survived"}, "column 7 (survived) is the label"),
        ("age", {"data": "iris"}, "it is only for data from a file"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(
    table: pandas.DataFrame, tmp_path: Path, formula: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=r"(?s).*") as refused:
        train(config(table[:50], tmp_path, formula, **more), out=tmp_path / "run")
    assert said in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_category_that_the_training_part_does_not_have(table: pandas.DataFrame, tmp_path: Path) -> None:
    other = table[:3].assign(**{"class": [1, 9, 2]})
    for policy in ("error", "drop", "median_and_indicator"):
        given = config(table, tmp_path, "survived ~ C(class)*center(age)", missing_values=policy)
        model = rlgrad.load(train(given, out=tmp_path / policy).directory)
        if policy == "error":
            with pytest.raises(ValueError, match=r"class.*no example of the training part has '9'"):
                model.predict_proba(other)
        else:
            known = np.isfinite(model.predict_proba(other)[:, 1])
            assert known.tolist() == [True, policy != "drop", True]


def test_what_is_measured_is_measured_on_the_training_part(table: pandas.DataFrame, tmp_path: Path) -> None:
    settings = config(table, tmp_path, "survived ~ poly(age, 2) + center(np_log)", test_fraction=0.5)
    learned = rlgrad.load(train(settings, out=tmp_path / "run").directory).preprocessing.learned
    from sklearn.model_selection import train_test_split

    part, _ = train_test_split(table, test_size=0.5, random_state=0, stratify=table["survived"])
    assert learned["center(np_log)"]["center"] == pytest.approx(part["np_log"].mean())
    assert learned["poly(age, 2)"]["alpha"]["0"] == pytest.approx(part["age"].mean())


@pytest.mark.parametrize(
    "change",
    [
        lambda done: done.update(formula="survived ~ __import__('os').system('touch owned')"),
        lambda done: done.update(learned={}),
        lambda done: done.update(learned={"center(age)": {"center": "x", "scale": [], "ddof": {}}}),
        lambda done: done.update(terms=["a", "b"]),
    ],
)
def test_foreign_weights_are_refused_and_nothing_of_them_is_executed(
    table: pandas.DataFrame, tmp_path: Path, change: Callable[[dict[str, Any]], None], capsys, monkeypatch
) -> None:
    run = train(config(table, tmp_path, "survived ~ center(age)"), out=tmp_path / "run").directory
    file = run / "model.safetensors"
    with safe_open(file, "pt") as found:
        tensors, words = {name: found.get_tensor(name) for name in found.keys()}, json.loads(found.metadata()["rlgrad"])  # noqa: SIM118
    change(words["description"]["preprocessing"])
    save_file(tensors, file, {"rlgrad": json.dumps(words)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(EVAL, None)
    assert main(["predict", "run", "data.csv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rlgrad: ")
    assert len(error.splitlines()) == 1
    assert not Path("owned").exists()
