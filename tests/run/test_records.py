import io

from tensorboard.summary.writer.record_writer import RecordWriter as TensorBoards

from rlgrad.run.records import crc32c, record


def test_checksums_of_rfc_3720():
    """Appendix B.4, where the bytes of the results are written lowest first."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_records_are_tensorboards_byte_for_byte():
    ours, theirs = b"", io.BytesIO()
    for data in (b"", b"\0", "θ ± α∇J".encode(), bytes(range(256)) * 5):
        ours += record(data)
        TensorBoards(theirs).write(data)
    assert ours == theirs.getvalue()
