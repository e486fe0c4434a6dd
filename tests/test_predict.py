"""What a run has learned of a table, asked of other tables: files and data frames."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
import safetensors.torch

import rlgrad
from rlgrad.cli import main
from rlgrad.run import weights

ROWS = pandas.DataFrame(
    {
        "city": ["Rom", "Bern", "Oslo", "Bern"] * 10,
        "age": np.random.default_rng(0).normal(40, 10, 40).round(2),
        "smokes": [True, False, False] * 13 + [True],
        "ill": ["yes", "no", "no", "yes", "no"] * 8,
    }
)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return trained(tmp_path)


def trained(tmp_path: Path, **settings: Any) -> str:
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    config = {"problem": "logistic", "data": str(tmp_path / "rows.csv"), "test_fraction": 0, "updates": 3, "l2": 0.1}
    rlgrad.train(config | {"optimizer": {"name": "Newton"}} | settings, out=tmp_path / "run")
    return str(tmp_path / "run")


def by_hand(run: str, rows: pandas.DataFrame) -> np.ndarray:
    """The probability of yes, from the weights."""
    model = rlgrad.load(run)
    x = np.column_stack([rows.city == "Oslo", rows.city == "Rom", rows.age, rows.smokes]).astype(float)
    seen = np.column_stack([ROWS.city == "Oslo", ROWS.city == "Rom", ROWS.age, ROWS.smokes]).astype(float)
    linear = model.model.linear
    z = (x - seen.mean(0)) / seen.std(0) @ linear.weight[0, :, 0].numpy() + linear.bias[0, 0, 0].item()
    return 1 / (1 + np.exp(-z))


def test_a_table_is_asked_for_from_any_library_and_its_columns_stand_in_any_order(run: str) -> None:
    model, rows = rlgrad.load(run), ROWS[["ill", "smokes", "age", "city"]]
    assert model.preprocessing.columns == ["city=Oslo", "city=Rom", "age", "smokes"]
    expected = by_hand(run, ROWS)
    for table in (
        rows,
        rows.astype({"city": "category"}),
        polars.from_pandas(rows),
        polars.from_pandas(rows).with_columns(polars.col("city").cast(polars.Categorical)),
        rows.assign(age=[Decimal(str(age)) for age in rows.age]),
        pa.Table.from_pandas(rows),
        rows[["city", "age", "smokes"]].to_numpy(),
    ):
        np.testing.assert_allclose(model.predict_proba(table)[:, 1], expected, atol=1e-6)
    assert model.predict(rows).tolist() == np.where(expected > 0.5, "yes", "no").tolist()
    assert model.predict_proba(rows[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"city": "Paris"}, r"row 1: column 1 \(city\): no example of the training part has 'Paris'"),
        ({"age": np.nan}, r"row 1: column 2 \(age\): the value is missing"),
        ({"age": np.inf}, r"column 2 \(age\): 'inf' is not a finite number"),
        ({"age": "old"}, r"column 2 \(age\): 'old' is not a finite number"),
        ({"age": pandas.Timestamp("2020-01-02")}, "is a date or a time"),
        ({"age": pandas.Timedelta(days=1)}, "column age: duration.* is neither numbers nor words"),
        ({"age": pandas.period_range("2020", periods=40, freq="M")}, "column age: extension.* is neither numbers"),
        ({"age": pandas.cut(ROWS.age, 3)}, "column age: .* is neither numbers nor words"),
        ({"age": 1 + 2j}, "this is not a table of numbers and words: .* column age"),
    ],
)
def test_what_cannot_be_asked_is_refused(run: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rlgrad.load(run).predict_proba(ROWS.assign(**change))


def test_a_hint_at_a_setting_says_that_it_is_the_run_s(run: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (table := tmp_path / "new.csv").write_text(ROWS.assign(age="old").to_csv(index=False))
    assert main(["predict", run, str(table), "--out", str(tmp_path / "found.csv")]) == 2
    assert "takes it as a word; these are settings of the run: train again to change one" in capsys.readouterr().err
    assert not [*tmp_path.glob("found*")]


def test_predictions_do_not_replace_the_table(run: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (table := tmp_path / "new.csv").write_text(text := ROWS.to_csv(index=False))
    assert main(["predict", run, str(table), "--out", str(tmp_path / "." / "new.csv")]) == 2
    assert f"--out {tmp_path / 'new.csv'} is the table itself" in capsys.readouterr().err
    assert table.read_text() == text
    assert main(["predict", run, str(table), "--out", ""]) == 2
    assert "--out: it needs the name of a file" in capsys.readouterr().err


def test_predictions_leave_all_other_files_alone(run: str, tmp_path: Path) -> None:
    folder, known = tmp_path / "mine", {"z.csv.tmp": "mine", ".z.csv.tmp": "mine too"}
    folder.mkdir()
    for name, text in known.items():
        (folder / name).write_text(text)
    ROWS.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", run, str(tmp_path / "new.csv"), "--out", str(folder / "z.csv")]) == 0
    assert len(pandas.read_csv(folder / "z.csv")) == len(ROWS)
    (folder / "z.csv").unlink()
    assert {path.name: path.read_text() for path in folder.iterdir()} == known


def test_masked_values_are_missing(run: str) -> None:
    model = rlgrad.load(run)
    values = ROWS[model.features].to_numpy(object)[:2]
    there = np.ma.masked_array(values, mask=False)
    np.testing.assert_array_equal(model.predict_proba(there), model.predict_proba(values))
    there.mask = [[False] * 3, [False, True, False]]
    with pytest.raises(ValueError, match=r"row 2: column 2 .*: the value is missing"):
        model.predict_proba(there)


def test_a_column_that_is_missing_is_named_with_one_that_is_alike(run: str) -> None:
    with pytest.raises(ValueError, match=r"the training data has: age; did you mean Age\?"):
        rlgrad.load(run).predict_proba(ROWS.rename(columns={"age": "Age"}))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_predicted_piece_by_piece(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    rows = pandas.concat([ROWS] * 2000, ignore_index=True)  # several blocks
    rows.insert(0, "id", range(len(rows)))
    rows.loc[len(rows) - 1, "age"] = 1040.25
    source, to = tmp_path / f"new.{suffix}", tmp_path / f"found.{suffix}"
    if suffix == "csv":
        text = rows[["id", "smokes", "age", "city"]].to_csv(index=False).splitlines()
        cells = text[-1].split(",")
        text[-1] = ",".join([*cells[:2], '"1,040.25"', cells[3]])  # no number as pyarrow reads them
        source.write_text("\n".join(text))
    else:
        rows.to_parquet(source, row_group_size=1000)
    assert main(["predict", run, str(source), "--out", str(to)]) == 0
    found = pandas.read_csv(to) if suffix == "csv" else pandas.read_parquet(to)
    assert list(found.columns) == ["class", "probability of no", "probability of yes"]
    np.testing.assert_allclose(found["probability of yes"], by_hand(run, rows), atol=1e-6)
    assert (found["class"] == np.where(found["probability of yes"] > 0.5, "yes", "no")).all()
    said = capsys.readouterr()
    assert said.err.startswith("not used: id")
    assert f"({len(rows):,} rows)" in said.out


def test_where_a_row_is_refused_nothing_is_left(run: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows, to = pandas.concat([ROWS] * 2000), tmp_path / "found.csv"
    rows.iloc[-1, 0] = "Paris"
    rows.to_csv(tmp_path / "new.csv", index=False)
    to.write_text("before\n")
    assert main(["predict", run, str(tmp_path / "new.csv"), "--out", str(to)]) == 2
    assert f"new.csv:{len(rows) + 1}: column 1 (city): no example" in capsys.readouterr().err
    assert to.read_text() == "before\n"
    assert not [*tmp_path.glob("*.tmp"), *tmp_path.glob(".*")]
    assert main(["predict", run, str(tmp_path / "new.csv"), "--out", "found.txt"]) == 2
    assert main(["predict", run, str(tmp_path / "none.csv"), "--out", str(to)]) == 2


def test_rows_that_the_run_would_have_dropped_have_no_prediction(tmp_path: Path) -> None:
    run = trained(tmp_path, missing_values="drop")
    rows = ROWS[:4].assign(age=[1.0, np.nan, 2.0, 3.0], city=["Rom", "Rom", "Paris", "Bern"])
    model = rlgrad.load(run)
    assert np.isnan(model.predict_proba(rows)).any(1).tolist() == [False, True, True, False]
    assert [label is None for label in model.predict(rows)] == [False, True, True, False]
    assert model.predict(rows[::3]).tolist() == model.predict(rows)[::3].tolist()
    rows.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", run, str(tmp_path / "new.csv"), "--out", str(tmp_path / "found.csv")]) == 0
    assert pandas.read_csv(tmp_path / "found.csv")["class"].isna().tolist() == [False, True, True, False]


@pytest.mark.parametrize("missing_values", ["error", "zero"])
@pytest.mark.parametrize(
    ("words", "cells", "said"),
    [
        (["true", "false"], [True, False], {"categorical": ["c"]}),
        (["true", "false"], [True, False], {"formula": "y ~ C(c)"}),
        (["TRUE", "False", "unknown"], ["true", "false", "unknown"], {"categorical": ["c"]}),
        (["0.10", "0.20", "1.50"], [0.1, 0.2, 1.5], {"categorical": ["c"]}),
        (["0,10", "0,20", "1,50"], [0.1, 0.2, 1.5], {"categorical": ["c"]}),
        (["001", "1", "01.5"], ["001", "1", "01.5"], {"categorical": ["c"]}),
    ],
)
def test_a_category_is_looked_up_by_what_it_means(
    tmp_path: Path, words: list[str], cells: list[Any], said: dict[str, Any], missing_values: str
) -> None:
    counts = [(4, 6), (8, 2), (1, 3)][: len(words)]  # of labels 0 and 1
    rows = [f"{word};{y}" for word, n in zip(words, counts, strict=True) for y in (0, 1) for _ in range(n[y])]
    (table := tmp_path / "t.csv").write_text("\n".join(["c;y", *rows, ""]))
    config = {"problem": "logistic", "data": str(table), "test_fraction": 0, "updates": 30, "dtype": "float64"}
    config |= {"optimizer": {"name": "Newton"}, "missing_values": missing_values}
    rlgrad.train(config | said, out=tmp_path / "run")
    model, expected = rlgrad.load(tmp_path / "run"), [ones / (zeros + ones) for zeros, ones in counts]
    assert sorted(model.preprocessing.categories["c"]) == sorted(words)  # as in the file
    for frame in (pandas.DataFrame({"c": cells}), polars.DataFrame({"c": cells}), pandas.DataFrame({"c": words})):
        np.testing.assert_allclose(model.predict_proba(frame)[:, 1], expected, atol=1e-6)
    pandas.DataFrame({"c": cells}).to_csv(tmp_path / "other.csv")
    for file, times in ((table, [sum(n) for n in counts]), (tmp_path / "other.csv", 1)):
        assert main(["predict", str(tmp_path / "run"), str(file), "--out", str(tmp_path / "p.csv")]) == 0
        found = pandas.read_csv(tmp_path / "p.csv")["probability of 1"]
        np.testing.assert_allclose(found, np.repeat(expected, times), atol=1e-6)


@pytest.mark.parametrize(
    ("trained_on", "asked", "a", "said"),
    [
        (",", "a\n1.234\n2.900\n", [1234, 2900], ""),
        (",", 'a\n"1,234"\n"2,900"\n', [1.234, 2.9], ""),
        (",", "a;b\n1,234;x\n7;x\n", [1.234, 7], ""),
        (",", "a\n1.234\n2.5\n", [1.234, 2.5], "decimal points, and the training data has decimal commas"),
        (",", "b,a\nx,1.234\nx,2.900\n", [1.234, 2.9], "decimal points, and the training data has decimal commas"),
        (",", "a\n" + "7\n" * 200 + "1.5\n", [7] * 200 + [1.5], "decimal points, and the training"),
        (".", "a;b\n1,234;x\n7;x\n", [1234, 7], ""),
        (".", "a;b\n1,234;x\n7,5;x\n", [1.234, 7.5], "decimal commas, and the training data has decimal points"),
    ],
)
def test_the_decimal_sign_is_that_of_training_where_the_table_could_have_either(
    tmp_path: Path, capsys: pytest.CaptureFixture, trained_on: str, asked: str, a: list[float], said: str
) -> None:
    rows = "a;y\n0.5;1\n1.5;2\n2.5;3\n10.25;10.75\n".replace(".", trained_on)  # y = a + 0.5
    (tmp_path / "t.csv").write_text(rows)
    config = {"problem": "logistic", "family": "gaussian", "data": str(tmp_path / "t.csv"), "test_fraction": 0}
    config |= {"optimizer": {"name": "Newton"}, "updates": 3, "dtype": "float64"}
    rlgrad.train(config, out=tmp_path / "run")
    capsys.readouterr()
    (tmp_path / "new.csv").write_text(asked)
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert pandas.read_csv(tmp_path / "p.csv")["mean"].tolist() == pytest.approx(np.array(a) + 0.5)
    printed = capsys.readouterr().err
    assert said in printed if said else "decimal" not in printed
    frame = pandas.read_csv(tmp_path / "new.csv", sep=";" if ";" in asked else ",", dtype=str)
    if "b,a" not in asked and len(frame) < 100:
        assert rlgrad.load(tmp_path / "run").predict(frame).tolist() == pytest.approx(np.array(a) + 0.5)


def test_a_run_that_has_not_saved_its_decimal_sign_is_used_as_before(tmp_path: Path) -> None:
    path = weights.where(Path(trained(tmp_path, replicas=2)))
    found = weights.read(path)
    assert found.description is not None
    assert found.description["preprocessing"].pop("decimal") == "."
    said = {"update": found.update, "sha256": weights.digest(found.tensors), "description": found.description}
    path.write_bytes(safetensors.torch.save(found.tensors, {weights.WORDS: json.dumps(said)}))
    model = rlgrad.load(tmp_path / "run")
    np.testing.assert_allclose(model.predict_proba(ROWS)[:, 1], by_hand(str(tmp_path / "run"), ROWS), atol=1e-6)


def test_a_number_is_predicted_where_there_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,2.5\n2,4.5\n3,6.5\n4,8.5\n")
    config = {"problem": "logistic", "family": "gaussian", "data": str(tmp_path / "t.csv"), "test_fraction": 0}
    rlgrad.train(config | {"optimizer": {"name": "Newton"}, "updates": 3}, out=tmp_path / "run")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    assert pandas.read_csv(tmp_path / "p.csv")["mean"].tolist() == pytest.approx([2.5, 4.5, 6.5, 8.5], abs=1e-4)
