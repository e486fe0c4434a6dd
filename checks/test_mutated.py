from checks.mutated import examine


def test_no_mutated_config_gives_a_traceback_or_half_a_run() -> None:
    """As `python checks/mutated.py` does for 10,000 of them; two of these are processes of their own."""
    _, faults = examine(100, seed=1, alone=50)
    assert not faults, "\n".join(faults)
