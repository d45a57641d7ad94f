"""Tests that the experiment's files are read as they were written, and other content is never accepted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import as_root
import faults
from evalmon_agent.errors import LockUnavailableError, UnreadableError, UsageError
from evalmon_agent.experiment import experiment_lock as lock_file
from evalmon_agent.experiment import reports, settings_file, state
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import choice, locked
from evalmon_agent.experiment.ledger import Ledger
from evalmon_agent.experiment.state import Heartbeat
from evalmon_agent.settings import Settings
from evalmon_agent.tracking.records import Witness
from evalmon_agent.tracking.registry import Abandoned, Accepted, Entries, Intent, Refused, Submission


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    found = Experiment.at(str(tmp_path))
    found.prepare(group_readable=False)
    return found


class TestWhere:
    def test_an_experiment_is_a_directory_with_its_links_resolved(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert Experiment.at(str(tmp_path / "link")).root == str(tmp_path / "real")
        (tmp_path / "file").touch()
        for path in ("gone", "file", ""):
            with pytest.raises(UsageError, match=r"(no such|not a) directory"):
                Experiment.at(str(tmp_path / path) if path else "")

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
    @pytest.mark.parametrize("readable", [False, True])
    def test_the_directories_get_exactly_their_mode(self, tmp_path: Path, umask: int, *, readable: bool) -> None:
        found = Experiment.at(str(tmp_path))
        before = os.umask(umask)
        try:
            for group_readable in (not readable, readable):
                found.prepare(group_readable=group_readable)
        finally:
            os.umask(before)
        for path in (found.directory, found.jobs, found.scripts):
            assert stat.S_IMODE(os.stat(path).st_mode) == (0o750 if readable else 0o700)

    def test_a_path_is_shown_relative_to_the_experiment(self, experiment: Experiment) -> None:
        assert experiment.relative(f"{experiment.root}/r/eval") == "r/eval"
        assert experiment.relative(f"{experiment.root}x/r") == f"{experiment.root}x/r"

    def test_a_file_in_place_of_the_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "evalmon").write_text("mine")
        with pytest.raises(UsageError, match="not a directory"):
            Experiment.at(str(tmp_path)).prepare(group_readable=False)
        assert (tmp_path / "evalmon").read_text() == "mine"

    @faults.needs_strace
    def test_a_read_only_file_system_is_reported_before_anything_is_done(self, tmp_path: Path) -> None:
        found = Experiment.at(str(tmp_path))

        def work() -> None:
            with pytest.raises(UsageError, match="you cannot write there"):
                found.check()

        assert faults.refused_always(work, "access,faccessat,faccessat2", "EROFS") == 0


class TestLedger:
    RECORDS = (
        Intent(Submission("r/t/epoch1", "/s", "/o", (0, 1), ("--mem=2G",), "a"), 1.5, "host", 7),
        Accepted("a", "11", 2.0, cluster="c"),
        Intent(Submission(token="b", what="sidecar"), 3.0, "host", 7),
        Refused("b", "no\nnever", 4.0),
        Abandoned("c", 5.0),
    )

    def test_records_are_read_back_as_written(self, experiment: Experiment) -> None:
        for record in self.RECORDS:
            experiment.ledger.append(record)
        assert experiment.ledger.entries() == list(Entries(self.RECORDS))
        assert len(Path(experiment.registry).read_bytes().split(b"\n")) == len(self.RECORDS) + 1

    def test_a_missing_registry_has_no_records(self, experiment: Experiment) -> None:
        assert experiment.ledger.entries() == []

    def test_reading_after_each_record_gives_the_same_as_reading_once(self, experiment: Experiment) -> None:
        looker, writer = Ledger(experiment.registry), Ledger(experiment.registry)
        for count, record in enumerate(self.RECORDS, 1):
            writer.append(record)
            assert looker.entries() == list(Entries(self.RECORDS[:count])) == Ledger(experiment.registry).entries()

    def test_a_reading_covers_only_what_was_appended_since_the_last(self, experiment: Experiment) -> None:
        for number in range(300):
            experiment.ledger.append(Intent(Submission(f"r/{number}", "/s", token=f"{number:016x}"), 1.0, "host", 7))
        ledger = Ledger(experiment.registry)
        ledger.entries()
        ledger.append(self.RECORDS[0])
        before = faults.bytes_read()
        assert len(ledger.entries()) == 301
        assert faults.bytes_read() - before < 2000 < os.path.getsize(experiment.registry) / 10

    @pytest.mark.survives("F12")
    @pytest.mark.forges_files
    @pytest.mark.parametrize("line", [b"garbage", b"{", b"[]", b'{"kind":"adopted"}', b"\xff", b"[" * 100_000])
    def test_a_line_that_is_no_record_is_skipped(self, experiment: Experiment, line: bytes) -> None:
        experiment.ledger.append(self.RECORDS[0])
        looker = Ledger(experiment.registry)
        for data in (line, b"\n"):
            with open(experiment.registry, "ab") as file:
                file.write(data)
            assert (looker.entries(), looker.torn_lines()) == (list(Entries(self.RECORDS[:1])), 1)
        experiment.ledger.append(self.RECORDS[1])
        for ledger in (looker, experiment.ledger):
            assert (ledger.entries(), ledger.torn_lines()) == (list(Entries(self.RECORDS[:2])), 1)

    @pytest.mark.survives("F12")
    def test_a_record_seen_while_it_is_written_counts_once_complete(self, experiment: Experiment) -> None:
        experiment.ledger.append(self.RECORDS[0])
        size = len(Path(experiment.registry).read_bytes())
        experiment.ledger.append(self.RECORDS[1])
        whole = Path(experiment.registry).read_bytes()
        Path(experiment.registry).write_bytes(whole[:size])
        looker = Ledger(experiment.registry)
        for end in range(size, len(whole)):
            with open(experiment.registry, "ab") as file:
                file.write(whole[end : end + 1])
            # The newline is not required.
            assert looker.entries() == list(Entries(self.RECORDS[: 2 if end >= len(whole) - 2 else 1]))
        experiment.ledger.append(self.RECORDS[2])
        assert looker.entries() == list(Entries(self.RECORDS[:3]))

    @pytest.mark.parametrize("how", ["replaced", "cut", "cut and grown", "gone", "rewritten in place"])
    def test_a_replaced_file_is_read_from_its_start(self, experiment: Experiment, how: str) -> None:
        path = Path(experiment.registry)
        experiment.ledger.append(self.RECORDS[0])
        first = path.read_bytes()
        experiment.ledger.append(self.RECORDS[2])
        looker = Ledger(experiment.registry)
        assert looker.entries() == list(Entries([self.RECORDS[0], self.RECORDS[2]]))
        other = first.replace(b"epoch1", b"epoch2") + path.read_bytes()[len(first) :]
        if how == "replaced":
            (path.parent / "new").write_bytes(other)
            (path.parent / "new").rename(path)
            assert [entry.submission.name for entry in looker.entries()] == ["r/t/epoch2", ""]
        elif how == "gone":
            path.unlink()
            assert looker.entries() == []
        elif how == "rewritten in place":
            path.write_bytes(b"\n" + first + first.replace(b'"a"', b'"z"'))
            assert [entry.token for entry in looker.entries()] == ["a", "z"]
        else:
            path.write_bytes(first)
            if how == "cut and grown":
                experiment.ledger.append(Intent(Submission(token="d" * 300, what="sidecar"), 3.0, "host", 7))
            assert [entry.token for entry in looker.entries()] == ["a", "d" * 300][: 1 + (how != "cut")]

    @pytest.mark.survives("F11")
    @pytest.mark.parametrize(
        "line", ['{"kind":"intent","schema":2}', '{"kind":"abandoned","token":"t","at":1,"schema":2}']
    )
    def test_a_newer_schema_is_refused_at_each_reading(self, experiment: Experiment, line: str) -> None:
        experiment.ledger.append(self.RECORDS[0])
        experiment.ledger.entries()
        with open(experiment.registry, "a", encoding="ascii") as file:
            file.write(f"{line}\n")
        for _ in range(2):
            with pytest.raises(UnreadableError, match="newer evalmon"):
                experiment.ledger.entries()


class TestHeartbeat:
    def test_the_heartbeat_is_read_back(self, experiment: Experiment) -> None:
        beat = Heartbeat("sidecar", "host", 7, "70", polled_at=1.5, last_error="x")
        state.save_heartbeat(experiment, beat)
        assert state.load_heartbeat(experiment) == beat

    @pytest.mark.survives("F10")
    @pytest.mark.parametrize(
        "text", [b"", b"{", b"\0" * 100, b"[]", b'{"role":"king"}', b" " * 100_000, b'{"x":' + b"[" * 60_000]
    )
    def test_an_unreadable_heartbeat_is_none(self, experiment: Experiment, text: bytes) -> None:
        Path(experiment.observer).write_bytes(text)
        assert state.load_heartbeat(experiment) is None

    @pytest.mark.survives("F11")
    @pytest.mark.parametrize("text", ['{"role":"king","schema":2}', '{"role":"sidecar","host":"h","pid":1,"schema":2}'])
    def test_a_newer_heartbeat_is_refused_and_left_alone(self, experiment: Experiment, text: str) -> None:
        Path(experiment.observer).write_text(text)
        with pytest.raises(UnreadableError, match="newer evalmon"):
            state.load_heartbeat(experiment)
        assert Path(experiment.observer).read_text() == text


class TestReports:
    def write(self, experiment: Experiment, file: str, **report: object) -> Path:
        path = Path(experiment.jobs) / file
        path.write_text(json.dumps({"schema": 1, "job_id": file.removesuffix(".json"), "attempts": [], **report}))
        return path

    def test_only_changed_files_are_opened(self, experiment: Experiment) -> None:
        self.write(experiment, "11.json", name="r/t")
        self.write(experiment, "12_3.json")
        first = {report.source: report for report in reports.changed(experiment.jobs, {})}
        assert set(first) == {"11.json", "12_3.json"}
        known = {source: report.version for source, report in first.items()}
        assert list(reports.changed(experiment.jobs, known)) == []
        self.write(experiment, "11.json", name="other")
        assert [report.name for report in reports.changed(experiment.jobs, known)] == ["other"]

    def test_the_batch_component_of_a_het_job_reports_for_its_job(self, experiment: Experiment) -> None:
        self.write(experiment, "11+0.json", attempts=[{"restart": 0}])
        self.write(experiment, "11+1.json")
        found = {report.source: report for report in reports.changed(experiment.jobs, {})}
        assert {source: report.job_id for source, report in found.items()} == {"11+0.json": "11", "11+1.json": "11+1"}
        assert reports.unread(experiment.jobs) == []

    def test_eval_programs_of_steps_are_part_of_the_jobs_report(self, experiment: Experiment) -> None:
        def write(file: str, node: str, *programs: dict[str, object], nodes: int = 3, **more: object) -> None:
            command = {"elapsed_s": 9.0, "witness": {"by": "cgroup", "left_out": 1}}
            attempt = {"boot_id": node, "node": node, "nodes": nodes, "commands": [command], "programs": programs}
            self.write(experiment, file, job_id="11", attempts=[{"restart": 0, **attempt, **more}])

        def program(pid: int, *logs: str) -> dict[str, object]:
            wrote = [{"name": log} for log in logs]
            return {"kind": "inspect-ai", "started_at": 1.0, "pid": pid, "start_ticks": 7, "wrote": wrote}

        def seen(known: dict[str, str]) -> tuple[list[list[str]], int, int]:
            [report] = reports.changed(experiment.jobs, known)
            known[report.source] = report.version
            [attempt] = report.attempts
            assert attempt.witness is not None
            assert list(reports.changed(experiment.jobs, known)) == []
            logs = [[written.name for written in program.wrote] for program in attempt.eval_programs]
            return logs, attempt.witness.left_out, attempt.witness.nodes_unseen

        known: dict[str, str] = {}
        write("11.json", "n1", program(5, "a"))
        assert seen(known) == ([["a"]], 1, 2)
        write("11.0.0.json", "n1", program(5, "a", "b"), scope="part")
        assert seen(known) == ([["a", "b"]], 2, 2)
        write("11.0.1.json", "n2", program(5, "c"), scope="part")
        assert seen(known) == ([["a", "b"], ["c"]], 3, 1)
        write("11.0.1.json", "n2", program(5, "d"), scope="part")
        assert seen(known) == ([["a", "b"], ["d"]], 3, 1)
        write("11.1.0.json", "n3", program(5, "e"), scope="part", restart=1)
        assert seen(known) == ([["a", "b"], ["d"]], 3, 1)

    def test_an_incomplete_reading_of_very_many_tasks_is_reported(self, experiment: Experiment) -> None:
        self.write(experiment, "11.json", attempts=[{"commands": [{"witness": {"by": "cgroup"}}]}])
        for task in range(1002):
            self.write(experiment, f"11.0.{task}.json", job_id="11")
        [report] = reports.changed(experiment.jobs, {})
        assert [attempt.witness and attempt.witness.left_out for attempt in report.attempts] == [2]

    @pytest.mark.parametrize(
        "name", ["x.json", "11.txt", "0.json", ".11.json.0123456789abcdef.tmp", "11.json.corrupt-1"]
    )
    def test_other_file_names_are_ignored(self, experiment: Experiment, name: str) -> None:
        self.write(experiment, name)
        assert list(reports.changed(experiment.jobs, {})) == []

    def test_a_report_with_a_newer_schema_is_skipped(self, experiment: Experiment) -> None:
        self.write(experiment, "11.json", schema=2)
        assert list(reports.changed(experiment.jobs, {})) == []

    @pytest.mark.parametrize("restart", [-1, reports.MAX_RESTARTS + 1])
    def test_an_impossible_restart_count_is_ignored(self, experiment: Experiment, restart: int) -> None:
        self.write(experiment, "11.json", attempts=[{"restart": restart, "started_at": 1.0}])
        assert list(reports.changed(experiment.jobs, {})) == []

    @pytest.mark.survives("F12")
    def test_a_report_torn_at_any_byte_is_skipped_and_counted(self, experiment: Experiment) -> None:
        path = self.write(experiment, "11.json", attempts=[{"restart": 0, "started_at": 1.0, "exit_code": 3}])
        whole = path.read_bytes()
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            assert list(reports.changed(experiment.jobs, {})) == []
            assert reports.unread(experiment.jobs) == ["11.json"]
        path.write_bytes(whole)
        assert reports.unread(experiment.jobs) == []

    def test_a_missing_directory_has_no_reports(self, tmp_path: Path) -> None:
        assert list(reports.changed(str(tmp_path / "gone"), {})) == []

    def test_a_written_report_is_read_back(self, experiment: Experiment) -> None:
        attempt = {
            "restart": 1,
            "host": "n1",
            "started_at": 1.0,
            "ended_at": 2.0,
            "elapsed_s": 1.0,
            "exit_code": 3,
            "signal": None,
            "scope": "job",
            "token": "abc",
            "output_dir": "/o",
            "notes": ["n"],
            "commands": [{"exit_code": 9}],
            "sampler": {"interval_ms": 2500, "troubles": []},
            "later": "unknown",
        }
        self.write(experiment, "11.json", name="r/t", attempts=[attempt])
        (found,) = reports.changed(experiment.jobs, {})
        assert (found.name, found.output_dir, found.tokens) == ("r/t", "/o", frozenset({"abc"}))
        (own,) = found.attempts
        assert (own.restart, own.exit_code, own.whole_job, own.notes) == (1, 3, True, ["n"])
        assert own.sample_interval_s == 2.5

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [("no GPU is the job's: Slurm set no GPU variable", True), ("NVML shows no GPU", False), (None, False)],
    )
    def test_a_job_has_no_gpu_only_if_slurm_gave_it_none(
        self, experiment: Experiment, reason: str | None, expected: bool
    ) -> None:
        self.write(experiment, "11.json", attempts=[{"sampler": {"no_gpu_file": reason}}])
        (found,) = reports.changed(experiment.jobs, {})
        assert expected is found.attempts[0].has_no_gpu

    def test_the_recorded_eval_programs_and_the_nodes_with_a_witness_are_read(self, experiment: Experiment) -> None:
        wrote = [{"name": "a.eval", "path": None, "directory_sha256": "0a", "known_by": ["name"], "new": 1}]
        program = {"kind": "inspect-ai", "pid": 1, "started_at": 5.0, "ended_at": None, "options": None, "wrote": wrote}
        looked = {"by": "cgroup", "every_s": 1.0, "since": 4.0, "until": 9.0, "looks": 5, "left_out": 2}
        commands = [{"witness": looked}, {"witness": {**looked, "until": 20.0}}, {"elapsed_s": 0.3}]
        self.write(experiment, "11.json", attempts=[{"commands": commands, "programs": [program]}])
        (found,) = reports.changed(experiment.jobs, {})
        [attempt] = found.attempts
        assert attempt.witness == Witness("cgroup", 4.0, 20.0, left_out=4)
        [seen] = attempt.eval_programs
        assert (seen.kind, seen.started_at, seen.options) == ("inspect-ai", 5.0, None)
        assert [(log.name, log.is_certain) for log in seen.wrote] == [("a.eval", True)]

    @pytest.mark.parametrize("commands", [[], [{"elapsed_s": 60.0}], [{"witness": {"by": None}}]])
    def test_without_a_witness_no_programs_are_known(self, experiment: Experiment, commands: list[Any]) -> None:
        self.write(experiment, "11.json", attempts=[{"commands": commands}])
        (found,) = reports.changed(experiment.jobs, {})
        assert found.attempts[0].witness is None

    def test_the_last_of_several_commands_decides_the_end_if_none_is_the_job(self, experiment: Experiment) -> None:
        commands = [{"exit_code": 0}, {"exit_code": 7}]
        self.write(experiment, "11.json", attempts=[{"scope": "commands", "commands": commands}])
        (found,) = reports.changed(experiment.jobs, {})
        assert (found.attempts[0].exit_code, found.attempts[0].whole_job) == (7, False)


class TestSettings:
    def test_without_a_file_the_defaults_apply(self, experiment: Experiment) -> None:
        assert settings_file.load(experiment.settings, environ={}) == Settings()

    def test_the_users_own_link_is_followed(self, experiment: Experiment, tmp_path: Path) -> None:
        (tmp_path / "shared.yaml").write_text("alert_after: 2\n")
        os.symlink(tmp_path / "shared.yaml", experiment.settings)
        assert settings_file.load(experiment.settings, environ={}).alert_after == 2

    @pytest.mark.survives("S1")
    @pytest.mark.parametrize("kind", ["fifo", "directory"])
    def test_anything_but_a_regular_file_is_refused_at_once(
        self, experiment: Experiment, kind: str, tmp_path: Path
    ) -> None:
        faults.plant(kind, Path(experiment.settings), tmp_path)
        with pytest.raises(UnreadableError, match="cannot be read"):
            settings_file.load(experiment.settings, environ={})

    @pytest.mark.survives("S9")
    def test_a_too_large_file_is_refused(self, experiment: Experiment) -> None:
        Path(experiment.settings).write_text("#" * 100_000)
        with pytest.raises(UnreadableError, match="more than 64 KiB"):
            settings_file.load(experiment.settings, environ={})


class TestLockChoice:
    def test_the_lock_is_chosen_once_and_kept(self, experiment: Experiment) -> None:
        made = choice(experiment)
        assert made.kind == "flock"
        path = Path(experiment.lock_choice)
        before = path.stat().st_ino
        assert choice(experiment) == made
        assert path.stat().st_ino == before
        assert os.listdir(experiment.directory).count("lock.json") == 1

    @pytest.mark.survives("F5")
    def test_one_of_many_simultaneous_processes_chooses_and_all_obey(self, experiment: Experiment) -> None:
        kinds = Path(experiment.root) / "kinds"
        kinds.mkdir()

        def choose(number: int) -> None:
            (kinds / str(number)).write_text(choice(experiment).kind)

        assert faults.crowd(12, choose) == [0] * 12
        assert {path.read_text() for path in kinds.iterdir()} == {"flock"}
        assert [name for name in os.listdir(experiment.directory) if "lock" in name] == ["lock.json"]

    @pytest.mark.survives("F5")
    @faults.needs_strace
    @pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
    def test_where_flock_is_refused_the_other_kind_and_the_reason_are_recorded(
        self, experiment: Experiment, error: str
    ) -> None:
        def work() -> None:
            with locked(experiment):
                assert Path(experiment.lock).read_bytes()

        assert faults.refused_always(work, "flock", error) == 0
        made = choice(experiment)
        assert (made.kind, made.why) == (
            "soft",
            f"{made.filesystem} is of one machine, whose kernel sees every flock, but flock is refused here",
        )
        # Hosts where flock works obey the choice.
        with locked(experiment):
            assert Path(experiment.lock).read_bytes()

    @pytest.mark.survives("F5")
    @faults.needs_strace
    def test_an_unavailable_file_system_leads_to_no_choice(self, experiment: Experiment) -> None:
        assert faults.refused_always(lambda: choice(experiment), "flock", "EIO") == 1
        assert not os.path.exists(experiment.lock_choice)

    @pytest.mark.survives("F5")
    def test_an_nfs_server_and_its_clients_do_not_share_flock(self, experiment: Experiment) -> None:
        Path(experiment.lock_choice).write_text(json.dumps({"kind": "flock", "filesystem": "nfs4", "host": "node7"}))
        says = (
            f"chose them, node7; run evalmon there, or once no monitor runs remove {experiment.lock_choice} and begin"
        )
        with pytest.raises(LockUnavailableError, match=says), locked(experiment):
            pass

    @pytest.mark.survives("F5")
    @as_root.needs_root
    def test_an_nfs_server_chooses_a_lock_that_its_clients_obey(self, experiment: Experiment) -> None:
        table = Path("/var/lib/nfs/etab")
        if table.exists():
            pytest.skip("this machine is an NFS server")
        made = not table.parent.exists()
        exported = f"{experiment.root}\t*(rw,sync)\n"
        as_root.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", table, input=exported)
        try:
            assert choice(experiment).kind == "soft"
        finally:
            as_root.run("rm", table)
            if made:
                as_root.run("rmdir", table.parent)

    @pytest.mark.survives("F5")
    @faults.needs_strace
    @pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])
    def test_without_hard_links_the_choice_is_recorded_too(self, experiment: Experiment, error: str) -> None:
        assert faults.refused_always(lambda: choice(experiment), "link,linkat", error) == 0
        assert json.loads(Path(experiment.lock_choice).read_text())["kind"] == "flock"
        assert sorted(os.listdir(experiment.directory)) == [
            "experiment.json",
            "jobs",
            "lock.json",
            "lock.json.lock",
            "scripts",
        ]

    @pytest.mark.survives("F5")
    @faults.needs_strace
    def test_with_neither_flock_nor_links_the_error_says_what_to_do(self, experiment: Experiment) -> None:
        def work() -> None:
            with pytest.raises(LockUnavailableError, match="use another file system") as caught, locked(experiment):
                pass
            assert caught.value.exit_status == 75

        Path(experiment.lock_choice).write_text(json.dumps({"kind": "soft", "filesystem": "x", "host": "h"}))
        assert faults.refused_always(work, "link,linkat", "EPERM") == 0
        os.unlink(experiment.lock_choice)
        options = [
            word for call in ("flock:error=ENOSYS", "link,linkat:error=EPERM") for word in ("-e", f"inject={call}")
        ]
        assert faults.under(work, "-e", "trace=flock,link,linkat", *options) == 0

    @pytest.mark.survives("F1")
    @faults.needs_strace
    @pytest.mark.parametrize("lacking", ["", "link"])
    def test_a_kill_during_the_choice_lets_the_next_process_choose(
        self, experiment: Experiment, tmp_path: Path, lacking: str
    ) -> None:
        options = ["-e", f"inject={lacking}:error=EPERM"] if lacking else []
        found = faults.points(lambda: choice(experiment), tmp_path / "trace", options=options)
        assert len(found) > 10
        for point in found:
            Path(experiment.lock_choice).unlink(missing_ok=True)
            faults.killed_at(lambda: choice(experiment), point, options=options)
            assert choice(experiment).kind == "flock"

    @pytest.mark.survives("F10")
    @pytest.mark.parametrize(
        "text",
        ["", "{", '{"kind":"flock"}', '{"kind":"lease","filesystem":null,"host":"h"}', '{"x":' + "[" * 4000],
    )
    def test_an_unreadable_choice_stops_every_process(self, experiment: Experiment, text: str) -> None:
        Path(experiment.lock_choice).write_text(text)
        with pytest.raises(UnreadableError, match="remove it while no monitor runs"):
            choice(experiment)
        assert Path(experiment.lock_choice).read_text() == text

    @pytest.mark.survives("F11")
    def test_a_newer_choice_is_refused(self, experiment: Experiment) -> None:
        Path(experiment.lock_choice).write_text('{"kind":"flock","filesystem":null,"host":"h","schema":2}')
        with pytest.raises(UnreadableError, match="newer evalmon"):
            choice(experiment)

    @pytest.mark.survives("F5")
    @pytest.mark.parametrize("kind", ["flock", "soft"])
    def test_every_host_obeys_the_recorded_kind(self, experiment: Experiment, kind: str) -> None:
        Path(experiment.lock_choice).write_text(json.dumps({"kind": kind, "filesystem": "x", "host": "h"}))
        with locked(experiment):
            # A soft lock has the holder as its content.
            assert bool(Path(experiment.lock).read_bytes()) == (kind == "soft")

    @pytest.mark.survives("F5")
    @faults.needs_strace
    def test_a_host_whose_flock_others_do_not_see_refuses(self, experiment: Experiment) -> None:
        """Here: a host that cannot find out how the directory is mounted."""
        Path(experiment.lock_choice).write_text(json.dumps({"kind": "flock", "filesystem": "nfs", "host": "h"}))
        assert lock_file.mount_at(experiment.directory) is not None

        def work() -> None:
            with pytest.raises(LockUnavailableError, match="run evalmon there"), locked(experiment):
                pass

        pid = faults.forked(work)
        options = ("-P", "/proc/self/mountinfo", "-e", "inject=openat:error=EACCES")
        with faults.traced(pid, "-o", "/dev/null", "-e", "trace=openat", *options):
            assert faults.ended(pid) == 0
