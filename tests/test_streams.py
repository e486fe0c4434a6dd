from rlgrad.streams import Purpose, stream, streams


def test_replica_k_draws_what_the_run_with_seed_plus_k_draws() -> None:
    many = [rng.random(3).tolist() for rng in streams(5, 3, Purpose.SAMPLE, 2)]
    assert many == [stream(5 + k, Purpose.SAMPLE, 2).random(3).tolist() for k in range(3)]


def test_no_two_streams_are_alike() -> None:
    drawn = {
        tuple(stream(seed, purpose, step).random(2)) for seed in range(5) for purpose in Purpose for step in range(5)
    }
    assert len(drawn) == 5 * len(Purpose) * 5


def test_a_stream_is_the_same_for_ever() -> None:
    """Another generator, or another order of what it is made from, changes the bits of every run."""
    assert stream(5, Purpose.SAMPLE, 2).integers(0, 1 << 30, 3).tolist() == [820404357, 535416941, 494040217]
    assert [int(purpose) for purpose in Purpose] == [0, 1, 2, 3]
