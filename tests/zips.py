"""Builds zip files member by member, so that they can hold false data."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    name: str
    content: bytes = b"{}"
    method: int = 0
    compressed: bytes | None = None
    claimed_size_bytes: int | None = None
    claimed_offset: int | None = None
    crc: int | None = None
    flags: int = 0

    @property
    def stored(self) -> bytes:
        return self.content if self.compressed is None else self.compressed


def deflated(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def zip_of(members: Iterable[Member], *, comment: bytes = b"", in_64_bits: bool = False) -> bytes:
    body, directory, count = bytearray(), bytearray(), 0
    for count, member in enumerate(members, start=1):  # noqa: B007 (the last one is used)
        name = member.name.encode()
        size = len(member.content) if member.claimed_size_bytes is None else member.claimed_size_bytes
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        offset = len(body) if member.claimed_offset is None else member.claimed_offset
        extra, packed = b"", (len(member.stored), size, offset)
        if in_64_bits or max(packed) > 0xFFFFFFFF:
            extra = struct.pack("<HHQQQ", 1, 24, size, len(member.stored), offset)
            packed = (0xFFFFFFFF,) * 3
        common = (member.flags, member.method, 0, 0, crc, packed[0], packed[1], len(name))
        body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, *common, 0) + name + member.stored
        directory += struct.pack("<4sHHHHHHIIIHH", b"PK\1\2", 45, 45, *common, len(extra))
        directory += struct.pack("<HHHII", 0, 0, 0, 0, packed[2]) + name + extra
    end = b""
    offset_field, size_field, count_field = len(body), len(directory), min(count, 0xFFFF)
    if in_64_bits or count >= 0xFFFF:
        end = struct.pack("<4sQHHIIQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count)
        end += struct.pack("<QQ", len(directory), len(body))
        end += struct.pack("<4sIQI", b"PK\6\7", 0, len(body) + len(directory), 1)
        offset_field = size_field = 0xFFFFFFFF
        count_field = 0xFFFF
    end += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count_field, count_field, size_field, offset_field, len(comment))
    return bytes(body + directory + end + comment)
