"""No mutation of a shipped config gives a traceback, or half a run. `python checks/mutated.py` tries many more."""

import pytest

from checks.mutated import FILES, examine, fault
from rlgrad.usage import SHIPPED


def test_no_mutated_config_gives_a_traceback_or_half_a_run() -> None:
    came, faults = examine(100, seed=0, alone=0)
    assert not faults, "\n".join(faults)
    assert came["begun"] > 3  # what a config may say is among them
    assert came["refused"] > 50


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cartpole", ["--replicas", "1000000000"]),
        ("cartpole", ["--policy.hidden", "[1000000000, 1000000000]"]),
        ("cartpole", ["--seed", "1" + "0" * 400]),
        ("digits", ["--replicas", "1000000"]),
        ("bowl", ["--function", "x" + "+x" * 10**4]),
    ],
)
def test_what_is_too_much_is_refused(name: str, words: list[str]) -> None:
    assert fault((SHIPPED / f"{name}.yaml").read_text(), words) == ("refused", None)


def test_an_alias_bomb_does_not_go_off() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for bomb in ("\n".join(lines), "a: &a [*a]", "a: &a {b: *a}", "<<: &a {<<: *a}"):
        assert fault(f"{FILES[0].read_text()}\n{bomb}\n", []) == ("refused", None)
