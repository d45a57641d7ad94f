"""Decompresses Zstandard: by Python's module from 3.14 on, before by the package zstandard, imported when first used.

Promises: no more than the limit comes out, and 8 MiB of history at most are kept: zstd's own limit is 128 MiB.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_WINDOW_LIMIT_LOG2 = 23


class ZstdError(Exception):
    """The data are damaged, or there is nothing here that reads them; the message says which."""


def decompressed(data: bytes, limit_bytes: int) -> bytes:
    """All frames one after the other, of their content at most `limit_bytes`.

    Raises:
        ZstdError: as it says.
    """
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        zstd = importlib.import_module(name)
    except ImportError as error:
        raise ZstdError(f"compressed by zstd, and the Python package {name} is missing") from error
    try:
        return _by_stdlib(zstd, data, limit_bytes) if name != "zstandard" else _by_package(zstd, data, limit_bytes)
    except zstd.ZstdError as error:
        raise ZstdError(f"damaged: {error}") from error


def _by_stdlib(zstd: Any, data: bytes, limit_bytes: int) -> bytes:
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LIMIT_LOG2}
    content = b""
    while data and len(content) < limit_bytes:
        frame = zstd.ZstdDecompressor(options=options)
        content += frame.decompress(data, limit_bytes - len(content))
        data = frame.unused_data
    return content


def _by_package(zstandard: Any, data: bytes, limit_bytes: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LIMIT_LOG2)
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        content: bytes = reader.read(limit_bytes)
        return content
