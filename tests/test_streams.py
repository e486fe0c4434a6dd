from rlgrad.streams import Purpose, stream, streams

FIRST = [3110757170, 2442501727], [648221111, 3341380225]  # as version 0.1 drew them


def test_replica_k_draws_what_the_run_with_seed_plus_k_draws() -> None:
    many = [rng.random(3).tolist() for rng in streams(5, 3, Purpose.SAMPLE, 2)]
    assert many == [stream(5 + k, Purpose.SAMPLE, 2).random(3).tolist() for k in range(3)]


def test_no_two_streams_are_alike() -> None:
    drawn = {
        tuple(stream(seed, purpose, step).random(2)) for seed in range(5) for purpose in Purpose for step in range(5)
    }
    assert len(drawn) == 5 * len(Purpose) * 5


def test_seeds_of_any_size_share_no_stream() -> None:
    """Those that would, if a seed's words were laid beside the purpose and the step, are among them."""
    seeds = [word * 2**32 + low for word in (0, 1, 2, 3, 2**31 - 1) for low in (0, 1, 2, 2**32 - 1)]
    steps = (0, 1, 2, 2**32 - 1, 2**32, 2**32 + 1)
    drawn = {
        tuple(stream(seed, purpose, step).integers(2**63, size=2))
        for seed in seeds
        for purpose in Purpose
        for step in steps
    }
    assert len(drawn) == len(seeds) * len(Purpose) * len(steps)


def test_seeds_below_32_bits_keep_their_numbers() -> None:
    assert stream(0, Purpose.INITIAL).integers(2**32, size=2).tolist() == FIRST[0]
    assert stream(2**32 - 1, Purpose.EVALUATE, 7).integers(2**32, size=2).tolist() == FIRST[1]


def test_a_stream_is_the_same_for_ever() -> None:
    """Another generator, or another order of what it is made from, changes the bits of every run."""
    assert stream(5, Purpose.SAMPLE, 2).integers(0, 1 << 30, 3).tolist() == [820404357, 535416941, 494040217]
    assert [int(purpose) for purpose in Purpose] == [0, 1, 2, 3, 4]
