"""Tests that members of an .eval file are read completely and checked, or refused, in bounded time and memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import second_user
from evalmon_agent.collect.eval_archive import MEMBER_LIMIT_BYTES, EvalArchive
from evalmon_agent.evidence.result import UnreadableLogError
from evalmon_agent.files.trusted import OwnedFiles
from zips import Member, deflated, zip_of

FILES = OwnedFiles(os.geteuid())
WANTED = frozenset({"header.json", "_journal/start.json"})
HEADER = b'{"status": "success", "eval": {}, "stats": {}}'
SMALL = zip_of([Member("_journal/start.json"), Member("samples/1_epoch_1.json"), Member("header.json", HEADER)])


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[EvalArchive]:
    with FILES.open(path) as (descriptor, size_bytes):
        yield EvalArchive(descriptor, size_bytes, WANTED)


def header_of(path: Path, data: bytes) -> bytes | None:
    path.write_bytes(data)
    with open_archive(path) as archive:
        return content(archive, "header.json")


def content(archive: EvalArchive, name: str) -> bytes | None:
    pieces = archive.read(name)
    return None if pieces is None else b"".join(pieces)


@pytest.mark.parametrize("in_64_bits", [False, True])
@pytest.mark.parametrize("comment", [b"", b"PK\5\6 is a comment", b"x" * 65535])
def test_members_are_read_in_each_way_of_writing_them(tmp_path: Path, in_64_bits: bool, comment: bytes) -> None:
    members = [
        Member("_journal/start.json", b"stored"),
        Member("header.json", HEADER, method=8, compressed=deflated(HEADER)),
    ]
    path = tmp_path / "a.eval"
    path.write_bytes(zip_of(members, comment=comment, in_64_bits=in_64_bits))
    if comment.startswith(b"PK"):
        with pytest.raises(UnreadableLogError), open_archive(path):
            pass
        return
    with open_archive(path) as archive:
        assert (content(archive, "_journal/start.json"), content(archive, "header.json")) == (b"stored", HEADER)
        assert archive.read("samples/1_epoch_1.json") is None


def test_archives_of_pythons_zipfile_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("samples/x_epoch_1.json", "{}")
        with file.open("header.json", "w", force_zip64=True) as member:
            member.write(HEADER)
    assert header_of(tmp_path / "a.eval", buffer.getvalue()) == HEADER


def test_samples_are_counted_once_whole_or_in_chunks(tmp_path: Path) -> None:
    names = ["samples/1_epoch_1.json", "samples/1_epoch_2.json", "samples/a/b_epoch_1.json"]
    names += ["samples/7_epoch_1/sample.json", "samples/7_epoch_1/events/0.json", "samples/7_epoch_1/skeleton.json"]
    names += ["samples/1_epoch_1.json", "_journal/summaries/1.json", "header.json"]
    path = tmp_path / "a.eval"
    path.write_bytes(zip_of(Member(name) for name in names))
    with open_archive(path) as archive:
        assert archive.sample_count == 4


def test_the_last_of_two_members_with_one_name_counts(tmp_path: Path) -> None:
    data = zip_of([Member("header.json", b"old"), Member("header.json", b"new")])
    assert header_of(tmp_path / "a.eval", data) == b"new"


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(UnreadableLogError):
            header_of(tmp_path / "a.eval", SMALL[:cut])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_read_correctly(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for at, value in flips:
        data[at] = value
    with contextlib.suppress(UnreadableLogError):
        assert header_of(tmp_path / "a.eval", bytes(data)) in (HEADER, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
@example(bytes(6) + b"\1" + bytes(3) + b"\xff" * 4 + bytes(2))  # a directory of one byte, beyond the file
@example(bytes(6) + b"\1" + bytes(9))  # a directory of one byte
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    assume(data[6:10] != bytes(4))  # a directory of no bytes: an archive without members
    with pytest.raises(UnreadableLogError):
        header_of(tmp_path / "a.eval", data + b"PK\5\6" + bytes(2) + data)


@pytest.mark.survives("S8")
@pytest.mark.parametrize(
    "member",
    [
        Member("header.json", HEADER, claimed_size_bytes=5),
        Member("header.json", HEADER, crc=1),
        Member("header.json", HEADER, claimed_offset=20),
        Member("header.json", HEADER, claimed_offset=2**64 - 1),
        Member("header.json", HEADER, claimed_size_bytes=2**40),
        Member("header.json", HEADER, method=8),
        Member("header.json", HEADER, method=14),
        Member("header.json", HEADER, claimed_size_bytes=MEMBER_LIMIT_BYTES + 1),
    ],
)
def test_a_member_with_false_sizes_is_refused(tmp_path: Path, member: Member) -> None:
    with pytest.raises(UnreadableLogError):
        header_of(tmp_path / "a.eval", zip_of([member]))


def test_an_encrypted_member_counts_as_missing(tmp_path: Path) -> None:
    assert header_of(tmp_path / "a.eval", zip_of([Member("header.json", HEADER, flags=1)])) is None


@pytest.mark.survives("S1")
def test_other_users_links_and_fifos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.eval").write_bytes(SMALL)
    (tmp_path / "link.eval").symlink_to(tmp_path / "a.eval")
    second_user.give(tmp_path / "link.eval")
    os.mkfifo(tmp_path / "fifo.eval")
    for name in ("link.eval", "fifo.eval"):
        with pytest.raises(OSError, match=name), open_archive(tmp_path / name):
            pass


def deflate_bomb() -> bytes:
    return zip_of([Member("header.json", bytes(2**28), method=8, compressed=deflated(bytes(2**28)))])


def lying_deflate_bomb() -> bytes:
    compressed = deflated(bytes(2**28))
    return zip_of([Member("header.json", b"", method=8, compressed=compressed, claimed_size_bytes=1000)])


def zstd_bomb() -> bytes:
    zstandard = pytest.importorskip("zstandard")
    compressed = zstandard.ZstdCompressor().compress(bytes(2**28))
    return zip_of([Member("header.json", b"", method=93, compressed=compressed, claimed_size_bytes=1000)])


def zstd_window_bomb() -> bytes:
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    compressed = compressor.compress(bytes(2**27)) + compressor.flush()
    return zip_of([Member("header.json", b"", method=93, compressed=compressed, claimed_size_bytes=1000)])


def a_million_members() -> bytes:
    one = zip_of([Member("samples/1_epoch_1.json")])
    begin, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    directory = one[begin:end] * 1_000_000
    counts = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), begin, 0)
    return one[:begin] + directory + counts


def as_many_members_as_fit() -> bytes:
    members = [Member(f"samples/{number:x}_epoch_1.json") for number in range(220_000)]
    return zip_of([*members, Member("header.json", header(b'"a": 1'))])


def header(inner: bytes) -> bytes:
    return b'{"status": "success", ' + inner + b', "eval": {"task": "t"}, "stats": {}}'


def of_header(inner: bytes) -> bytes:
    content = header(inner)
    return zip_of([Member("header.json", content, method=8, compressed=deflated(content))])


def deep_json() -> bytes:
    return of_header(b'"results": {"scores": ' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}")


def wide_json() -> bytes:
    return of_header(b'"results": {"scores": [' + b'{"":0},' * 1_000_000 + b"0]}")


def dear_scores() -> bytes:
    return of_header(b'"results": {"scores": [' + b'{"":0},' * 70_000 + b"0]}")


def many_ids() -> bytes:
    ids = b'"a,",' * 1_600_000
    content = b'{"status": "success", "eval": {"dataset": {"sample_ids": [' + ids + b'1]}}, "stats": {}}'
    return zip_of([Member("header.json", content, method=8, compressed=deflated(content))])


def many_names() -> bytes:
    return of_header(b'"a":1,' * 1_300_000 + b'"b": 1')


def many_summaries() -> bytes:
    content = b"[" + b"{}," * 2_700_000 + b"{}]"
    failed = b'{"status": "error", "eval": {"task": "t"}, "stats": {}}'
    return zip_of(
        [Member("header.json", failed), Member("summaries.json", content, method=8, compressed=deflated(content))]
    )


def end_without_a_directory() -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, 16 * 2**20, 0, 0).rjust(17 * 2**20, b"\0")


MEASURE = """
import os, re, sys, time
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.files.trusted import OwnedFiles
began = time.process_time()  # of this process: a busy machine is not the file's doing
found = LogReader(OwnedFiles(os.geteuid())).logs(sys.argv[1], written_since=0)
took_s = time.process_time() - began
peak_kib = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(took_s, peak_kib, len(found.logs))
"""


def takes_little(folder: Path, what: str) -> None:
    """Reading the file there takes at most 2 s and 64 MB."""
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True, timeout=30
    )
    took_s, peak_kib, files = answer.stdout.split()
    print(what, took_s, peak_kib)
    assert float(took_s) < 2
    assert int(peak_kib) < 64 * 1024
    assert int(files) <= 1


@pytest.mark.survives("S8")
@pytest.mark.parametrize(
    "make",
    [
        deflate_bomb,
        lying_deflate_bomb,
        zstd_bomb,
        zstd_window_bomb,
        a_million_members,
        as_many_members_as_fit,
        deep_json,
        wide_json,
        dear_scores,
        many_ids,
        many_names,
        many_summaries,
        end_without_a_directory,
    ],
)
def test_a_hostile_file_takes_at_most_2_s_and_64_mb(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "hostile.eval").write_bytes(make())
    takes_little(tmp_path, make.__name__)


def deep_results() -> bytes:
    return b'{"results": ' + b"[" * 8_000_000


def wide_results() -> bytes:
    return b'{"results": {' + b'"a":{"b,c":0},' * 600_000 + b'"":{}}, "config": {}}'


def dear_results() -> bytes:
    tasks = b",".join(b'"%d":{"a,b":1}' % number for number in range(30_000))
    return b'{"results": {' + tasks + b'}, "config": {}}'


def many_samples() -> bytes:
    tasks = b",".join(b'"%d":{"effective":1}' % number for number in range(22_000))
    return b'{"results": {"a": {"b,c": 1}}, "n-samples": {' + tasks + b'}, "config": {}}'


def long_names() -> bytes:
    return b'{"results": {"' + b"n" * 250_000 + b'": {"' + b"m" * 250_000 + b'": 1}}, "config": {"model": "x"}}'


def large_numbers() -> bytes:
    return b'{"results": {"a": {"b": ' + b"9" * 500_000 + b'}}, "config": {}, "date": 1e999}'


def endless() -> bytes:
    return b'{"results": {"a": "' + b"x" * 20_000_000


@pytest.mark.survives("S8")
@pytest.mark.parametrize(
    "make",
    [
        deep_results,
        wide_results,
        many_samples,
        *(pytest.param(make, marks=pytest.mark.full) for make in (dear_results, long_names, large_numbers, endless)),
    ],
)
def test_hostile_results_of_lm_eval_take_at_most_2_s_and_64_mb(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "results_2026-11-25T17-58-37.243692.json").write_bytes(make())
    takes_little(tmp_path, make.__name__)


READ_ALL = """
import os, re, sys, time
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.files.trusted import OwnedFiles
began = time.process_time()
found = LogReader(OwnedFiles(os.geteuid()), budget_s=600).logs(sys.argv[1], written_since=0)
took_s = time.process_time() - began
peak_kib = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
assert found.incomplete is None and all(log.status != "unreadable" for log in found.logs.values())
log = next(iter(found.logs.values()))
print(took_s, peak_kib, len(found.logs), log.samples_completed, log.samples_failed, log.samples_limited)
"""


def read_all(folder: Path, *, within_s: float) -> list[str]:
    """What is read of the logs there, with at most this much CPU time and 64 MB."""
    argv = [sys.executable, "-c", READ_ALL, str(folder)]
    took_s, peak_kib, *told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert float(took_s) < within_s
    assert int(peak_kib) < 64 * 1024
    return told


def sample(number: int, **more: object) -> dict[str, object]:
    ended = {"error": "x"} if number % 10 == 0 else {"limit": "token"} if number % 10 == 1 else {}
    return {
        "id": f"sample-{number:09}-abcdef0123456789",
        "epoch": 1,
        "scores": {"match": {"value": "C"}},
        **ended,
        **more,
    }


def ended_in_an_error(ids: list[object]) -> bytes:
    spec = {"task": "t", "dataset": {"sample_ids": ids}}
    return json.dumps({"status": "error", "eval": spec, "stats": {}, "error": {"message": "x"}}).encode()


@pytest.mark.full
def test_an_archive_of_230_000_samples_is_read_correctly(tmp_path: Path) -> None:
    samples = [sample(number) for number in range(230_000)]
    members = [Member(f"samples/{one['id']}_epoch_1.json") for one in samples]
    for name, content in (
        ("summaries.json", json.dumps(samples).encode()),
        ("header.json", ended_in_an_error([one["id"] for one in samples])),
    ):
        members.append(Member(name, content, method=8, compressed=deflated(content)))
    (tmp_path / "a.eval").write_bytes(zip_of(members))
    assert read_all(tmp_path, within_s=20) == ["1", "207000", "23000", "23000"]


@pytest.mark.full
def test_264_mb_of_json_are_read_correctly(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.write(ended_in_an_error([])[:-1] + b', "samples": [')
        for number in range(9300):
            events = [{"event": "model", "data": {"k": [1, 2, "]"], "s": "e" * 400}}] * 60
            text = json.dumps(sample(number, events=events, messages=["c " * 300] * 2)).encode()
            file.write((b", " if number else b"") + text)
        file.write(b"]}")
    assert (tmp_path / "a.json").stat().st_size > 264e6
    assert read_all(tmp_path, within_s=30) == ["1", "8370", "930", "930"]


@pytest.mark.full
def test_10_000_logs_in_one_directory_are_all_read(tmp_path: Path) -> None:
    content = json.dumps([sample(number) for number in range(10)]).encode()
    log = zip_of([Member("summaries.json", content), Member("header.json", ended_in_an_error([]))])
    for number in range(10_000):
        (tmp_path / f"{number}.eval").write_bytes(log)
    assert read_all(tmp_path, within_s=20) == ["10000", "9", "1", "1"]
