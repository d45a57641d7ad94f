"""Tests one poll against failing or partial answers of Slurm, other observers, and a lost state."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import faults
from evalmon_agent.errors import LockUnavailableError, UnreadableError
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.settings import Settings
from evalmon_agent.slurm import client
from evalmon_agent.slurm.client import Slurm
from experiments import ENDED, STARTED, Exp, ended, pending, running
from fake_slurm import Job


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    return Exp(tmp_path)


def observe(exp: Exp, *jobs: Job) -> None:
    if jobs:
        exp.slurm.show(jobs)
    exp.observer().observe_once(at_least_s=0)


RUNS = ("r1/a", "PENDING", "RUNNING")
COMPLETES = ("r1/a", "RUNNING", "COMPLETED")


class TestWhatIsLogged:
    def test_each_transition_is_logged_once_however_often_slurm_shows_it(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        for job in (pending("11"), running("11"), ended("11", queued=True), ended("11")):
            observe(exp, job)
            observe(exp)
        assert exp.transitions() == [RUNS, COMPLETES]

    def test_unobserved_transitions_are_reconstructed(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, ended("11", "FAILED"))
        assert exp.transitions() == [RUNS, ("r1/a", "RUNNING", "FAILED")]

    def test_every_poll_logs_what_it_observed(self, exp: Exp) -> None:
        exp.register(r1_a="11", r1_b="12", r1_c="13")
        observe(exp, pending("11"), running("12"), ended("13", "TIMEOUT"))
        assert exp.blocks("STATUS_CHECK") == [
            "STATUS_CHECK: Polling SLURM\nResult: 3 jobs found - 1 PENDING, 1 RUNNING, 0 COMPLETED, 1 TIMEOUT"
        ]

    def test_a_poll_without_news_does_not_write_the_state(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        before = os.stat(exp.ours / "state.json")
        observe(exp)
        after = os.stat(exp.ours / "state.json")
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_a_rotated_log_gets_nothing_a_second_time(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        (exp.ours / "monitor.log").rename(exp.ours / "monitor.log.1")
        for _ in range(3):
            observe(exp)
        assert exp.news() == []
        (exp.ours / "monitor.log").write_text("")
        observe(exp, ended("11"))
        assert exp.transitions() == [COMPLETES]

    def test_a_users_note_in_the_log_stays(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        with (exp.ours / "monitor.log").open("a") as log:
            log.write("restarted the node, JB")
        observe(exp, ended("11"))
        assert "\n\nrestarted the node, JB\n\n[" in exp.log()
        assert exp.log().count("STATE_CHANGE") == 2


class TestTheQuestion:
    @pytest.mark.survives("S14")
    def test_slurm_is_not_asked_before_a_poll_is_due(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.settings = Settings(poll_interval=60.0)
        exp.slurm.show([running("11")])
        assert exp.observer().observe_once().asked
        assert not exp.observer().observe_once().asked
        assert len(exp.slurm.calls("squeue")) == 1

    @pytest.mark.survives("S14")
    def test_a_poll_is_one_squeue_and_one_sacct(self, exp: Exp) -> None:
        exp.register(**{f"r1_e{n}": str(n) for n in range(100, 150)})
        observe(exp, *(running(str(n)) for n in range(100, 125)), *(ended(str(n)) for n in range(125, 150)))
        assert Counter(call.split()[0] for call in exp.slurm.calls() if call.startswith("s")) == {
            "squeue": 1,
            "sacct": 1,
        }

    @pytest.mark.survives("S14")
    def test_every_200_jobs_gone_from_squeue_take_one_more_sacct(self, exp: Exp) -> None:
        ids = [str(n) for n in range(1000, 1450)]
        exp.register(**{f"r1_e{n}": n for n in ids})
        observe(exp, *(ended(n) for n in ids))
        assert (len(exp.slurm.calls("squeue")), len(exp.slurm.calls("sacct"))) == (1, 3)
        observe(exp)
        assert (len(exp.slurm.calls("squeue")), len(exp.slurm.calls("sacct"))) == (2, 3)

    @pytest.mark.survives("F9")
    def test_slurm_is_asked_again_if_the_clock_went_back(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.settings = Settings(poll_interval=60.0)
        exp.slurm.show([running("11")])
        exp.observer().observe_once()
        assert exp.observer(clock=lambda: time.time() - 3600).observe_once().asked


class TestSlurmFails:
    @pytest.mark.survives("F15")
    def test_each_failure_is_logged_with_one_alert_and_one_recovery(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.settings = Settings(poll_interval=1.0, alert_after=3)
        observe(exp, running("11"))
        words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        exp.slurm.fail("squeue", words)
        for _ in range(5):
            observe(exp)
        exp.slurm.mend("squeue")
        observe(exp)
        observe(exp)
        kinds = [block.partition(":")[0] for block in exp.news()]
        assert kinds == ["STATE_CHANGE", *["QUERY_ERROR"] * 3, "ALERT", *["QUERY_ERROR"] * 2, "QUERY_RECOVERED"]
        assert all(f"Error: {words}" in block for block in exp.blocks("QUERY_ERROR"))
        assert exp.transitions() == [RUNS]
        heartbeat = json.loads((exp.ours / "observer.json").read_text())
        assert (heartbeat["polls"], heartbeat["failed_polls"]) == (8, 5)

    @pytest.mark.survives("F15")
    def test_a_short_outage_causes_no_recovery_block(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.slurm.fail("squeue", "Socket timed out on send/recv operation")
        observe(exp)
        exp.slurm.mend("squeue")
        observe(exp, running("11"))
        assert [block.partition(":")[0] for block in exp.news()] == ["QUERY_ERROR", "STATE_CHANGE"]

    @pytest.mark.survives("F15")
    def test_two_outages_cause_two_alerts(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        exp.settings = Settings(poll_interval=1.0, alert_after=1)
        for _ in range(2):
            exp.slurm.fail("squeue", "Socket timed out on send/recv operation")
            observe(exp)
            exp.slurm.mend("squeue")
            observe(exp, running("11"))
        assert len(exp.blocks("ALERT")) == len(exp.blocks("QUERY_RECOVERED")) == 2

    @pytest.mark.survives("F15")
    def test_without_accounting_jobs_gone_from_squeue_are_not_over(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        exp.slurm.fail("sacct", "sacct: error: Problem talking to the database: Connection refused")
        for _ in range(3):
            observe(exp, ended("11"))
        assert exp.transitions() == [RUNS]
        assert len(exp.blocks("QUERY_ERROR")) == 3
        exp.slurm.mend("sacct")
        observe(exp)
        assert exp.transitions() == [RUNS, COMPLETES]

    @pytest.mark.survives("F14")
    @pytest.mark.parametrize("program", ["squeue", "sacct"])
    def test_a_hanging_program_ends_in_its_time_and_leaves_no_process(
        self, exp: Exp, tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        monkeypatch.setattr(client, "ASK_TIMEOUT_S", 1.0)
        pids = tmp_path / "pids"
        hangs = f"trap '' TERM; sh -c 'echo $$ >> {pids}; sleep 60' & echo $$ >> {pids}; sleep 60\n"
        exp.slurm.before(program, hangs)
        began = time.monotonic()
        observe(exp, ended("11"))
        assert time.monotonic() - began < 4
        faults.wait_until(lambda: not any(map(faults.lives, pids.read_text().split())))
        assert "Error: no answer in time; killed" in exp.blocks("QUERY_ERROR")[0]
        assert exp.transitions() == [RUNS]
        exp.slurm.mend(program)
        observe(exp)
        assert exp.transitions() == [RUNS, COMPLETES]

    @pytest.mark.survives("F17")
    @pytest.mark.parametrize("how", ["disabled", "absent"])
    def test_without_accounting_squeues_last_state_decides(self, exp: Exp, how: str) -> None:
        exp.register(r1_a="11", r1_b="12")
        if how == "absent":
            exp.slurm.remove("sacct")
        else:
            exp.slurm.fail("sacct", "Slurm accounting storage is disabled")
        observe(exp, running("11"), running("12"))
        observe(exp, ended("11", queued=True), running("12"))
        assert exp.blocks("QUERY_ERROR") == []
        assert exp.transitions() == [RUNS, ("r1/b", "PENDING", "RUNNING"), COMPLETES]

    @pytest.mark.survives("F16")
    def test_an_empty_answer_of_squeue_ends_nothing(self, exp: Exp) -> None:
        exp.register(r1_a="11", r1_b="12")
        jobs = [running("11"), pending("12")]
        observe(exp, *jobs)
        for _ in range(3):
            exp.slurm.answer("squeue", "")
            observe(exp)
        observe(exp, *jobs)
        assert exp.transitions() == [RUNS]
        assert "2 jobs found - 1 PENDING, 1 RUNNING" in exp.blocks("STATUS_CHECK")[-2]

    @pytest.mark.survives("F13")
    @pytest.mark.parametrize("answer", ["squeue", "sacct"])
    @pytest.mark.parametrize("text", [b"\xff\xfe garbage \x1e\x1f\x1e|||\n" * 50, b"0" * 100_000, b"\n\n\n"])
    def test_garbage_changes_nothing(self, exp: Exp, answer: str, text: bytes) -> None:
        exp.register(r1_a="11", r1_b="12")
        jobs = [running("11"), ended("12")]
        observe(exp, *jobs)
        before = exp.transitions()
        exp.slurm.answer(answer, text)
        observe(exp)
        assert exp.transitions() == before
        observe(exp, *jobs)
        assert exp.transitions() == before

    @pytest.mark.survives("F13")
    def test_an_answer_of_100_mb_is_discarded(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        exp.slurm.before("squeue", "while :; do cat $dir/squeue.out $dir/sinfo.out; done\n")
        exp.slurm.answer("sinfo", "x" * 1_000_000)
        observe(exp)
        assert "the answer is too large to be one" in exp.blocks("QUERY_ERROR")[0]
        assert exp.transitions() == [RUNS]

    @pytest.mark.survives("S12")
    def test_the_user_s_formats_have_no_effect(self, tmp_path: Path) -> None:
        exp = Exp(tmp_path)
        exp.register(r1_a="11")
        exp.slurm.show([ended("11")])
        seen = tmp_path / "env"
        for program in ("squeue", "sacct"):
            exp.slurm.before(program, f"env >> {seen}\n")
        formats = {"SACCT_FORMAT": "jobid", "SQUEUE_FORMAT": "%i", "SLURM_TIME_FORMAT": "relative", "LC_ALL": "de_DE"}
        slurm = Slurm({**exp.slurm.environ, **formats})
        Observer(exp.session(slurm=slurm), role="command").observe_once(at_least_s=0)
        assert exp.transitions() == [RUNS, COMPLETES]
        lines = set(seen.read_text().splitlines())
        assert {"SLURM_TIME_FORMAT=%s", "LC_ALL=C"} <= lines
        assert not any(line.startswith(("SACCT_FORMAT", "SQUEUE_FORMAT")) for line in lines)


class TestOtherObservers:
    @pytest.mark.survives("F7")
    def test_many_simultaneous_observers_lose_and_double_nothing(self, exp: Exp) -> None:
        self.hammer(exp, observers=4, evals=12, seed=1)

    @pytest.mark.survives("F7")
    @pytest.mark.full
    @pytest.mark.parametrize("kind", ["flock", "soft"])
    @pytest.mark.parametrize("seed", range(4))
    def test_very_many_simultaneous_observers_lose_and_double_nothing(self, exp: Exp, kind: str, seed: int) -> None:
        exp.experiment.prepare(group_readable=False)
        (exp.ours / "lock.json").write_text(json.dumps({"kind": kind, "filesystem": "x", "host": "h", "schema": 1}))
        self.hammer(exp, observers=10, evals=60, seed=seed)

    def hammer(self, exp: Exp, *, observers: int, evals: int, seed: int) -> None:
        """Every few milliseconds Slurm's answer changes; each observer asks, and folds when it gets the lock."""
        chance = random.Random(seed)
        ids = [str(n) for n in range(100, 100 + evals)]
        exp.register(**{f"r1_e{n}": n for n in ids})
        exp.settings = Settings(poll_interval=0.001)
        stop = exp.root / "stop"

        def observe_until_told() -> None:
            while not stop.exists():
                exp.observer().observe_once(at_least_s=0)

        pids = [faults.forked(observe_until_told) for _ in range(observers)]
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        jobs = [pending(n) for n in ids]
        try:
            for step in range(2 * len(ids)):
                number = step % len(ids)
                over = step >= len(ids)
                queued = chance.random() < 0.3
                jobs[number] = ended(ids[number], queued=queued) if over else running(ids[number])
                exp.slurm.show(jobs)
                if chance.random() < 0.1:
                    exp.slurm.answer("squeue", "")
                if chance.random() < 0.1:
                    exp.slurm.fail("squeue", "Socket timed out on send/recv operation")
                time.sleep(0.06)
                exp.slurm.mend("squeue")
        finally:
            stop.touch()
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert statuses == [0] * observers
        exp.slurm.show(jobs)
        exp.observe_to_the_end()
        expected = {(f"r1/e{n}", *step) for n in ids for step in (("PENDING", "RUNNING"), ("RUNNING", "COMPLETED"))}
        assert Counter(exp.transitions()) == Counter(expected)
        for n in ids:
            assert [current for name, _, current in exp.transitions() if name == f"r1/e{n}"] == ["RUNNING", "COMPLETED"]
        assert len(exp.blocks("COMPUTE_METRICS")) == len(ids)
        assert len(exp.blocks("ALL_COMPLETE")) == 1

    @pytest.mark.survives("F7")
    @pytest.mark.parametrize("program", ["squeue", "sacct"])
    def test_an_observer_stopped_after_asking_writes_no_wrong_line_when_it_resumes(
        self, exp: Exp, tmp_path: Path, program: str
    ) -> None:
        exp.register(r1_a="11", r1_b="12")
        jobs = [running("11"), ended("12")]
        observe(exp, pending("11"), running("12"))
        exp.slurm.show(jobs)
        asked = tmp_path / "asked"
        exp.slurm.after(program, f"printf x > {asked}; sleep 0.3\n")
        sleeper = faults.forked(lambda: exp.observer().observe_once(at_least_s=0))
        os.kill(sleeper, signal.SIGCONT)
        faults.wait_until(asked.exists)
        os.kill(sleeper, signal.SIGSTOP)
        exp.slurm.mend(program)
        for job in (running("11"), ended("11", "TIMEOUT", queued=True), ended("11", "TIMEOUT")):
            observe(exp, job, ended("12"))
        before = exp.transitions()
        assert faults.ended(sleeper) == 0
        assert exp.transitions() == before
        assert before == [
            ("r1/b", "PENDING", "RUNNING"),
            RUNS,
            ("r1/b", "RUNNING", "COMPLETED"),
            ("r1/a", "RUNNING", "TIMEOUT"),
        ]
        observe(exp)
        assert exp.transitions() == before

    @pytest.mark.survives("F7")
    def test_an_observer_that_resumes_late_does_not_undo_later_submissions(self, exp: Exp, tmp_path: Path) -> None:
        exp.register(r1_a="11")
        exp.accept("", "90", what="completion")
        observe(exp, running("11"))
        asked = tmp_path / "asked"
        exp.slurm.after("squeue", f"printf x > {asked}; sleep 0.3\n")
        sleeper = faults.forked(lambda: exp.observer().observe_once(at_least_s=0))
        os.kill(sleeper, signal.SIGCONT)
        faults.wait_until(asked.exists)
        os.kill(sleeper, signal.SIGSTOP)
        exp.slurm.mend("squeue")
        exp.accept("r1/b", "12")
        exp.accept("", "91", what="completion")
        exp.observer().record()
        assert faults.ended(sleeper) == 0
        assert exp.state()["completion"]["job_id"] == "91"
        observe(exp)
        told = [block.splitlines()[1] for block in exp.blocks("COMPLETION_SUBMITTED")]
        assert told == ["Job ID: 90", "Job ID: 91"]

    @pytest.mark.survives("F6")
    @pytest.mark.parametrize("kind", ["flock", "soft"])
    def test_while_one_observer_holds_the_lock_the_others_report_it(self, exp: Exp, kind: str) -> None:
        exp.register(r1_a="11")
        (exp.ours / "lock.json").write_text(json.dumps({"kind": kind, "filesystem": "x", "host": "h", "schema": 1}))

        def hold() -> None:
            exp.observer().transact(lambda *_: time.sleep(600) or [])

        pid = faults.forked(hold)
        os.kill(pid, signal.SIGCONT)
        faults.wait_until((exp.ours / "state.json.lock").exists)
        time.sleep(0.1)
        with pytest.raises(LockUnavailableError):
            exp.observer(lock_wait_s=0.2).observe_once()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        observe(exp, running("11"))
        assert exp.transitions() == [RUNS]


def broken_states(whole: bytes) -> dict[str, bytes]:
    text = whole.decode()
    return {
        "empty": b"",
        "zero-filled": b"\0" * len(whole),
        "zeros at its end": whole[:-100] + b"\0" * 100,
        "NaN": text.replace('"generation":', '"generation":NaN,"x":', 1).encode(),
        "NaN in a field that we do not know": whole[:-1] + b',"more":NaN}',
        "deep nesting": b"[" * 1_000_000,
        "deep nesting in a field that we do not know": whole[:-1]
        + b',"more":'
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}",
        "another type": b"[]",
        "a number": b"1",
        "bad UTF-8": whole.replace(b"r1/a", b"r1/\xff"),
        "two": whole + whole,
        "an unknown state": text.replace("COMPLETED", "SHINY").encode(),
        "a schema that is none": text.replace('"schema":1', '"schema":"x"').encode(),
    }


NAMES = sorted(broken_states(b'{"experiment":"r1/a","schema":1,"generation":1,"name":"COMPLETED"}' + b" " * 200))


class TestALostState:
    @pytest.fixture
    def ended_exp(self, exp: Exp) -> Exp:
        exp.register(r1_a="11", r1_b="12")
        observe(exp, running("11"), pending("12"))
        exp.slurm.show([ended("11"), ended("12", "FAILED")])
        exp.observe_to_the_end()
        assert len(exp.news()) == 8
        return exp

    def again(self, exp: Exp) -> list[str]:
        """The blocks of further observers, except ALERT."""
        before = exp.news()
        exp.observe_to_the_end()
        exp.observe_to_the_end()
        after = exp.news()
        assert after[: len(before)] == before
        return after[len(before) :]

    @pytest.mark.survives("F10")
    @pytest.mark.parametrize("name", NAMES)
    def test_a_damaged_state_is_set_aside_and_rebuilt_and_nothing_is_logged_twice(
        self, ended_exp: Exp, name: str
    ) -> None:
        path = ended_exp.ours / "state.json"
        broken = broken_states(path.read_bytes())[name]
        path.write_bytes(broken)
        more = self.again(ended_exp)
        aside = [found for found in ended_exp.ours.iterdir() if found.name.startswith("state.json.corrupt-")]
        assert [found.read_bytes() for found in aside] == [broken]
        assert len(more) == 1
        assert more[0].startswith(f"ALERT: state.json could not be read\nSet aside: {aside[0]}")
        assert {ev["state"] for ev in ended_exp.state()["evals"].values()} == {"COMPLETED", "FAILED"}

    @pytest.mark.survives("F10")
    def test_a_state_of_a_gigabyte_is_not_read(self, ended_exp: Exp) -> None:
        path = ended_exp.ours / "state.json"
        os.truncate(path, 1 << 30)
        began = time.monotonic()
        more = self.again(ended_exp)
        assert time.monotonic() - began < 2
        assert [block.partition("\n")[0] for block in more] == ["ALERT: state.json could not be read"]

    def cut_everywhere(self, exp: Exp, *, step: int) -> None:
        path, log = exp.ours / "state.json", exp.ours / "monitor.log"
        whole, logged = path.read_bytes(), log.read_bytes()
        before = exp.news()
        for length in range(0, len(whole), step):
            path.write_bytes(whole[:length])
            log.write_bytes(logged)
            exp.observe_to_the_end()
            after = exp.news()
            assert (after[: len(before)], len(after)) == (before, len(before) + 1), length
            assert after[-1].startswith("ALERT: state.json could not be read")
            for aside in exp.ours.glob("state.json.corrupt-*"):
                aside.unlink()

    @pytest.mark.survives("F10")
    def test_a_state_cut_at_a_byte_is_rebuilt(self, ended_exp: Exp) -> None:
        self.cut_everywhere(ended_exp, step=211)

    @pytest.mark.survives("F10")
    @pytest.mark.full
    def test_a_state_cut_at_any_byte_is_rebuilt(self, ended_exp: Exp) -> None:
        self.cut_everywhere(ended_exp, step=1)

    def test_two_damaged_states_within_one_second_are_both_kept(self, ended_exp: Exp) -> None:
        path = ended_exp.ours / "state.json"
        for text in (b"one", b"two"):
            path.write_bytes(text)
            ended_exp.observer(clock=lambda: 1_800_000_000.0).record()
        aside = sorted(found.read_bytes() for found in ended_exp.ours.glob("state.json.corrupt-*"))
        assert aside == [b"one", b"two"]

    def test_a_missing_state_is_rebuilt_and_nothing_is_logged(self, ended_exp: Exp) -> None:
        (ended_exp.ours / "state.json").unlink()
        assert self.again(ended_exp) == []

    def test_a_state_lost_between_two_transitions_loses_none(self, exp: Exp) -> None:
        exp.register(r1_a="11")
        observe(exp, running("11"))
        (exp.ours / "state.json").unlink()
        observe(exp, ended("11"))
        assert exp.transitions() == [RUNS, COMPLETES]

    @pytest.mark.survives("F11")
    def test_a_state_with_a_newer_schema_is_refused_and_left_alone(self, ended_exp: Exp) -> None:
        path = ended_exp.ours / "state.json"
        newer = json.dumps({"schema": 2, "evals": "something else"}).encode()
        for content in (newer, path.read_bytes().replace(b'"schema":1', b'"schema":2')):
            path.write_bytes(content)
            with pytest.raises(UnreadableError, match="written by a newer evalmon") as caught:
                ended_exp.observer().observe_once(at_least_s=0)
            assert caught.value.exit_status == 78
            assert path.read_bytes() == content

    @pytest.mark.survives("F11")
    def test_unknown_members_of_the_same_schema_are_ignored(self, exp: Exp) -> None:
        exp.register(r1_a="11", r1_b="12")
        observe(exp, running("11"), pending("12"))
        path = exp.ours / "state.json"
        state = json.loads(path.read_text())
        state["more"] = {"deep": [1, {"x": None}]}
        state["evals"]["r1/a"]["colour"] = "red"
        state["evals"]["r1/a"]["jobs"][0]["weight"] = 1.5
        state["evals"]["r1/a"]["jobs"][0]["attempts"][0]["site"] = "x"
        path.write_text(json.dumps(state))
        observe(exp, ended("11"), ended("12"))
        exp.observe_to_the_end()
        after = exp.state()
        assert "more" not in after
        assert "colour" not in after["evals"]["r1/a"]
        assert after["evals"]["r1/a"]["state"] == "COMPLETED"
        assert not list(exp.ours.glob("state.json.corrupt-*"))
        before = path.read_bytes()
        exp.observe_to_the_end()
        assert path.read_bytes() == before


@pytest.mark.survives("F12")
def test_a_torn_registry_loses_no_whole_record(exp: Exp) -> None:
    exp.register(r1_a="11", r1_b="12")
    path = exp.ours / "registry.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    second = len(b"".join(lines[:2]))
    for length in [*range(second, len(whole) - 2, 5), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        (exp.ours / "state.json").unlink(missing_ok=True)
        exp.observer().record()
        accepted = {"r1/a", "r1/b"} if length >= len(whole) - 1 else {"r1/a"}
        assert set(exp.state()["evals"]) == accepted
        exp.accept("r1/c", "13")
        exp.observer().record()
        assert set(exp.state()["evals"]) == {*accepted, "r1/c"}


@pytest.mark.survives("F1")
def test_old_temporary_files_are_removed_by_the_next_poll(exp: Exp) -> None:
    exp.register(r1_a="11")
    for place in (exp.ours, exp.ours / "jobs"):
        for name in (".state.json.0123456789abcdef.tmp", ".11.json.0123456789abcdef.tmp"):
            (place / name).touch()
            os.utime(place / name, (0, 0))
    observe(exp, running("11"))
    assert exp.temporaries() == []


def test_the_logs_time_stamps_are_those_of_the_events(exp: Exp) -> None:
    exp.register(r1_a="11")
    observe(exp, ended("11"))
    first, last = exp.blocks("STATE_CHANGE")
    assert f"At: {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(STARTED))}" in first
    assert f"Completed: {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(ENDED))}" in last
