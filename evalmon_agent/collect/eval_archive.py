"""Reads members of an inspect-ai `.eval` file: a zip whose members are compressed with zstd.

The standard library's zipfile holds every member's name in memory at once, and does not read zstd.

Promises: whatever the file holds, it takes little memory and bounded time: a directory of at most
40 MiB (about 400,000 samples), members of at most 192 MiB.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from evalmon_agent.evidence.result import TooLargeError, UnreadableLogError
from evalmon_agent.files.trusted import read_at

MEMBER_LIMIT_BYTES = 192 * 1024 * 1024
_DIRECTORY_LIMIT_BYTES = 40 * 1024 * 1024
_PIECE_BYTES = 256 * 1024

# PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_LENGTHS = struct.Struct("<HHH")
_FLAGS = struct.Struct("<H")
_LOCATOR64 = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_MAX_COMMENT_BYTES = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_ENCRYPTED = 0x1
_ZSTD_METHOD = 93
# Of history 8 MiB at most are kept: zstd's own limit is 128 MiB.
_ZSTD_WINDOW_LIMIT_LOG2 = 23

# `samples/ID_epoch_N.json`, or `samples/ID_epoch_N/sample.json` among the pieces of a sample in chunks.
_SAMPLE = re.compile(rb"samples/(.+_epoch_\d+)(?:/sample)?\.json", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Member:
    method: int
    crc: int
    compressed_bytes: int
    size_bytes: int
    offset: int


class EvalArchive:
    """An open `.eval` file; `sample_count` is the number of samples that are in it so far.

    Raises:
        UnreadableLogError: it is no archive, or its directory is too large.
        OSError: the file system says so.
    """

    def __init__(self, descriptor: int, size_bytes: int, wanted: frozenset[str]) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._members: dict[str, _Member] = {}
        names = {name.encode(): name for name in wanted}
        samples: set[int] = set()  # the names' hashes: 230,000 names would take 30 MB
        for raw_name, entry in _entries(descriptor, size_bytes):
            # Of two members with one name the last one holds.
            if name := names.get(raw_name):
                self._members[name] = _member(entry)
            elif sample := _SAMPLE.fullmatch(raw_name):
                samples.add(hash(sample[1]))
        self.sample_count = len(samples)

    def read(self, name: str) -> Iterator[bytes] | None:
        """The content of a wanted member in pieces; None if there is none.

        Raises:
            UnreadableLogError: it is too large, or compressed in another way; after the last piece: it is damaged.
            OSError: the file system says so.
        """
        member = self._members.get(name)
        if member is None:
            return None
        if max(member.compressed_bytes, member.size_bytes) > MEMBER_LIMIT_BYTES:
            raise TooLargeError(f"{name} is larger than {MEMBER_LIMIT_BYTES >> 20} MiB")
        return self._checked(name, member)

    def _checked(self, name: str, member: _Member) -> Iterator[bytes]:
        size_bytes = crc = 0
        for piece in self._pieces(member):
            size_bytes, crc = size_bytes + len(piece), zlib.crc32(piece, crc)
            if size_bytes > member.size_bytes:
                break
            yield piece
        if (size_bytes, crc) != (member.size_bytes, member.crc):
            raise UnreadableLogError(f"{name} is damaged")

    def _pieces(self, member: _Member) -> Iterator[bytes]:
        local = read_at(self._descriptor, min(member.offset, self._size_bytes), _LOCAL.size)
        if len(local) < _LOCAL.size or local[:4] != b"PK\3\4":
            raise UnreadableLogError("a member is not where the directory says")
        *_, name_bytes, extra_bytes = _LOCAL.unpack(local)
        start = member.offset + _LOCAL.size + name_bytes + extra_bytes
        source = _Compressed(self._descriptor, start, member.compressed_bytes)
        if member.method not in _METHODS:
            raise UnreadableLogError(f"compressed by method {member.method}")
        return _METHODS[member.method](source)


def _entries(descriptor: int, size_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of the central directory: each one's name, and all of it."""
    at, directory_bytes = _directory(descriptor, size_bytes)
    end = at + directory_bytes
    if end > size_bytes:
        raise UnreadableLogError("torn")
    text, begin = b"", 0
    while True:
        if begin + _ENTRY.size > len(text) or begin + _entry_bytes(text, begin) > len(text):
            piece = read_at(descriptor, at, min(_PIECE_BYTES, max(end - at, 0)))
            text, begin, at = text[begin:] + piece, 0, at + len(piece)
            if not piece and begin < len(text):
                raise UnreadableLogError("its directory is damaged")
            if not piece:
                return
            continue
        if text[begin : begin + 4] != b"PK\1\2":
            raise UnreadableLogError("its directory is damaged")
        after = begin + _entry_bytes(text, begin)
        name_bytes, flags = _LENGTHS.unpack_from(text, begin + 28)[0], _FLAGS.unpack_from(text, begin + 8)[0]
        if not flags & _ENCRYPTED:
            name_at = begin + _ENTRY.size
            yield text[name_at : name_at + name_bytes], text[begin:after]
        begin = after


def _directory(descriptor: int, size_bytes: int) -> tuple[int, int]:
    """Where the central directory begins and how long it is, found from the file's end."""
    tail_bytes = min(size_bytes, _LOCATOR64.size + _END.size + _MAX_COMMENT_BYTES)
    tail = read_at(descriptor, size_bytes - tail_bytes, tail_bytes)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise UnreadableLogError("not a zip file, or torn")
    *_, directory_bytes, offset, _ = _END.unpack_from(tail, at)
    locator_at = at - _LOCATOR64.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        _, _, end64_at, _ = _LOCATOR64.unpack_from(tail, locator_at)
        end64 = read_at(descriptor, min(end64_at, size_bytes), _END64.size)
        if len(end64) < _END64.size or end64[:4] != b"PK\6\6":
            raise UnreadableLogError("torn")
        *_, directory_bytes, offset = _END64.unpack(end64)
    if directory_bytes > _DIRECTORY_LIMIT_BYTES:
        raise TooLargeError(f"its directory is larger than {_DIRECTORY_LIMIT_BYTES >> 20} MiB")
    return offset, directory_bytes


def _entry_bytes(text: bytes, begin: int) -> int:
    name_bytes, extra_bytes, comment_bytes = _LENGTHS.unpack_from(text, begin + 28)
    size_bytes: int = _ENTRY.size + name_bytes + extra_bytes + comment_bytes
    return size_bytes


def _member(entry: bytes) -> _Member:
    _, _, _, _, method, _, _, crc, compressed_bytes, size_bytes, name_bytes, extra_bytes, *_, offset = (
        _ENTRY.unpack_from(entry)
    )
    extra = entry[_ENTRY.size + name_bytes :][:extra_bytes]
    size_bytes, compressed_bytes, offset = _in_64_bits(extra, size_bytes, compressed_bytes, offset)
    return _Member(method, crc, compressed_bytes, size_bytes, offset)


def _in_64_bits(extra: bytes, *values: int) -> list[int]:
    """The values; those that do not fit into 32 bits stand in the extra field 1."""
    fields: list[int] = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4 + length
        if kind == 1:
            body = extra[at - length : at]
            fields = list(struct.unpack_from(f"<{len(body) // 8}Q", body))
    return [fields.pop(0) if value == _IN_ZIP64 and fields else value for value in values]


class _Compressed:
    """A part of a file, as something that decompressors read from."""

    def __init__(self, descriptor: int, at: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._at = at
        self._left = size_bytes

    def read(self, size_bytes: int = _PIECE_BYTES) -> bytes:
        piece = read_at(self._descriptor, self._at, min(size_bytes, self._left))
        self._at += len(piece)
        self._left -= len(piece)
        return piece


def _stored(source: _Compressed) -> Iterator[bytes]:
    return iter(source.read, b"")


def _inflated(source: _Compressed) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for compressed in iter(source.read, b""):
            yield inflater.decompress(compressed, _PIECE_BYTES)
            while inflater.unconsumed_tail:
                yield inflater.decompress(inflater.unconsumed_tail, _PIECE_BYTES)
    except zlib.error as error:
        raise UnreadableLogError(str(error)) from error


def _from_zstd(source: _Compressed) -> Iterator[bytes]:
    """All frames one after the other."""
    import zstandard  # noqa: PLC0415 - most processes read no archive

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LIMIT_LOG2)
    try:
        # What it is given need only have `read`.
        with decompressor.stream_reader(source, read_across_frames=True) as reader:  # type: ignore[arg-type]
            yield from iter(lambda: reader.read(_PIECE_BYTES), b"")
    except zstandard.ZstdError as error:
        raise UnreadableLogError(f"damaged: {error}") from error


_METHODS = {0: _stored, zlib.DEFLATED: _inflated, _ZSTD_METHOD: _from_zstd}
