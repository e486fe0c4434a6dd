from checks.mutated import examine


def test_no_mutated_config_gives_a_traceback_or_half_a_run() -> None:
    """`python checks/mutated.py` does the same with 10,000 configs; here two get a process of their own."""
    _, faults = examine(100, seed=1, alone=50)
    assert not faults, "\n".join(faults)
