"""TensorBoard's records: an event file is a sequence of them.

tensorboard has a writer too, but importing it also imports a file system layer, a flag parser and more.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, lowest bit first: RFC 3720, section 12.1


def remainders() -> list[int]:
    """The remainder of each byte alone: the table that computes a CRC byte by byte."""
    found = list(range(256))
    for _ in range(8):
        found = [value >> 1 ^ (CASTAGNOLI if value & 1 else 0) for value in found]
    return found


REMAINDERS = remainders()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ REMAINDERS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def checksum(data: bytes) -> bytes:
    """The CRC, rotated by 15 bits, plus a constant: a plain CRC of data that contains a CRC would be a weak check."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """The record of some data: its length, the checksum of that, the data, and the checksum of the data."""
    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the data of each record, up to the first record that is cut off or damaged."""
    while len(head := file.read(12)) == 12:
        (length,) = struct.unpack("<Q", head[:8])
        data, end = file.read(length), file.read(4)
        if end != checksum(data):
            return
        yield data
