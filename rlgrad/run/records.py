"""TensorBoard's records: what a file of events is made of.

tensorboard has a writer of them too, but its import brings in a file system layer, a flag parser and more.
"""

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, lowest bit first: RFC 3720, section 12.1


def remainders() -> list[int]:
    """What each byte, alone, leaves over."""
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
    """The CRC, rotated by 15 bits and moved on, as that of data which contains a CRC would say little."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class RecordWriter:
    """Appends records to a file: the length of the data, its checksum, the data, its checksum."""

    def __init__(self, file: "SupportsWrite[bytes]"):
        self.file = file

    def write(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self.file.write(length + checksum(length) + data + checksum(data))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """The data of each record, as far as the file is whole."""
    while len(head := file.read(12)) == 12:
        (length,) = struct.unpack("<Q", head[:8])
        data, end = file.read(length), file.read(4)
        if end != checksum(data):
            return
        yield data
