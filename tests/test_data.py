"""Data from files: what is read, what is done about what is missing, and one line about whatever is wrong."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.supervised import tables
from rlgrad.supervised.data import Dataset
from rlgrad.supervised.dialects import number
from rlgrad.supervised.preprocessing import Preprocessing

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


def test_a_number_may_have_blanks_around_it() -> None:
    assert [number(" 1,303.5 "), number("\t2,5 ", ","), number(" 1 2")] == [1303.5, 2.5, None]


def test_each_row_keeps_its_weight_whatever_its_place_after_the_split(tmp_path: Path) -> None:
    text = "x,w,y\n" + "".join(f"{k},{k + 0.5},{k % 2}\n" for k in range(20))
    found = dataset(tmp_path / "t.csv", text, weight="w", label="y", test_fraction=0.3, validation_fraction=0.2)
    assert len(found.x) < 14
    assert found.sample_weight is not None
    assert found.sample_weight.tolist() == [x + 0.5 for x in found.x[:, 0].tolist()]


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
        ("1,2,0\n1,1\n", (), "pets.csv:2: 2 cells, but line 1 has 3"),
        ("a,b,label\n1,2,0\n1,1,1,1\n", (), "pets.csv:3: 4 cells, but the header has 3"),
        ("1,2,0\n1,blue,1\n", (), "pets.csv:2: column 2: 'blue' is not a finite number"),
        ("1,2,0\n1,1e999,1\n", (), "pets.csv:2: column 2: '1e999' is not a finite number"),
        (CSV, (), "pets.csv:3: column 2 (weight): the value is missing; `missing_values` can be drop, zero or"),
        (CSV, ("--label", "kin"), "has no column 'kin'; did you mean kind?"),
        (CSV, ("--label", "9"), "has the columns 1 to 3, and no 9"),
        (CSV, ("--columns", "age", "kind"), "column 3 (kind) is the label"),
        (CSV, ("--positive", "god", "--missing_values", "zero"), "no example has the label 'god'; valid: cat, dog"),
        ("1,0\n2,0\n", (), "all labels are '0'"),
        ("1,0.5\n2,0\n", (), "pets.csv:1: column 2: the label 0.5 is not a class"),
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
            with pytest.raises(UsageError, match="lacks columns that the training data has: b"):
                dataset(tmp_path / "data.csv", data, test_data=str(other))


def test_columns_are_counted_from_1(tmp_path: Path) -> None:
    text = "1,20,0\n2,30,1\n"
    assert dataset(tmp_path / "rows.csv", text, columns=[1]).x.tolist() == [[1], [2]]
    assert dataset(tmp_path / "rows.csv", text, columns=["1-2"]).x.tolist() == [[1, 20], [2, 30]]
    assert dataset(tmp_path / "rows.csv", text, columns=[2, "1-2"]).x.tolist() == [[20, 1], [30, 2]]
    for wrong in (0, -1, 4):
        with pytest.raises(UsageError, match=f"columns 1 to 3, and no {wrong}"):
            dataset(tmp_path / "rows.csv", text, columns=[wrong])


def test_the_label_is_the_last_column_that_is_not_dropped(tmp_path: Path) -> None:
    text = "a,b,y,site\n1,5,0,7\n2,6,1,8\n3,5,1,7\n"
    for drop in (["site"], [4], ["4-4"]):
        found = dataset(tmp_path / "t.csv", text, drop=drop)
        assert found.x.tolist() == [[1, 5], [2, 6], [3, 5]]
        assert found.y.tolist() == [0, 1, 1]
    found = dataset(tmp_path / "t.csv", text, drop=["3-4"])
    assert found.x.tolist() == [[1], [2], [3]]
    assert found.labels == [5, 6]


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


ROWS = [[0.5, 2.5], [1.5, -3.0], [-0.25, 4.0], [1250.0, 0.75]]
WORDS = ["yes", "no", "no", "yes"]


def written(
    separator: str = ",", decimal: str = ".", header: str = "age{0}dose{0}ill\n", end: str = "{label}\n"
) -> str:
    lines = [
        separator.join([*(str(value).replace(".", decimal) for value in row), end.format(label=label)])
        for row, label in zip(ROWS, WORDS, strict=True)
    ]
    return header.format(separator) + "".join(lines)


QUOTED = '"age" "dose" "ill"\n' + "".join(
    f'"{k}" {x} {y} "{word}"\n' for k, ((x, y), word) in enumerate(zip(ROWS, WORDS, strict=True))
)
FORMS = {
    "semicolons": (written(";"), "semicolons, header"),
    "semicolons, decimal commas": (written(";", ","), "semicolons, decimal commas, header"),
    "tabs, decimal commas, no header": (written("\t", ",", ""), "tabs, decimal commas, no header"),
    "bars": (written("|"), "bars, header"),
    "blanks": (written("   "), "blanks, header"),
    "a separator behind the last cell": (
        written(header="age,dose,ill,\n", end="{label},\n"),
        "commas, header",
    ),
    "the same in the rows alone": (written(end="{label},\n"), "commas, header"),
    "comments first": ("# of 2024\n#\n" + written(), "commas, header"),
    "Excel's hint": ("sep=;\n" + written(";"), "semicolons, header"),
    "Excel's hint in quotes, and it decides": ('"SEP=^"\r\n' + written("^"), "'^', header"),
    "a mark of the byte order": ("\ufeff" + written().replace("\n", "\r\n"), "commas, header"),
    "R's row names": (QUOTED, "blanks, header"),
    "pandas' row numbers": (
        "".join(f"{k - 1 if k else ''},{line}\n" for k, line in enumerate(written().splitlines())),
        "commas, header",
    ),
    "blanks before quotes": (written(", ", end='"{label}"\n'), "commas, header"),
    "thousands": (written(";").replace("1250.0", "1,250.0"), "semicolons, header"),
    "thousands the other way": (written(";", ",").replace("1250,0", "1.250,0"), "semicolons, decimal commas, header"),
    "a next line that ends none": (written().replace("yes", "y\u0085es").replace("no", "n\u0085o"), "commas, header"),
    "a line break in quotes": (written().replace("yes", '"y\nes"'), "commas, header"),
    "signs": (written().replace("0.5,", "+.5 ,"), "commas, header"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, form: str) -> None:
    text, words = FORMS[form]
    found = dataset(tmp_path / "t.csv", text)
    np.testing.assert_array_equal(found.x.numpy(), ROWS)
    assert found.y.tolist() == [1, 0, 0, 1]
    assert found.facts["data"].startswith(words + "; ")
    assert found.preprocessing.features == (["column 1", "column 2"] if "no header" in words else ["age", "dose"])


@pytest.mark.parametrize(
    ("text", "settings", "x"),
    [
        ("a;y\n1,303;u\n2,404;v\n", {"decimal": ","}, [1.303, 2.404]),
        ("a;y\n1,303;u\n2,404;v\n", {"decimal": "."}, [1303, 2404]),
        ("a;y\n1,5E+03;u\n2,5e-2;v\n", {}, [1500, 0.025]),
    ],
)
def test_of_two_separators_the_one_in_the_header(
    tmp_path: Path, text: str, settings: dict[str, Any], x: list[float]
) -> None:
    assert dataset(tmp_path / "t.csv", text, **settings).x[:, 0].tolist() == x


@pytest.mark.parametrize("told", [None, "UTF8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path, told: str | None) -> None:
    (tmp_path / "t.csv").write_bytes(written().encode("utf-8-sig" if not told or "8" in told else told))
    for encoding in {None, told}:
        settings = {"problem": "logistic", "data": str(tmp_path / "t.csv"), "updates": 1, "encoding": encoding}
        built = load_config(settings | {"optimizer": {"name": "SGD"}, "test_fraction": 0}).build()
        assert built.problem.dataset.preprocessing.features == ["age", "dose"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.bz2", "t.parquet", "latin.csv", "sixteen.csv"])
def test_a_table_is_read_from_any_file(tmp_path: Path, name: str) -> None:
    import bz2
    import gzip

    import pandas

    path, text = tmp_path / name, written(header="âge{0}dose{0}ill\n")
    if name == "t.parquet":
        frame = pandas.DataFrame(ROWS, columns=["âge", "dose"]).assign(ill=WORDS)
        frame.to_parquet(path, index=False)
    else:
        write = {"gz": gzip.compress, "bz2": bz2.compress}.get(path.suffix[1:], bytes)
        encoding = {"latin.csv": "latin-1", "sixteen.csv": "utf-16"}.get(name, "utf-8")
        path.write_bytes(write(text.encode(encoding)))
    settings = {"problem": "logistic", "data": str(path), "updates": 1, "optimizer": {"name": "SGD"}}
    built = load_config(settings | {"test_fraction": 0, "standardise": False}).build()
    found: Dataset = built.problem.dataset
    np.testing.assert_array_equal(found.x.numpy(), ROWS)
    assert found.preprocessing.features == ["âge", "dose"]
    assert found.labels == ["no", "yes"]


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("a,b,y", True),
        ("0,1,2", True),  # pandas', where columns have no names
        ("1,2,y", True),
        ("1990,1991,y", True),
        ("1990,1991,1992", True),
        ("1990,1995,bird", False),
        ("9,10,bird", False),
        ("?,?,cat", False),
        ("NA,4,dog", False),
        ("7,8,bird", False),
        ("what,0.5,cat", False),  # and is then refused, but not lost
    ],
)
def test_the_first_row_is_a_header_or_an_example(tmp_path: Path, first: str, header: bool) -> None:
    text = first + "\n" + "1.5,2,cat\n3,4,dog\n5,6,cat\n7,8,bird\n"
    if "what" in first:
        with pytest.raises(UsageError, match=r"t\.csv:1: column 1: 'what' is not a finite number"):
            dataset(tmp_path / "t.csv", text, missing_values="zero")
    else:
        found = dataset(tmp_path / "t.csv", text, missing_values="zero")
        assert len(found.y) == 5 - header
        assert ("no header" in found.facts["data"]) != header
    assert len(dataset(tmp_path / "t.csv", text, header=True, missing_values="zero").y) == 4


@pytest.mark.parametrize(
    ("words", "settings", "labels", "y"),
    [
        (["1", "01", "001"], {}, ["001", "01", "1"], [2, 1, 0]),
        (["1.0", "0.0", "1"], {}, [0, 1], [1, 0, 1]),
        (["1.000e+00", "0.000e+00", "1.0"], {}, [0, 1], [1, 0, 1]),
        (["90071992547409920", "90071992547409927", "90071992547409934"], {}, None, [0, 1, 2]),
        (["123456789012345678901", "123456789012345678902", "1"], {}, None, [1, 2, 0]),
        (["200", "-7", "10"], {}, [-7, 10, 200], [2, 0, 1]),
        (["Yes", "yes", "no"], {}, ["Yes", "no", "yes"], [0, 2, 1]),
        (["True", "False", "True"], {"positive": True}, ["False", "True"], [1, 0, 1]),
        (["TRUE", "FALSE", "TRUE"], {"positive": False}, ["TRUE", "FALSE"], [0, 1, 0]),
        (["no", "yes", "yes"], {"positive": "no"}, ["yes", "no"], [1, 0, 0]),
        (["a", "b", "c"], {"positive": "b"}, ["not b", "b"], [0, 1, 0]),
        (["1,0", "0,0", "1"], {"separator": "semicolon"}, [0, 1], [1, 0, 1]),
        (["-0", "0", "1"], {}, [0, 1], [0, 0, 1]),
        (["NA", "none", "NA"], {"not_missing": ["NA", "none"]}, ["NA", "none"], [0, 1, 0]),
        (["NA", "x", "NA"], {"positive": "NA"}, ["x", "NA"], [1, 0, 1]),
        (["x", "none", "z"], {"missing_values": "drop"}, ["x", "z"], [0, 1]),
        (["x", "-999.0", "z"], {"missing_values": "drop", "missing": [-999]}, ["x", "z"], [0, 1]),
    ],
)
def test_labels_stay_what_they_are_in_the_file(
    tmp_path: Path, words: list[str], settings: dict[str, Any], labels: list[Any] | None, y: list[int]
) -> None:
    sign = ";" if settings.get("separator") else ","
    text = f"x{sign}label\n" + "".join(f"{k}{sign}{word}\n" for k, word in enumerate(words))
    found = dataset(tmp_path / "t.csv", text, **settings)
    assert found.y.tolist() == y
    if labels is None:
        labels = sorted(words, key=int)
        assert [str(label) for label in found.labels] == labels
    else:
        assert found.labels == labels


def test_classes_are_announced_with_their_counts_and_what_is_positive(tmp_path: Path) -> None:
    found = dataset(tmp_path / "t.csv", "x,sick\n1,yes\n2,no\n3,yes\n")
    assert found.facts["data"] == "commas, header; 2 columns, label `sick`: no 1, yes 2; positive: yes"
    for other, shown in (("Yes", "Yes"), ("y es", "y es"), ("ｙes", "ｙes"), ("yes\u200b", r"yes\u200b")):
        alike = dataset(tmp_path / "t.csv", f"x,sick\n1,{other}\n2,no\n3,yes\n").facts["data"]
        assert f"'{shown}'" in alike
        assert alike.endswith(" are different labels")


@pytest.mark.parametrize(
    ("cell", "missing"),
    [
        *(
            (word, [])
            for word in ("", " ", "?", ".", "NA", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "<NA>")
        ),
        *(("-999.0", [number]) for number in (-999, -999.0, "-999", "-9.99e2")),
        ("inf", ["inf"]),
        ("unknown", ["unknown", "no answer"]),
    ],
)
def test_what_stands_for_a_missing_value(tmp_path: Path, cell: str, missing: list[Any]) -> None:
    text = f"a,b,y\n1,5,u\n2,{cell},v\n4,9,u\n"
    found = dataset(tmp_path / "t.csv", text, missing=missing, missing_values="median_and_indicator")
    assert found.x.tolist() == [[1, 5, 0], [2, 7, 1], [4, 9, 0]]
    assert found.preprocessing.columns == ["a", "b", "b is missing"]
    assert dataset(tmp_path / "t.csv", text, missing=missing, missing_values="drop").x.tolist() == [[1, 5], [4, 9]]
    with pytest.raises(UsageError, match=r"t.csv:3: column 2 \(b\): the value is missing"):
        dataset(tmp_path / "t.csv", text, missing=missing)


def test_truth_and_words_are_features_and_what_says_nothing_is_left_out(tmp_path: Path) -> None:
    text = "smokes,city,year,empty,ill\n" + "".join(
        f"{smokes},{city},2020,,{ill}\n"
        for smokes, city, ill in [("True", "Rom", 1), ("false", "Bern", 0), ("TRUE", "Bern", 1), ("False", "Oslo", 0)]
    )
    found = dataset(tmp_path / "t.csv", text, missing_values="median_and_indicator")
    assert found.preprocessing.columns == ["smokes", "city=Oslo", "city=Rom"]  # beside the first one, Bern
    assert found.x.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert found.facts["categories"] == "city: Bern, Oslo, Rom"
    assert found.facts["left out"] == "year (constant in the training part)"
    assert found.facts["not used"] == "empty (empty)"
    kept = dataset(tmp_path / "t.csv", text, drop=["city", "empty"], intercept=False)
    assert kept.preprocessing.columns == ["smokes", "year"]  # where it may stand for an intercept


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            ["1", "true", "3", "4"],
            "t.csv:3: column 1 (a): 'true' is in a column that has both numbers and true or false",
        ),
        (["True", "FALSE", "0", "true"], "t.csv:4: column 1 (a): '0' is in a column"),
        (["1.5"] * 40_000 + ["false", "1", "2"], "t.csv:40002: column 1 (a): 'false' is in a column"),
    ],
)
def test_true_and_false_do_not_stand_among_numbers(tmp_path: Path, cells: list[str], said: str) -> None:
    text = "a,b,y\n" + "".join(f"{cell},{k},{k % 2}\n" for k, cell in enumerate(cells))
    with pytest.raises(UsageError) as refused:
        dataset(tmp_path / "t.csv", text)
    assert said in str(refused.value)
    assert "`categorical: [a]` takes all of them as words" in str(refused.value)
    if len(cells) < 10:
        assert "a=" in dataset(tmp_path / "t.csv", text, categorical=["a"]).preprocessing.columns[0]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a,b,y\n1,2,0\n  \n2,3,1\n\t \n\n3,9,0\n   ", "a,b,y\n1,2,0\n2,3,1\n3,9,0\n"),
        ("a\tb\ty\n1\t2\t0\n \n2\t3\t1\n", "a\tb\ty\n1\t2\t0\n2\t3\t1\n"),
        (" \n# x\n\na,b,y\n   \n1,2,0\n2,3,1\n", "a,b,y\n1,2,0\n2,3,1\n"),
        ('a,b,y\n1,"p\n\nq",0\n  \n2,r,1\n', 'a,b,y\n1,"p\n\nq",0\n2,r,1\n'),
    ],
)
def test_a_line_of_blanks_is_no_row_as_for_pandas(tmp_path: Path, text: str, same: str) -> None:
    import pandas

    found, other = dataset(tmp_path / "t.csv", text), dataset(tmp_path / "s.csv", same)
    assert torch.equal(found.x, other.x)
    assert found.y.tolist() == other.y.tolist()
    (tmp_path / "t.csv").write_text(text)
    read = pandas.read_csv(tmp_path / "t.csv", comment="#", sep="\t" if "\t" in text[:4] else ",")
    assert found.x[:, 0].tolist() == read["a"].tolist()
    last = text.rstrip(" ") + "x" + same.splitlines()[-1][1:]
    with pytest.raises(UsageError, match=f"t.csv:{last.count(chr(10)) + 1}: column 1"):
        dataset(tmp_path / "t.csv", last)


def test_numbers_of_pandas_type_of_categories_are_categories(tmp_path: Path) -> None:
    import pandas

    table = pandas.DataFrame({"class": pandas.Categorical([3, 1, 2, 1]), "age": [1.0, 2, 3, 5], "y": [0, 1, 0, 1]})
    table.to_parquet(tmp_path / "t.parquet")
    given = {"problem": "logistic", "data": str(tmp_path / "t.parquet"), "updates": 1, "optimizer": {"name": "SGD"}}
    found = load_config(given | {"test_fraction": 0, "standardise": False}).build().problem.dataset
    assert found.preprocessing.columns == ["class=2", "class=3", "age"]
    assert found.x.tolist() == [[0, 1, 1], [0, 0, 2], [1, 0, 3], [0, 0, 5]]


def test_numbers_are_categories_where_that_is_said(tmp_path: Path) -> None:
    text = "class,y\n3,0\n1,1\n2,0\n1,1\n"
    assert dataset(tmp_path / "t.csv", text).x.tolist() == [[3], [1], [2], [1]]
    found = dataset(tmp_path / "t.csv", text, categorical=["class"])
    assert found.preprocessing.columns == ["class=2", "class=3"]
    assert found.x.tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]


def test_a_category_that_only_the_held_out_part_has_counts_as_missing(tmp_path: Path) -> None:
    other = tmp_path / "test.csv"
    other.write_text("city,age,y\nOslo,1,0\nBern,2,1\n")
    text = "city,age,y\nRom,1,0\nBern,2,1\nRom,3,1\n"
    with pytest.raises(UsageError, match=r"test.csv:2: column 1 \(city\): no example of the training part has 'Oslo'"):
        dataset(tmp_path / "t.csv", text, test_data=str(other))
    found = dataset(tmp_path / "t.csv", text, test_data=str(other), missing_values="median_and_indicator")
    assert found.test_x.tolist() == [[0, 1], [0, 2]]
    dropped = dataset(tmp_path / "t.csv", text, test_data=str(other), missing_values="drop")
    assert dropped.test_x.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,y\n2020-01-02,0\n2021-01-02,1\n", {}, "t.csv:2: column 1 (a): '2020-01-02' is a date or a time"),
        ("a,y\n9:30,0\n10:45,1\n", {}, "'9:30' is a date or a time"),
        ("a,y\n0x1F,0\n0x2A,1\n", {}, "hexadecimal"),
        ("a,y\n1.5D+00,0\n2.5D+00,1\n", {}, "write E where Fortran has written D"),
        *((f"a,y\n{cell},0\n2{cell},1\n", {}, f"t.csv:2: column 1 (a): {cell!r} is not a finite number: write it as -1234.5")
          for cell in ("12%", "5 €", "¥7", "-$5", "CHF 5", "(5.0)", "−5", "–5.5", "1 234", "1\u202f234", "1'234.5", "٣", "３")),
        *((f"a,y\n{cell},0\n2{cell},1\n", {}, f"t.csv:2: column 1 (a): {cell!r} has a unit: write the number alone, or `cat")
          for cell in ("5 kg", "170cm", "20°C", "2door")),
        *((f"a,y\n{cell},0\n1{cell},1\n", {}, f"t.csv:2: column 1 (a): {cell!r} is not a finite number")
          for cell in ("120/80", "1/2", "0o17", "R$ 5", "Rs. 7", "1:0.5")),
        *((f"a,y\n{cell},0\nx,1\n", {}, f"t.csv:2: column 1 (a): {cell!r} is not a finite number: write it without")
          for cell in ("'5'", "'5", '="5"')),
        *((f"a,y\n{cell},0\nx,1\n", {}, f"t.csv:2: column 1 (a): {cell!r} is a date or a time")
          for cell in ("01-2020", "2020-W01", "2. März 2020", "2020年1月", "PT1H30M", "1 days 02:00:00")),
        ("a,y\n1:30 PM,0\n2:15 pm,1\n", {}, "is a date or a time"),
        ("a,y\n2020-01,0\n2020-02,1\n", {}, "is a date or a time"),
        ("a,y\n2020Q1,0\n2020Q2,1\n", {}, "is a date or a time"),
        ("a,y\n100000000000000000001,0\n3,1\n", {}, "t.csv:2: column 1 (a): '100000000000000000001' has more digits"),
        ("a,y\n" + "1" * 5000 + ",0\n3,1\n", {}, "t.csv:2: column 1 (a): '1"),
        ("a,y\n" + "1" * 100_000 + "x,0\n3,1\n", {}, "t.csv:2: column 1 (a): '1"),
        ("a,b,y\n1,2,0\n# note\n3,4,1\n", {}, "t.csv:3: one cell by commas, '# note', but the header has 3"),
        ("Report\na,b,y\n1,2,0\n3,4,1\n", {}, "t.csv:1: one cell by commas, 'Report', but rows have 3"),
        ("a~y\n1~0\n2~1\n", {}, "it has one column: blanks, header; is another sign its `separator`?"),
        ("a,b,y\n1,2,0\na,b,y\n3,4,1\n", {}, "t.csv:1: column 1: 'a' is not a finite number"),
        ("a,b,y\n1,2,0\na,b,y\n3,4,1\n", {}, "`header: true` if the first row has the names"),
        ("[[1, 0], [2, 1]]\n", {}, "this is JSON"),
        ("column 2,,y\n1,2,0\n3,4,1\n", {}, "t.csv: two columns are called 'column 2': give them different names"),
        ('[\n  {"a": 1, "y": 0}]', {}, "this is JSON; save the table as CSV or Parquet"),
        ('{"a": 1, "y": 0}\n{"a": 2, "y": 1}\n', {}, "this is JSON"),
        ("\ufeff<!DOCTYPE html>\n", {}, "this is an HTML page or XML"),
        ("@RELATION x\n", {}, "this is ARFF"),
        ("a;y\n1,303;0\n2,404;1\n", {}, "is the comma of 1,303 a decimal sign? set `decimal`"),
        *((f"a,w,y\n1,2,u\n2,{cell},v\n", {"weight": "w", "dtype": "float32"}, f"t.csv:3: column 2 (w): the weight {said}")
          for cell, said in (("-1", "-1 is negative: write 0 or more"), ("", "is missing: `missing_values: drop` leaves"))),
        ("a,y\n1,0\n2,1\n", {"label": "y", "drop": ["1-2"]}, "drop: column 2 (y) is also the column of `label`"),
        ("a,w,y\n1,1,0\n2,1,1\n", {"weight": "w", "drop": ["w"]}, "drop: column 2 (w) is also the column of `weight`"),
        ("a,g,y\n1,1,0\n2,2,1\n", {"replicas": {"by": "g"}, "drop": [2]}, "drop: column 2 (g) is also the column of `replicas`"),
        ("a,y\n1,0\n2,1\n", {"drop": ["1-2"]}, "t.csv: all columns are dropped"),
        ("a,y\n1,0\n2,1\n", {"drop": ["y"]}, "t.csv has no column to learn from besides the label"),
        ("a,w,y\n1,0,u\n2,0,v\n", {"weight": "w"}, "column 2 (w): the sum of all weights is 0 in float64"),
        ("a,w,y\n1,0,u\n2,1e39,v\n", {"weight": "w", "dtype": "float32"}, "column 2 (w): the sum of all weights is inf in float32"),
        ("a,g,y\n1,p,u\n2,,v\n", {"replicas": {"folds": 2, "groups": "g"}}, "t.csv:3: column 2 (g): the group of the row is missing"),
        *(("a,y\n1,0\n2,1\n", {name: value}, name) for name, value in (("label", True), ("columns", [True]), ("weight", 1.0))),
        ("a,y\n1,0\nblue,1\n", {}, "`categorical: [a]` takes it as a word"),
        ("a\ty\n1 5\t0\n2\t1\n", {}, "t.csv:2: column 1 (a): '1 5' is not a finite number"),
        ("a,b,y\n1,2,0\n1,2,0,4\n", {}, "t.csv:3: 4 cells, but the header has 3"),
        ("a,b,c,y\n1,2,0\n3,4,1\n", {}, "t.csv:2: 3 cells, but the header has 4"),
        ('a,b,y\n1,"x,no\n2,y,yes\n', {}, "is a quote open?"),
        *((f"a,c,y\n1,p,u\n2,w,v\n{rows}", {"missing_values": "drop", **more}, "t.csv:4: column 2 (c): the quote that opens")
          for rows, more in (('3,"x,u\nNA,w,v\n,w",u\n7,w,v', {}), ('3,"p,u\n4,w,v\n5,w",u\n7,w,v', {"drop": ["c"]}))),
        ('a,c,y\r1,p,u\r2,w,v\r3,"x,u\r4,w,v\r5,w",u\r', {}, "t.csv:4: column 2 (c): the quote that opens"),
        ("dose,y\n1,5,0\n1,7,1\n3,7,0\n", {}, "t.csv:1: 2 cells, but rows have 3"),
        ("\ufeff\ufeff7,10,0\n2,20,1\n-3,4,0\n", {}, "the mark U+FEFF is twice"),
        *((f"{cell},10,0\n2,20,1\n3,34,0\n4,41,1\n5,5,0\n", {}, f"t.csv:1: column 1: {cell!r} is not a finite number")
          for cell in ("$5", "12%", "inf")),
        ("a,y\n\u200b5,0\n\u200b7,1\n", {}, "is a number with an invisible character: write it without"),
        ("FEA1\0\0", {}, "this is a Feather or an Arrow file"),
        ("a,n,y\n" + "1,p,0\n2,q,1\n" * 60 + f"3,{'z' * 140_000},1\nodd,p,0\n", {"drop": ["n"]}, "t.csv:123: column 1 (a): 'odd'"),
        *(("a,b,y\n1,p,0\n" + rows + "1,q,1\n" * 4, {}, "t.csv:3: column 2 (b): the quote that opens here closes in a later row")
          for rows in ('2,"p,0\n3,q",1\n', '2,"p,0\n3,q,0\n4,p,1\n5,q",1\n')),
        ("a;y\n1.000;0\n2.500;1\n", {}, "is the point of 1.000 a decimal sign?"),
        *(("a;y\n" + "2;0\n3;1\n" * 60 + f"{cell};1\n", {}, f"is the {sign} of {cell} a decimal sign? set `decimal`")
          for cell, sign in (("1.500", "point"), ("1,500", "comma"))),
        ("a,y\n2 Jan 2020,0\nJanuary 3 2020,1\n", {}, "is a date or a time"),
        *((f"a,y\n{cell},0\nx,1\n", {}, f"{cell!r} is a date or a time: write a number, such as days since a day; `drop: [a]`")
          for cell in ("5 Jan", "Jan 5th", "Q1 2020", "q3/19")),
        ("a,y\n9007199254740993.0,0\n9007199254740992.0,1\n", {}, "'9007199254740993.0' has more digits"),
        (f"{'n' * 5000},y\n1,0\n2,1\nx,0\n", {}, f"t.csv:4: column 1 ({'n' * 57}...): 'x' is not"),
        *((f"a{sign}y\n1{sign}0\n", {"separator": sign}, f"separator: {sign!r} is neither comma, semicolon, tab, bar, blank")
          for sign in ("::", "", '"', "\n", "§")),
        *(("a,y\n1,0\n", {"encoding": name}, f"encoding: {said}") for name, said in (("klingon", "unknown encoding"),
          ("rot13", "'rot13' is not a text encoding"))),
        ("a,y\n1,0\n", {"encoding": "utf-16"}, "without its mark it is utf-16-le or utf-16-be"),
        ('a,y\n"5\\" pipe",0\n', {}, """t.csv:2: cannot be read: ',' expected after '"'"""),
        ("a,b,y\n1,2,0\n", {"columns": ["2-1"]}, "the range 2-1 is empty: it is written from the first column"),
        ("a,y\n1,0\n1,1\n", {}, "no column is left to learn from"),
        ("a,y\n1,0.5\n2,0.7\n", {}, "the label 0.5 is not a class"),
        ("y,a\n" + "".join(f"{k % 2},{k * k}\n" for k in range(40)), {}, "40 different labels in 40 rows are too many"),
        ("a,y\n1,\n2,1\n", {}, "t.csv:2: column 2 (y): the label is missing"),
        ("a,y\n1,NA\n2,null\n", {"missing_values": "drop"}, "no row has a label"),
        ("name,y\n" + "".join(f"n{k},{k % 2}\n" for k in range(50)), {}, "50 different words in 50 rows, such as 'n0', are too"),
        ("a,y\n1e200,0\n-1e200,1\n", {"standardise": True}, "the values of a are too large"),
        ("a,y\n1e200,0\n-1e200,1\n", {"dtype": "float32"}, "a value of a is too large for float32"),
        ("a,y\n1,0\n" + "2" * 3_000_000 + ",1\n", {}, "t.csv:3: a line of more than 1 MB is not a row"),
        ("2" * 3_000_000, {}, "t.csv:1: a line of more than 1 MB is not a row"),
        ("a,y\n1000000001,0\n1000000007,1\n", {}, "standardise: the values of a differ by too little beside"),
        ("PK\x03\x04", {}, "a spreadsheet; save the table as CSV or Parquet"),
        ("a\0b", {}, "`encoding` says how it is written"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_place_and_what_to_do(
    tmp_path: Path, text: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        dataset(tmp_path / "t.csv", text, **settings)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("text", "given", "x"),
    [
        ("0,5;p;u\n2,5;q;v\n0,5;p;u\n", {}, [0.5, 0, 2.5, 1, 0.5, 0]),  # not commas, which would fit as well
        ("size, cm;c;y\n0,5;p;u\n2,5;q;v\n", {}, [0.5, 0, 2.5, 1]),
        ("a;y\n1.234,5;0\n-99,9;1\n3,1;0\n7,5;1\n", {"missing": [-99.9]}, [1234.5, 3.1, 7.5]),
        ("a;y\n1.500;0\n99,9;1\n3,1;0\n7,5;1\n", {"missing": [1.5]}, [1500, 99.9, 3.1, 7.5]),
    ],
)
def test_decimal_commas_are_no_separators_and_hold_for_missing_values(
    tmp_path: Path, text: str, given: dict[str, Any], x: list[float]
) -> None:
    found = dataset(tmp_path / "t.csv", text, missing_values="drop", **given)
    np.testing.assert_allclose(found.x.flatten(), x, rtol=1e-6)


def test_a_missing_number_is_found_in_single_precision_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    values = pa.array([1.5, -999.9, 3.0, 4.0], pa.float32())
    parquet.write_table(pa.table({"a": values, "y": [0, 1, 0, 1]}), tmp_path / "t.parquet")
    given = {"data": str(tmp_path / "t.parquet"), "missing": [-999.9], "missing_values": "drop", "standardise": False}
    settings = {"problem": "logistic", "updates": 1, "optimizer": {"name": "SGD"}, "test_fraction": 0}
    assert load_config(settings | given).build().problem.dataset.x.flatten().tolist() == [1.5, 3.0, 4.0]


@pytest.mark.parametrize("name", ["id", None])
def test_pandas_index_in_parquet_is_no_column(tmp_path: Path, name: str | None) -> None:
    import pandas

    frame = pandas.DataFrame({"a": [1.5, 2.5, 3.5], "y": [0, 1, 0]}, index=pandas.Index([7, 8, 9], name=name))
    frame.to_parquet(tmp_path / "t.parquet")
    settings = {"problem": "logistic", "updates": 1, "optimizer": {"name": "SGD"}, "test_fraction": 0}
    given = settings | {"data": str(tmp_path / "t.parquet"), "standardise": False}
    found = load_config(given).build().problem.dataset
    assert found.preprocessing.features == ["a"]
    assert found.labels == [0, 1]


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe" + "a,y\n7,0\n2,1\n-3,0\n".encode("utf-16-le"))
    given = {"data": str(tmp_path / "t.csv"), "encoding": "utf-16-le", "standardise": False}
    settings = {"problem": "logistic", "updates": 1, "optimizer": {"name": "SGD"}, "test_fraction": 0}
    assert load_config(settings | given).build().problem.dataset.preprocessing.features == ["a"]


def test_blanks_within_quotes_stay(tmp_path: Path) -> None:
    text = 'a,y\n1,"p, ""q"""\n2,"p,""q"""\n3, "p, ""q"""\n4, "p,""q"""\n'
    assert sorted(dataset(tmp_path / "t.csv", text).labels) == ['p, "q"', 'p,"q"']


@pytest.mark.parametrize("cell", ['"p, 0"', '"p"', '"7"'])
def test_blanks_before_a_quote_are_noticed_far_below(tmp_path: Path, cell: str) -> None:
    other = "7" if "7" in cell else "p"
    rows = [f"{k % 7},{other if k % 3 else 'q' if other == 'p' else 8},{k % 2}\n" for k in range(20_000)]
    found = dataset(tmp_path / "t.csv", "".join(["a,b,y\n", *rows, *[f"1, {cell},1\n"] * 3]))
    assert len(found.y) == 20_003
    categories = {'"p, 0"': "b: p, p, 0, q", '"p"': "b: p, q"}.get(cell)
    assert found.facts.get("categories") == categories


def test_a_cell_of_several_lines_that_are_no_rows_is_one_word(tmp_path: Path) -> None:
    found = dataset(tmp_path / "t.csv", 'a,b,y\n1,"one, two\nthree",0\n2,p,1\n3,p,0\n4,"x,1\nfour",1\n')
    assert len(found.y) == 4
    assert found.preprocessing.features == ["a", "b"]


def test_whole_numbers_that_double_precision_would_merge_are_refused_or_words(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    ids = [10**16, 10**16 + 1] * 4
    parquet.write_table(pa.table({"id": ids, "y": [0, 1, 1, 0] * 2}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("id,y\n" + "".join(f"{id},{k % 4 in (1, 2):d}\n" for k, id in enumerate(ids)))
    given = {
        "problem": "logistic",
        "updates": 1,
        "optimizer": {"name": "SGD"},
        "test_fraction": 0,
        "standardise": False,
    }
    for name, where in (("t.parquet", "column id: "), ("t.csv", r"t.csv:3: column 1 \(id\): ")):
        with pytest.raises(UsageError, match=where + r".*`categorical: \[id\]` takes its numbers as words"):
            load_config(given | {"data": str(tmp_path / name)}).build()
        told = given | {"data": str(tmp_path / name), "categorical": ["id"]}
        found = load_config(told).build().problem.dataset
        assert found.preprocessing.columns == [f"id={10**16 + 1}"]
        assert found.x[:, 0].tolist() == [0, 1] * 4
    assert dataset(tmp_path / "s.csv", f"a,y\n{10**16},0\n{10**15 + 1},1\n").x[:, 0].tolist() == [1e16, 1e15 + 1]
    short = "".join(f"{k},{k % 2}\n" for k in range(150))  # more rows than those by which a column's kind is decided
    with pytest.raises(UsageError, match=r"l.csv:152: column 1 \(a\): .*has more digits than a number"):
        dataset(tmp_path / "l.csv", f"a,y\n{short}{10**16 + 1},1\n")
    assert dataset(tmp_path / "e.csv", f"a,y\n{short}1e17,1\n").x[-1, 0] == 1e17


def test_what_is_left_out_and_labels_that_look_alike_are_announced(tmp_path: Path) -> None:
    text = 'a,y\n1,01\n2,1\n3,\n4,+1\n,1\n5,x\n6,"two\nlines"\n'
    facts = dataset(tmp_path / "t.csv", text, missing_values="drop").facts
    assert facts["rows left out"] == "2 of 7, as their label or a value is missing"
    assert "two lines 1" in facts["data"]
    assert facts["data"].endswith("'+1' and '01' are different labels")


def test_a_list_of_many_columns_is_cut(tmp_path: Path) -> None:
    names, row = ",".join(f"c{k}" for k in range(300)), ",".join(["5"] * 300)
    facts = dataset(tmp_path / "t.csv", f"{names},a,y\n{row},1,u\n{row},2,v\n").facts
    assert facts["left out"] == "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, and 290 more (constant in the training part)"


def test_nothing_is_fetched_and_nothing_but_a_file_is_read(tmp_path: Path) -> None:
    import os

    common = {"problem": "logistic", "updates": 1, "optimizer": {"name": "SGD"}}
    with pytest.raises(UsageError, match="nothing is fetched from the net: download the table"):
        load_config(common | {"data": "https://example.org/data.csv"})
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="it is not a regular file"):
        load_config(common | {"data": str(tmp_path / "pipe.csv")}).build()
    with pytest.raises(UsageError, match="separator: it is only for data from a file"):
        load_config(common | {"data": "iris", "separator": "tab"}).build()


def test_a_column_that_turns_to_text_after_many_rows_of_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{k}.25,{k % 2}\n" for k in range(3000))
    found = dataset(tmp_path / "t.csv", "a,y\n" + rows + "+7,1\n")
    assert found.x[-1].item() == 7
    assert found.x[:-1, 0].sum().item() == pytest.approx(sum(k + 0.25 for k in range(3000)))
    with pytest.raises(UsageError, match=r"t.csv:3002: column 1 \(a\): 'seven' is not a finite number"):
        dataset(tmp_path / "t.csv", "a,y\n" + rows + "seven,1\n")


def test_spellings_of_one_label_are_counted_together(tmp_path: Path) -> None:
    found = dataset(tmp_path / "t.csv", "x,y\n1,1\n2,1.0\n3,0\n4,1\n5,0.0\n")
    assert "0 2, 1 3" in found.facts["data"]


def test_a_constant_with_missing_values_says_something(tmp_path: Path) -> None:
    text = "a,b,y\n5,1,0\n?,2,1\n5,3,1\n"
    found = dataset(tmp_path / "t.csv", text, missing_values="median_and_indicator")
    assert found.x.tolist() == [[5, 1, 0], [5, 2, 1], [5, 3, 0]]


def parquet_set(path: Path, table: pyarrow.Table, **settings: Any) -> Dataset:
    parquet.write_table(table, path / "t.parquet")
    config = {"problem": "logistic", "data": str(path / "t.parquet"), "updates": 1, "optimizer": {"name": "SGD"}}
    built = load_config(config | {"test_fraction": 0, "standardise": False, "dtype": "float64"} | settings).build()
    found: Dataset = built.problem.dataset
    return found


@pytest.mark.parametrize(
    ("values", "x"),
    [
        (pyarrow.array([Decimal("1.10"), Decimal("3.30"), Decimal("-0.05")]), [1.1, 3.3, -0.05]),
        (pyarrow.array([Decimal(10**15), Decimal(2), Decimal(-3)]), [1e15, 2, -3]),
        (pyarrow.array([1.5, 2, 3], pyarrow.float16()), [1.5, 2, 3]),
        (pyarrow.array(["a", "b", "a"], pyarrow.string_view()), [0, 1, 0]),
        (pyarrow.array(["a", "b", "a"]).dictionary_encode(), [0, 1, 0]),
        (pyarrow.DictionaryArray.from_arrays([0, 1, 2], ["a", "b", "a"]), [0, 1, 0]),
        (pyarrow.array([Decimal(10**20 + 1), Decimal(10**20 + 2), Decimal(1)]), "double precision holds all digits"),
        (pyarrow.array([1, 2, 3], pyarrow.duration("s")), "column a: duration[s] is neither numbers nor words"),
        (pyarrow.array([[1], [2], [3]]), "`drop: [a]` leaves the column out"),
        (pyarrow.array([b"a", b"b", b"c"], pyarrow.binary(1)), "column a: fixed_size_binary[1] is neither"),
        (pyarrow.array([b"a", b"b", b"c"], pyarrow.large_binary()), "column a: large_binary is neither"),
    ],
    ids=lambda each: str(getattr(each, "type", "")),
)
def test_a_column_of_parquet_is_read_or_refused_by_its_type(tmp_path: Path, values: pyarrow.Array, x: Any) -> None:
    table = pyarrow.table({"a": values, "b": [1, 2, 4], "y": ["u", "v", "u"]})
    if isinstance(x, str):
        with pytest.raises(UsageError) as refused:
            parquet_set(tmp_path, table)
        assert x in str(refused.value)
    else:
        assert parquet_set(tmp_path, table).x[:, 0].tolist() == x


def test_what_is_for_text_files_is_refused_elsewhere(tmp_path: Path) -> None:
    table = pyarrow.table({"a": ["1,5", "2,5", "4,0"], "y": ["u", "v", "u"]})
    assert parquet_set(tmp_path, table, decimal=",").x.tolist() == [[1.5], [2.5], [4]]
    for name, value in (("separator", "comma"), ("header", True), ("encoding", "latin-1")):
        with pytest.raises(UsageError, match=f"{name}: it is only for text files, and .*t.parquet is none"):
            parquet_set(tmp_path, table, **{name: value})
    with pytest.raises(UsageError, match="it has no columns"):
        parquet_set(tmp_path, pyarrow.table({}))
    with pytest.raises(UsageError, match=r"as it has one column: Parquet$"):
        parquet_set(tmp_path, table.select(["y"]))


def test_rows_of_the_test_file_that_are_left_out_are_counted(tmp_path: Path) -> None:
    other = tmp_path / "test.csv"
    other.write_text("a,y\n1,u\n,v\n3,\n")
    facts = dataset(tmp_path / "t.csv", "a,y\n1,u\n2,v\n", test_data=str(other), missing_values="drop").facts
    assert facts["test data"].endswith("; rows left out: 2 of 3, as their label or a value is missing")


def test_equal_names_of_parquet_s_columns_get_their_numbers(tmp_path: Path) -> None:
    twice = pyarrow.Table.from_arrays([pyarrow.array(each) for each in ([1, 2], [5, 6], ["u", "v"])], ["a", "a", "y"])
    found = parquet_set(tmp_path, twice)
    assert found.preprocessing.features == ["a (column 1)", "a (column 2)"]
    assert found.x.tolist() == [[1, 5], [2, 6]]
    assert parquet_set(tmp_path, twice, columns=[2]).x.tolist() == [[5], [6]]
    within = {"a": [{"b": 7.0}, {"b": 8.0}], "a.b": [1, 2], "y": ["u", "v"]}
    assert parquet_set(tmp_path, pyarrow.table(within), columns=["a.b"]).x.tolist() == [[1], [2]]


def test_a_file_that_is_damaged_further_on_is_refused(tmp_path: Path) -> None:
    import gzip

    rows = np.random.default_rng(0).integers(0, 10**6, (100_000, 2)).tolist()
    text = "a,b,y\n" + "".join(f"{a},{b},{'uv'[k % 2]}\n" for k, (a, b) in enumerate(rows))
    packed, wrong = gzip.compress(text.encode(), 1), text.encode() + "ü,1,u\n".encode("latin-1")
    parquet.write_table(pyarrow.table({"a": [0.5] * 9, "y": [*"uvuvuvuvu"]}), tmp_path / "t.parquet", compression=None)
    whole = (tmp_path / "t.parquet").read_bytes()
    for name, content, said in (
        ("t.csv.gz", packed[:-5000], "t.csv.gz: cannot be read: Truncated compressed stream"),
        ("t.csv", wrong, "t.csv:100002: this is not utf-8: `encoding` says how the file is written"),
        ("t.parquet", whole[:8] + b"\xff" * 40 + whole[48:], "t.parquet: cannot be read: "),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError) as refused:
            load_config(
                {"problem": "logistic", "data": str(tmp_path / name), "updates": 1, "optimizer": {"name": "SGD"}}
            ).build()
        assert said in str(refused.value)


def test_a_table_that_comes_in_batches_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rows each: words come in another order in each batch, and a fault is in a later one."""
    monkeypatch.setattr(tables, "ROWS", 3)
    kind, label, value = list("abccbaacbb"), list("ynnyynnnyn"), [*range(9), 1e400]
    values = {"kind": kind, "x": [float(k) for k in range(10)], "y": label}
    parquet.write_table(pyarrow.table(values), tmp_path / "t.parquet")
    config = {"problem": "logistic", "data": str(tmp_path / "t.parquet"), "updates": 1, "optimizer": {"name": "SGD"}}
    config |= {"test_fraction": 0, "standardise": False}
    found = load_config(config).build().problem.dataset
    assert found.x.tolist() == [[k == "b", k == "c", x] for k, x in zip(kind, range(10), strict=True)]
    assert found.y.tolist() == [word == "y" for word in label]
    assert "n 6, y 4" in found.facts["data"]
    parquet.write_table(pyarrow.table(values | {"x": value}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="row 10"):
        load_config(config).build()


def test_moments_over_many_blocks_are_those_of_all_examples() -> None:
    from rlgrad.supervised.preprocessing import measured

    x = np.random.default_rng(0).normal(1e6, [1, 10, 1e4], (1000, 3))
    x[::7, 1] = np.nan
    found = measured(x[start : start + 90] for start in range(0, 1000, 90))
    np.testing.assert_allclose(found.mean, np.nanmean(x, 0), rtol=1e-14)
    np.testing.assert_allclose(found.variance, np.nanvar(x, 0), rtol=1e-10)
    assert found.known.tolist() == [1000, 1000 - 143, 1000]


def test_a_number_is_predicted_where_the_family_asks_for_it(tmp_path: Path) -> None:
    found = dataset(tmp_path / "t.csv", "a,y\n1,0.5\n2,1.5\n3,NA\n", family="gaussian", missing_values="drop")
    assert found.y.tolist() == [0.5, 1.5]
    assert found.facts["data"].endswith("label `y`: numbers from 0.5 to 1.5")


def test_groups_and_weights_stay_with_their_rows_where_others_are_left_out(tmp_path: Path) -> None:
    text = "x,y,g,w\n1,,a,1\n2,u,b,2\n?,v,c,3\n4,v,a,4\n5,v, b ,5\n6,u,a,6\n7,u,,7\n8,v,a,\n"
    how = {"label": "y", "weight": "w", "replicas": {"folds": 2, "groups": "g"}, "missing_values": "drop"}
    found = dataset(tmp_path / "t.csv", text, **how)
    assert found.x.flatten().tolist() == [2, 4, 5, 6]
    assert found.groups is not None
    assert [int(g) == int(found.groups[0]) for g in found.groups] == [True, False, True, False]
    assert found.sample_weight is not None
    counted = found.sample_weight.sum(0)
    assert (counted / counted[0]).tolist() == pytest.approx([1, 2, 2.5, 3])  # each row is in one of both


@pytest.mark.parametrize("how", [{"by": ...}, {"folds": 2, "groups": ...}], ids=str)
def test_a_column_is_the_weight_and_the_group_as_if_it_were_there_twice(tmp_path: Path, how: dict[str, Any]) -> None:
    text = "x,w,again,y\n" + "".join(f"{k},{1 + k % 3}.5,{1 + k % 3}.5,{'pq'[k % 2]}\n" for k in range(24))
    once, twice = (
        dataset(tmp_path / "t.csv", text, weight="w", columns=["x"], replicas=given)
        for given in ({key: name if value is ... else value for key, value in how.items()} for name in ("w", "again"))
    )
    for name in ("x", "y", "sample_weight", "drawn"):
        assert getattr(once, name).tolist() == getattr(twice, name).tolist()


def test_a_row_with_an_unknown_category_is_missing_as_a_whole() -> None:
    done = Preprocessing(["n", "kind"], "drop", categories={"kind": ["cat", "dog"]})
    found = done(np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 0.0]]))
    assert np.array_equal(found, [[1, 1], [np.nan, np.nan], [3, 0]], equal_nan=True)
