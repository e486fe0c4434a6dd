"""Data from files: what is read, what is done about what is missing, and one line about whatever is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.supervised.data import Dataset

CSV = "age,weight,kind\n1,10,cat\n2,?,dog\n3,30,cat\n4,40,dog\n,50,cat\n6,60,dog\n"


def dataset(path: Path, text: str = CSV, **settings: Any) -> Dataset:
    path.write_text(text)
    config = {"problem": "logistic", "data": str(path), "updates": 1, "optimizer": {"name": "SGD"}}
    given = {"test_fraction": 0, "standardise": False, "dtype": "float64"} | settings
    found: Dataset = load_config(config | given).build().problem.dataset
    return found


def test_a_file_with_and_without_a_header_with_commas_and_with_spaces(tmp_path: Path) -> None:
    rows = "1,10,0\n2,20,1\n3,30,1\n"
    expected = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    for text in (
        rows,
        "a,b,label\n" + rows,
        rows.replace(",", " \t"),
        "\n" + rows.replace("\n", "\r\n"),
        "\ufeff" + rows,
    ):
        found = dataset(tmp_path / "rows.csv", text)
        assert found.x.tolist() == expected
        assert found.y.tolist() == [0, 1, 1]


def test_zero_and_median_with_an_indicator(tmp_path: Path) -> None:
    zero = dataset(tmp_path / "pets.csv", missing_values="zero")
    assert zero.x.tolist() == [[1, 10], [2, 0], [3, 30], [4, 40], [0, 50], [6, 60]]
    assert zero.y.tolist() == [0, 1, 0, 1, 0, 1]
    median = dataset(tmp_path / "pets.csv", missing_values="median_and_indicator")
    assert median.x.tolist() == [
        [1, 10, 0, 0],
        [2, 40, 0, 1],
        [3, 30, 0, 0],
        [4, 40, 0, 0],
        [3, 50, 1, 0],
        [6, 60, 0, 0],
    ]


def test_medians_means_and_deviations_are_those_of_the_training_part(tmp_path: Path) -> None:
    other = tmp_path / "test.csv"
    other.write_text("age,weight,kind\n100,?,cat\n?,1000,dog\n")
    found = dataset(
        tmp_path / "pets.csv", test_data=str(other), missing_values="median_and_indicator", standardise=True
    )
    x = np.array([[1, 10, 0, 0], [2, 40, 0, 1], [3, 30, 0, 0], [4, 40, 0, 0], [3, 50, 1, 0], [6, 60, 0, 0]])
    held_out = np.array([[100, 40, 0, 1], [3, 1000, 1, 0]])
    np.testing.assert_allclose(found.x.numpy(), (x - x.mean(0)) / x.std(0), atol=1e-12)
    np.testing.assert_allclose(found.test_x.numpy(), (held_out - x.mean(0)) / x.std(0), atol=1e-12)
    assert found.test_y.tolist() == [0, 1]


def test_columns_and_labels_by_name_and_by_number(tmp_path: Path) -> None:
    text = "kind,a,b,c\n2,1,5,9\n1,2,6,8\n3,3,7,7\n"
    found = dataset(tmp_path / "t.csv", text, label="kind", columns=["c", 2])
    assert found.x.tolist() == [[9, 1], [8, 2], [7, 3]]
    assert found.y.tolist() == [1, 0, 2]
    assert found.y.dtype == torch.long
    assert dataset(tmp_path / "t.csv", text, label=1, columns=["2-4"], positive=3).y.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, (), "no such file; did you mean pets.csv?"),
        ("", (), "there are no rows"),
        ("1,2,0\n1,1\n", (), "pets.csv:2: 2 cells, where line 1 has 3"),
        ("a,b,label\n1,2,0\n1,1,1,1\n", (), "pets.csv:3: 4 cells, where the header has 3"),
        ("1,2,0\n1,blue,1\n", (), "pets.csv:2: column 2: 'blue' is not a finite number"),
        ("1,2,0\n1,1e999,1\n", (), "pets.csv:2: column 2: '1e999' is not a finite number"),
        (CSV, (), "pets.csv:3: column 2 (weight): the value is missing; `missing_values` can be drop, zero or"),
        (CSV, ("--label", "kin"), "has no column 'kin'; did you mean kind?"),
        (CSV, ("--label", "9"), "has the columns 1 to 3, and no 9"),
        (CSV, ("--columns", "age", "kind"), "column 3 (kind) is the label"),
        (CSV, ("--positive", "god", "--missing_values", "zero"), "no example has the label 'god'; valid: cat, dog"),
        ("1,0\n2,0\n", (), "all labels are '0'"),
        ("1,0.5\n2,0\n", (), "pets.csv:1: column 2: the label 0.5 names no class"),
        ("a,label\n?,0\n?,1\n", ("--missing_values", "median_and_indicator"), "no column to learn from has a value"),
        ("1,0\n2,0\n3,1\n", ("--test_fraction", "0.5"), "only one row has the label 1, so none of it can be held out"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str | None, arguments: tuple[str, ...], message: str
) -> None:
    config, data = tmp_path / "mine.yaml", tmp_path / "pets.csv"
    config.write_text("problem: logistic\nupdates: 1\noptimizer: {name: SGD}\ntest_fraction: 0\n")
    data.write_text(CSV if text is None else text)
    name = data if text is not None else tmp_path / "pest.csv"
    assert (
        main(["train", "--config", str(config), "--out", str(tmp_path / "run"), "--data", str(name), *arguments]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_openml_s_iris_is_scikit_learn_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From scikit-learn's cache, filled with the answers of OpenML that it carries for its own tests."""
    import sklearn.datasets

    answers = Path(sklearn.datasets.__file__).parent / "tests" / "data" / "openml" / "id_61"
    cached = {
        "api-v1-jd-61.json.gz": "api/v1/json/data/61",
        "api-v1-jdf-61.json.gz": "api/v1/json/data/features/61",
        "api-v1-jdq-61.json.gz": "api/v1/json/data/qualities/61",
        "data-v1-dl-61.arff.gz": "data/v1/download/61/iris.arff",
    }
    if not answers.is_dir():
        pytest.skip("this scikit-learn carries none")
    for name, path in cached.items():
        place = tmp_path / "openml" / "openml.org" / f"{path}.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((answers / name).read_bytes())
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    settings = {"problem": "logistic", "data": "openml:61", "updates": 1, "optimizer": {"name": "SGD"}}
    found = load_config(settings | {"test_fraction": 0, "standardise": False}).build().problem.dataset
    x, y = sklearn.datasets.load_iris(return_X_y=True)
    assert torch.equal(found.y, torch.tensor(y))
    np.testing.assert_allclose(found.x.numpy(), x, atol=0.51)  # scikit-learn's differ in two rows, as its notes say
    assert int((np.abs(found.x.numpy() - x) > 1e-6).any(1).sum()) <= 2


def test_what_is_held_out_is_scikit_learn_s_split_with_that_seed(tmp_path: Path) -> None:
    from sklearn.model_selection import train_test_split

    rows = [(number, number % 2) for number in range(40)]
    text = "\n".join(f"{x},{y}" for x, y in rows)
    x, y = np.array(rows).T
    for seed in (0, 1, 7):
        found = dataset(tmp_path / "rows.csv", text, test_fraction=0.25, split_seed=seed)
        train, test, *_ = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
        assert found.x[:, 0].tolist() == train.tolist()
        assert found.test_x[:, 0].tolist() == test.tolist()


def test_the_columns_of_a_test_file_are_those_of_the_data(tmp_path: Path) -> None:
    data, other = "a,b,kind\n1,2,0\n3,4,1\n", tmp_path / "test.csv"
    for text, fits in (
        ("a,b,kind\n5,6,0\n", True),
        ("5,6,0\n", True),  # without a header
        ("b,a,kind\n6,5,0\n", True),
        ("more,a,b,kind\n7,5,6,0\n", True),
        ("a,c,kind\n5,6,0\n", False),
        ("a,kind\n5,0\n", False),
    ):
        other.write_text(text)
        if fits:
            assert dataset(tmp_path / "data.csv", data, test_data=str(other)).test_x.tolist() == [[5, 6]]
        else:
            with pytest.raises(UsageError, match="has no column 'b'"):
                dataset(tmp_path / "data.csv", data, test_data=str(other))


def test_columns_are_counted_from_1(tmp_path: Path) -> None:
    text = "1,20,0\n2,30,1\n"
    assert dataset(tmp_path / "rows.csv", text, columns=[1]).x.tolist() == [[1], [2]]
    assert dataset(tmp_path / "rows.csv", text, columns=["1-2"]).x.tolist() == [[1, 20], [2, 30]]
    for wrong in (0, -1, 4):
        with pytest.raises(UsageError, match=f"columns 1 to 3, and no {wrong}"):
            dataset(tmp_path / "rows.csv", text, columns=[wrong])


def test_a_name_of_two_columns_is_refused_and_their_numbers_are_not(tmp_path: Path) -> None:
    text = "a,a,kind\n1,20,0\n2,30,1\n"
    with pytest.raises(UsageError, match="several columns 'a'; use the number"):
        dataset(tmp_path / "rows.csv", text, columns=["a"])
    assert dataset(tmp_path / "rows.csv", text, columns=[2]).x.tolist() == [[20], [30]]


def test_blanks_around_cells_do_not_count(tmp_path: Path) -> None:
    found = dataset(
        tmp_path / "rows.csv", " a , b , kind \n 1 , 2 , cat\n 3 ,4, dog \n5,6,cat\n", label="kind", columns=["b"]
    )
    assert found.x.tolist() == [[2], [4], [6]]
    assert found.y.tolist() == [0, 1, 0]


@pytest.mark.parametrize("cell", ["1_000", "inf", "-inf", "0x10"])
def test_what_only_python_or_nobody_takes_for_a_number_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(UsageError, match="not a finite number"):
        dataset(tmp_path / "rows.csv", f"1,0\n{cell},1\n3,0\n")
