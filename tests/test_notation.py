"""What a config says is what is read, from a file and from the command line; and what is written reads back."""

import datetime
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.notation import Loader, write
from rlgrad.usage import SHIPPED
from rlgrad.written import parse_overrides, read

REFUSED = object()
CASES: list[tuple[str, Any]] = [  # the documentation's table, and more of each kind
    ("010", 10), ("0o10", 8), ("0x10", 16), ("-7", -7), ("+3", 3), ("0b11", "0b11"), ("1_000", "1_000"),
    ("1e-3", 0.001), ("1E5", 1e5), ("1.e5", 1e5), (".5", 0.5), ("1.", 1.0), ("-.inf", -math.inf), ("inf", "inf"),
    ("9:30", "9:30"), ("6:30:00", "6:30:00"), ("2020-01-01", "2020-01-01"), ("2020-01-01 10:00:00", "2020-01-01 10:00:00"),
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("NO", "NO"), ("y", "y"), ("true", True), ("False", False),
    ("~", None), ("null", None), ("", None), ("a#b", "a#b"), ("a # b", "a"), ("'010'", "010"), ('"yes"', "yes"),
    ("=", "="), ("C:\\temp", "C:\\temp"), ("1,5", "1,5"), ("[-1, 2]", [-1, 2]), ("{a: 010}", {"a": 10}),
    ("-", REFUSED), ("@a", REFUSED), ("%d", REFUSED), ("*a", REFUSED), ("[1", REFUSED), ("a: b", REFUSED),
    ("{a: 1, a: 2}", REFUSED), ("<<", REFUSED), ("!!binary aGk=", REFUSED), ("!!set {a}", REFUSED),
    ("!!timestamp 2020-01-01", REFUSED), ("!!python/name:os.system", REFUSED), ("{1: 2}", REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meant"), CASES)
def test_a_value_is_read_alike_from_a_file_and_from_the_command_line(tmp_path, text: str, meant: Any) -> None:
    (tmp_path / "c.yaml").write_text(f"x: {text}\n")
    for found in (lambda: read(tmp_path / "c.yaml")[0]["x"], lambda: parse_overrides([f"--x={text}"])["x"]):
        if meant is REFUSED:
            with pytest.raises(UsageError):
                found()
        else:
            assert repr(found()) == repr(meant)


def test_the_table_of_the_documentation_says_what_is_read() -> None:
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \|$", (SHIPPED / "README.md").read_text(), re.M)
    table = dict(row for row in rows if row[0] in dict(CASES))
    assert len(table) >= 15
    for text, said in table.items():
        meant = dict(CASES)[text]
        kind = (
            "refused"
            if meant is REFUSED
            else "text"
            if isinstance(meant, str)
            else f"`{yaml.safe_dump(meant).split()[0]}`"
        )
        assert kind in said, text


TEXTS = ["010", "0o10", "0x1", "1e-3", "1_000", "9:30", "yes", "NO", "off", "true", "2020-01-01", "~", "null", "", ".nan",
         "-.inf", "=", "<<", "a # b", "a: b", "- a", " a", "a\nb", "\0", "é", "\ud800", "!!set", "&a", "*a", "%", "@"]  # fmt: skip


def test_text_that_looks_like_something_else_is_quoted() -> None:
    """Also for readers of YAML 1.1, as PyYAML's own."""
    written = write({"texts": TEXTS, "numbers": [math.inf, 1e-5, 1e17, 3.0, 7, True, None]})
    for loader in (Loader, yaml.SafeLoader):
        found = yaml.load(written, loader)
        assert found["texts"] == TEXTS
        assert repr(found["numbers"]) == repr([math.inf, 1e-5, 1e17, 3.0, 7, True, None])


def test_whatever_is_written_reads_back() -> None:
    """Texts of all that YAML makes something of, as names and as values, as short and as long ones."""
    rng = random.Random(0)
    letters = ["a", "b", " ", "é", "😀", *"\n\t\r\0\x85\u2028\ufeff:#-\"'\\,[]{}?&*!|>%@`"]
    texts = ["".join(rng.choices(letters, k=rng.choice([1, 2, 5, 200]))) for _ in range(300)]
    content = {text: {"a": [text], text[:9] + "x": [[text, 1], {text: None}]} for text in texts}
    assert yaml.load(write(content), Loader) == content
    assert yaml.load(write({"half": "\ud800", **content}), Loader) == {"half": "\ud800", **content}


GIVEN: dict[str, Any] = {"problem": "reinforce", "environment": "X-v0", "updates": 1, "optimizer": {"name": "SGD"}}


@pytest.mark.parametrize("value", [math.inf, TEXTS, {"a": {"b": ["1", 1, 1.0, True, None]}}, (1, 2), 10**18, "x" * 300])
def test_settings_that_are_written_are_read_back_equal(tmp_path, value: Any) -> None:
    settings = load_config(GIVEN | {"environment_options": {"x": value}}).settings
    (tmp_path / "c.yaml").write_text(write(settings.model_dump()))
    assert load_config(tmp_path / "c.yaml").settings == settings


@pytest.mark.parametrize("value", [math.nan, datetime.date(2020, 1, 1), b"hi", {1}, {1: 2}, 2**63, -(2**70), object()])
def test_what_a_config_cannot_hold_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(UsageError, match=r"environment_options\.x\.0: "):
        load_config(GIVEN | {"environment_options": {"x": [value]}})


def test_a_mapping_that_holds_itself_is_refused() -> None:
    ring: dict[str, Any] = dict(GIVEN)
    ring["environment_options"] = {"x": [ring]}
    for given, more in ((ring, {}), (GIVEN, {"environment_options": ring})):
        with pytest.raises(UsageError, match="it contains itself"):
            load_config(given, more)


def test_a_whole_number_in_quotes_is_held_to_64_bits_too() -> None:
    for digits in (20, 330):
        with pytest.raises(UsageError, match="seed"):
            load_config(GIVEN | {"seed": "9" * digits})


def test_an_override_replaces_what_it_names_and_nothing_else(tmp_path) -> None:
    parts = [{"name": "ConstantLR", "factor": 0.5}, {"name": "ExponentialLR", "gamma": 0.9}]
    given = GIVEN | {"schedule": {"name": "SequentialLR", "milestones": [2], "schedulers": parts}}
    changed = load_config(given, ["--schedule.schedulers.1.gamma", "0.8", "--schedule.milestones.0", "3"]).settings
    wanted = {"milestones": [3], "schedulers": [parts[0], {"name": "ExponentialLR", "gamma": 0.8}]}
    assert changed.schedule.arguments == wanted
    assert parts[1] == {"name": "ExponentialLR", "gamma": 0.9}
    with pytest.raises(UsageError, match=r"schedule\.schedulers is a list of 2"):
        load_config(given, ["--schedule.schedulers.2.gamma", "0.8"])


def test_a_config_of_megabytes_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("rlgrad.written.parse", lambda *_: pytest.fail("parsed"))
    (tmp_path / "c.yaml").write_text("x: 1\n" * 2**18)
    with pytest.raises(UsageError, match="larger than a config can be"):
        read(tmp_path / "c.yaml")
