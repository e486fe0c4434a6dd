"""No mutation of a shipped config gives a traceback, or half a run."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlgrad.cli import main
from rlgrad.config import SHIPPED
from rlgrad.run import directory

FILES = sorted(SHIPPED.glob("*.yaml"))
CONFIGS = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}


class Begun(Exception):
    """The config is valid and built, and the run directory would be made."""


@pytest.fixture(autouse=True)
def no_run_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(name: str, out: Any) -> Path:
        raise Begun

    monkeypatch.setattr(directory, "claim", claim)


def settle(content: bytes, capsys) -> None:
    """The config begins a run, or is refused in one line; and nothing is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(content)
        try:
            code = main(["train", "--config", f"{folder}/config.yaml", "--out", f"{folder}/run"])
        except Begun:
            return
        finally:
            printed = capsys.readouterr()
        assert code == 2, printed.err
        assert printed.err.startswith("rlgrad: ")
        assert printed.err.count("\n") == 1, printed.err
        assert printed.out == ""
        assert [path.name for path in Path(folder).iterdir()] == ["config.yaml"]


def places(data: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all values in nested mappings and lists."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in inner for found in ((*path, key), *places(value, (*path, key)))]


HUGE = [10**9, 10**20, -(10**9), 10**400, 1e308, float("inf"), float("nan"), "x" * 10**5, [1] * 5000, "9" * 5000]
OTHER = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "\0",
            "a\nb",
            "../x.csv",
            "x/\0.csv",
            "~nobody/x.csv",
            "Adam",
            "CartPole-v1",
            "x**2",
            "2**9**9**9",
            "2024-01-01",
        ]
    ),
    st.lists(st.integers(-1, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(HUGE),
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    data = copy.deepcopy(CONFIGS[draw(st.sampled_from(sorted(CONFIGS)))])
    for _ in range(draw(st.integers(1, 2))):
        found = places(data)
        if not found:
            return data
        *path, last = draw(st.sampled_from(found))
        holder = data
        for key in path:
            holder = holder[key]
        match draw(st.sampled_from(["delete", "rename", "replace", "nest", "add"])):
            case "delete":
                del holder[last]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.one_of(st.text(max_size=8), st.just(str(last) + "s")))] = holder.pop(last)
            case "nest":
                for _ in range(draw(st.sampled_from([1, 3, 19, 30]))):
                    holder[last] = draw(st.sampled_from([{"name": holder[last]}, [holder[last]]]))
            case "add" if isinstance(holder, dict):
                holder[
                    draw(
                        st.sampled_from(
                            [
                                "replicas",
                                "seed",
                                "updates",
                                "environment_options",
                                "schedule",
                                "box",
                                "policy",
                                "threads",
                            ]
                        )
                    )
                ] = draw(OTHER)
            case _:
                holder[last] = draw(OTHER)
    return data


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=mutated())
@example(data=CONFIGS["cartpole"] | {"replicas": 10**9})
@example(data=CONFIGS["cartpole"] | {"policy": {"hidden": [10**9, 10**9]}})
@example(data=CONFIGS["cartpole"] | {"seed": 10**400})
@example(data=CONFIGS["digits"] | {"replicas": 10**6})
@example(data=CONFIGS["bowl"] | {"function": "x" + "+x" * 10**4})
def test_no_mutated_config_gives_a_traceback_or_half_a_run(capsys, data: Any) -> None:
    settle(yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"), capsys)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damaged_file_gives_a_traceback_or_half_a_run(capsys, data: st.DataObject) -> None:
    """Bytes that are overwritten, cut off or put in, so that it is YAML no more, or no text."""
    content = bytearray(data.draw(st.sampled_from(FILES)).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 5, 10**4]))
        put = st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [
                    b"&a ",
                    b"*a",
                    b"{",
                    b"[" * 3000,
                    b"\xff\xfe",
                    b"- ",
                    b"!!python/object:os.system ",
                    b"\t",
                    b"<<: ",
                    b": ",
                    b"\n",
                ]
            ),
        )
        content[position : position + length] = data.draw(put)
    settle(bytes(content), capsys)


def test_an_alias_bomb_does_not_go_off(capsys) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for bomb in ("\n".join(lines), "a: &a [*a]", "a: &a {b: *a}", "<<: &a {<<: *a}"):
        settle(f"{FILES[0].read_text()}\n{bomb}\n".encode(), capsys)
