from rlgrad.streams import Purpose, stream, streams


def test_replica_k_draws_what_the_run_with_seed_plus_k_draws() -> None:
    many = [rng.random(3).tolist() for rng in streams(5, 3, Purpose.SAMPLE, 2)]
    assert many == [stream(5 + k, Purpose.SAMPLE, 2).random(3).tolist() for k in range(3)]


def test_no_two_streams_are_alike() -> None:
    drawn = {
        tuple(stream(seed, purpose, step).random(2)) for seed in range(5) for purpose in Purpose for step in range(5)
    }
    assert len(drawn) == 5 * len(Purpose) * 5
