"""Tests the client with programs that answer, refuse, hang, flood or are missing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalmon_agent.errors import StoppedError
from evalmon_agent.slurm import client, sbatch
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure, FailureKind
from evalmon_agent.words.job_id import JobId
from experiments import ended, running
from fake_slurm import FakeSlurm


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path)


def slurm(fake: FakeSlurm, **more: str) -> Slurm:
    return Slurm({**fake.environ, **more})


def failure(answer: object) -> Failure:
    assert isinstance(answer, Failure), answer
    return answer


def test_an_answer_is_returned_as_records(fake: FakeSlurm) -> None:
    fake.show([running("11"), ended("12", queued=False)])
    queue = slurm(fake).queue()
    assert not isinstance(queue, Failure)
    assert [(row.job_id, row.state) for row in queue.rows] == [("11", "RUNNING")]
    account = slurm(fake).account(["11", "12"])
    assert not isinstance(account, Failure)
    assert [(job.job_id, job.state) for job in account.jobs] == [("11", "RUNNING"), ("12", "COMPLETED")]
    partitions = slurm(fake).partitions()
    assert not isinstance(partitions, Failure)
    assert [(p.name, p.is_default, p.time_limit_s) for p in partitions] == [("main", True, 86400.0)]


@pytest.mark.survives("S15")
def test_queries_about_jobs_or_partitions_include_hidden_partitions(fake: FakeSlurm) -> None:
    asking = slurm(fake)
    asking.queue()
    asking.ends_at("11")
    asking.is_preempted("11")
    asking.partitions()
    asking.node_memory()
    calls = [call for program in ("squeue", "sinfo", "scontrol") for call in fake.calls(program)]
    assert len(calls) == 5
    assert [call for call in calls if "-a" not in call.split()] == []


@pytest.mark.survives("F13")
def test_no_name_can_contain_accountings_delimiter(fake: FakeSlurm) -> None:
    fake.show([ended("11", name="evil\nx|y")])
    for _ in range(2):
        account = slurm(fake).account(["11"])
        assert not isinstance(account, Failure)
        assert account.jobs[0].name == "evil\nx|y"
    delimiters = {call.split("--delimiter=")[1].split(" ")[0] for call in fake.calls("sacct")}
    assert len(delimiters) == 2


@pytest.mark.survives("F15")
@pytest.mark.parametrize(
    ("program", "words", "kind"),
    [
        ("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", FailureKind.NO_NEWS),
        ("squeue", "slurm_load_jobs error: Socket timed out on send/recv operation", FailureKind.NO_NEWS),
        ("sacct", "sacct: error: Problem talking to the database: Connection refused", FailureKind.NO_NEWS),
        ("sacct", "Slurm accounting storage is disabled", FailureKind.ACCOUNTING_DISABLED),
        ("sinfo", "something else", FailureKind.UNUSABLE),
    ],
)
def test_a_failure_has_its_kind_and_reason(fake: FakeSlurm, program: str, words: str, kind: FailureKind) -> None:
    fake.fail(program, words)
    asks = {"squeue": slurm(fake).queue, "sacct": lambda: slurm(fake).account(["1"]), "sinfo": slurm(fake).partitions}
    assert failure(asks[program]()) == Failure(kind, words)


def test_a_missing_program_is_a_failure(fake: FakeSlurm) -> None:
    fake.remove("squeue")
    assert not slurm(fake).has("squeue")
    assert failure(slurm(fake).queue()).kind is FailureKind.UNUSABLE


@pytest.mark.parametrize("path", ["", ".", "relative/bin", "/nonexistent"])
def test_programs_are_not_looked_for_in_the_working_directory(
    fake: FakeSlurm, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fake.bin)
    assert not slurm(fake, PATH=path).has("squeue")


@pytest.mark.survives("F14")
def test_a_hanging_program_is_no_news(fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ASK_TIMEOUT_S", 0.3)
    fake.before("squeue", "sleep 60\n")
    began = time.monotonic()
    done = slurm(fake)._ask(["squeue"], timeout_s=0.3)
    assert time.monotonic() - began < 1.3
    assert done.timed_out
    assert client._failure(done) == Failure(FailureKind.NO_NEWS, "no answer in time; killed")


def test_a_stop_request_ends_a_query_but_never_a_submission(fake: FakeSlurm) -> None:
    stopping = Slurm(fake.environ, stopped=lambda: True)
    fake.before("squeue", "sleep 60\n")
    fake.before("sbatch", "sleep 0.5\n")
    with pytest.raises(StoppedError):
        stopping.queue()
    assert stopping.submit(sbatch.argv("/x/script"), cwd="/").job_id == "1001"


class TestSubmit:
    def test_submit_returns_the_id_that_sbatch_prints(self, fake: FakeSlurm) -> None:
        said = slurm(fake).submit(sbatch.argv("/x/script"), cwd="/")
        assert (said.job_id, said.refusal, said.unknown) == ("1001", "", False)

    def test_a_refusal_has_slurms_words_verbatim(self, fake: FakeSlurm) -> None:
        words = "sbatch: error: QOSMaxSubmitJobPerUserLimit\n\nsbatch: error: Batch job submission failed: Job violates"
        fake.refuse("script", words)
        said = slurm(fake).submit(sbatch.argv("/x/script"), cwd="/")
        assert said.job_id is None
        assert said.refusal == words.replace("\n\n", "\n")
        assert not said.unknown

    @pytest.mark.parametrize(
        ("script", "unknown"),
        [
            ("echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1\n", True),
            ("kill -KILL $$\n", True),
            ("exit 0\n", True),
            ("echo 'sbatch: error: Invalid account' >&2; exit 1\n", False),
            ("exit 3\n", False),
        ],
    )
    def test_an_answer_without_an_id_is_a_refusal_or_unknown(
        self, fake: FakeSlurm, script: str, *, unknown: bool
    ) -> None:
        fake.before("sbatch", script)
        said = slurm(fake).submit(sbatch.argv("/x/script"), cwd="/")
        assert (said.job_id, said.unknown) == (None, unknown)
        assert said.refusal

    def test_an_id_counts_whatever_text_follows(self, fake: FakeSlurm) -> None:
        fake.after("sbatch", "echo 'error: after all' >&2; kill -KILL $$\n")
        assert slurm(fake).submit(sbatch.argv("/x/script"), cwd="/").job_id == "1001"

    def test_an_eval_is_submitted_from_its_directory(self, fake: FakeSlurm) -> None:
        fake.before("sbatch", f"env > {fake.directory}/env\n")
        for given, expected in (({"PWD": "/elsewhere"}, ["PWD=/tmp"]), ({}, [])):
            slurm(fake, **given).submit(sbatch.argv("/x/script"), cwd="/tmp")
            seen = (fake.directory / "env").read_text().splitlines()
            # A shell sets PWD itself if it is missing.
            assert [line for line in seen if line.startswith("PWD=")] in (expected, ["PWD=/tmp"])

    def test_the_users_sbatch_variables_apply_to_evals_and_not_to_monitor_jobs(self, fake: FakeSlurm) -> None:
        fake.before("sbatch", f"env > {fake.directory}/env\n")
        mine = {"SBATCH_GRES": "gpu:8", "SBATCH_ACCOUNT": "me", "HF_TOKEN": "x"}
        for ours in (False, True):
            slurm(fake, **mine).submit(sbatch.argv("/x/script"), cwd="/", is_monitor_job=ours)
            seen = (fake.directory / "env").read_text()
            assert ("SBATCH_GRES=gpu:8" in seen) == (not ours)
            assert "HF_TOKEN=x" in seen
            assert "SLURM_TIME_FORMAT" not in seen

    def test_a_missing_directory_is_a_refusal(self, fake: FakeSlurm) -> None:
        said = slurm(fake).submit(sbatch.argv("/x/script"), cwd="/nonexistent")
        assert said.job_id is None
        assert "No such file or directory" in said.refusal
        assert not said.unknown


def test_without_jobs_scancel_is_not_called(fake: FakeSlurm) -> None:
    assert slurm(fake).cancel([]) is None
    assert fake.calls() == []
    assert slurm(fake).cancel(["11", "12"]) is None
    assert fake.calls("scancel") == ["scancel -Q 11 12"]
    fake.fail("scancel", "scancel: error: Kill job error on job id 11: Access/permission denied")
    assert failure(slurm(fake).cancel(["11"])).kind is FailureKind.REFUSED


def test_seffs_text_is_returned_unchanged(fake: FakeSlurm) -> None:
    fake.measure(ended("11"))
    assert "CPU Efficiency: 12.50%" in slurm(fake).efficiency(JobId("11")).stdout
    assert slurm(fake).efficiency(JobId("12")).returncode == 2


@pytest.mark.parametrize(("text", "at"), [("1700000000\n", 1_700_000_000.0), ("N/A\n", None), ("", None)])
def test_squeue_is_asked_for_the_end_of_a_job(fake: FakeSlurm, text: str, at: float | None) -> None:
    (fake.directory / "ends" / "11").write_text(text)
    assert slurm(fake).ends_at("11") == at
