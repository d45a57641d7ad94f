"""Reads members of an inspect-ai `.eval` file: a zip whose members are compressed with zstd.

The standard library's zipfile holds every member's name in memory at once and reads zstd from Python 3.14 on only.

Promises: those of `owned`; whatever the file holds, it takes bounded time and memory: a directory of at most
16 MiB, members of at most 8 MiB.
"""

from __future__ import annotations

import importlib
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evalmon_agent.evidence.result import UnreadableLogError
from evalmon_agent.files.trusted import OwnedFiles, read_at

MEMBER_LIMIT_BYTES = 8 * 1024 * 1024
_DIRECTORY_LIMIT_BYTES = 16 * 1024 * 1024

# PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
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


class ArchiveError(UnreadableLogError):
    """The file is no archive that we read; the message says why."""


class _ZstdError(Exception):
    """The data are damaged, or there is nothing here that reads them; the message says which."""


@dataclass(frozen=True, slots=True)
class _Member:
    method: int
    crc: int
    compressed_bytes: int
    size_bytes: int
    offset: int


class EvalArchive:
    """An open `.eval` file; `sample_count` is the number of samples that are in it so far."""

    def __init__(self, descriptor: int, size_bytes: int, wanted: frozenset[str]) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._members: dict[str, _Member] = {}
        names = {name.encode(): name for name in wanted}
        samples: set[bytes] = set()
        for raw_name, member in _entries(_directory(descriptor, size_bytes)):
            # Of two members with one name the last one holds.
            if name := names.get(raw_name):
                self._members[name] = member
            elif sample := _SAMPLE.fullmatch(raw_name):
                samples.add(sample[1])
        self.sample_count = len(samples)

    def read(self, name: str) -> bytes | None:
        """The content of a wanted member, whole and checked; None if there is none.

        Raises:
            ArchiveError: it is too large, damaged, or compressed in a way that we cannot read here.
            OSError: the file system says so.
        """
        member = self._members.get(name)
        if member is None:
            return None
        if max(member.compressed_bytes, member.size_bytes) > MEMBER_LIMIT_BYTES:
            raise ArchiveError(f"{name} is larger than {MEMBER_LIMIT_BYTES >> 20} MiB")
        content = _decompressed(self._compressed(member), member.method)
        if len(content) != member.size_bytes or zlib.crc32(content) != member.crc:
            raise ArchiveError(f"{name} is damaged")
        return content

    def _compressed(self, member: _Member) -> bytes:
        local = read_at(self._descriptor, min(member.offset, self._size_bytes), _LOCAL.size)
        if len(local) < _LOCAL.size or local[:4] != b"PK\3\4":
            raise ArchiveError("a member is not where the directory says")
        *_, name_bytes, extra_bytes = _LOCAL.unpack(local)
        start = member.offset + _LOCAL.size + name_bytes + extra_bytes
        return read_at(self._descriptor, start, member.compressed_bytes)


@contextmanager
def open_archive(path: str | os.PathLike[str], *, files: OwnedFiles, wanted: frozenset[str]) -> Iterator[EvalArchive]:
    """An archive from which the `wanted` members can be read.

    Raises:
        ArchiveError: it is none, or its directory is too large.
        OSError: it is not there, no regular file of the owner's, or may not be read.
    """
    with files.open(path) as (descriptor, size_bytes):
        yield EvalArchive(descriptor, size_bytes, wanted)


def _directory(descriptor: int, size_bytes: int) -> bytes:
    """The central directory, found from the file's end."""
    tail_bytes = min(size_bytes, _LOCATOR64.size + _END.size + _MAX_COMMENT_BYTES)
    tail = read_at(descriptor, size_bytes - tail_bytes, tail_bytes)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise ArchiveError("not a zip file, or torn")
    *_, directory_bytes, offset, _ = _END.unpack_from(tail, at)
    locator_at = at - _LOCATOR64.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        _, _, end64_at, _ = _LOCATOR64.unpack_from(tail, locator_at)
        end64 = read_at(descriptor, min(end64_at, size_bytes), _END64.size)
        if len(end64) < _END64.size or end64[:4] != b"PK\6\6":
            raise ArchiveError("torn")
        *_, directory_bytes, offset = _END64.unpack(end64)
    if directory_bytes > _DIRECTORY_LIMIT_BYTES:
        raise ArchiveError(f"its directory is larger than {_DIRECTORY_LIMIT_BYTES >> 20} MiB")
    return read_at(descriptor, min(offset, size_bytes), directory_bytes)


def _entries(directory: bytes) -> Iterator[tuple[bytes, _Member]]:
    at = 0
    while at + _ENTRY.size <= len(directory):
        (
            signature,
            _,
            _,
            flags,
            method,
            _,
            _,
            crc,
            compressed_bytes,
            size_bytes,
            name_bytes,
            extra_bytes,
            comment_bytes,
            _,
            _,
            _,
            offset,
        ) = _ENTRY.unpack_from(directory, at)
        if signature != b"PK\1\2":
            raise ArchiveError("its directory is damaged")
        name_at = at + _ENTRY.size
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if flags & _ENCRYPTED:
            continue
        extra = directory[extra_at : extra_at + extra_bytes]
        size_bytes, compressed_bytes, offset = _in_64_bits(extra, size_bytes, compressed_bytes, offset)
        yield directory[name_at:extra_at], _Member(method, crc, compressed_bytes, size_bytes, offset)


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


def _decompressed(data: bytes, method: int) -> bytes:
    """At most one byte more than MEMBER_LIMIT_BYTES, which then is not the size that the directory gives."""
    if method not in _METHODS:
        raise ArchiveError(f"compressed by method {method}")
    try:
        return _METHODS[method](data, MEMBER_LIMIT_BYTES + 1)
    except (zlib.error, _ZstdError) as error:
        raise ArchiveError(str(error)) from error


def _stored(data: bytes, limit_bytes: int) -> bytes:
    return data[:limit_bytes]


def _inflated(data: bytes, limit_bytes: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit_bytes)


def _from_zstd(data: bytes, limit_bytes: int) -> bytes:
    """All frames one after the other, of their content at most `limit_bytes`.

    Raises:
        _ZstdError: as it says.
    """
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        zstd = importlib.import_module(name)
    except ImportError as error:
        raise _ZstdError(f"compressed by zstd, and the Python package {name} is missing") from error
    try:
        return (
            _zstd_by_stdlib(zstd, data, limit_bytes)
            if name != "zstandard"
            else _zstd_by_package(zstd, data, limit_bytes)
        )
    except zstd.ZstdError as error:
        raise _ZstdError(f"damaged: {error}") from error


def _zstd_by_stdlib(zstd: Any, data: bytes, limit_bytes: int) -> bytes:
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LIMIT_LOG2}
    content = b""
    while data and len(content) < limit_bytes:
        frame = zstd.ZstdDecompressor(options=options)
        content += frame.decompress(data, limit_bytes - len(content))
        data = frame.unused_data
    return content


def _zstd_by_package(zstandard: Any, data: bytes, limit_bytes: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LIMIT_LOG2)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        content: bytes = reader.read(limit_bytes)
        return content


_METHODS: dict[int, Callable[[bytes, int], bytes]] = {
    0: _stored,
    zlib.DEFLATED: _inflated,
    _ZSTD_METHOD: _from_zstd,
}
