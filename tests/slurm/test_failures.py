"""Tests which messages mean that Slurm is unavailable, and which are refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.failures import Failure, FailureKind, classify, is_submit_limit, is_unfit_request


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("slurm_load_jobs error: Socket timed out on send/recv operation", FailureKind.NO_NEWS),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", FailureKind.NO_NEWS),
        ("sacct: error: Problem talking to the database: Connection refused", FailureKind.NO_NEWS),
        ("slurm_load_jobs error: Slurm backup controller in standby mode", FailureKind.NO_NEWS),
        ("squeue: error: RPC rate limit exceeded 0 times with REQUEST_JOB_INFO, retrying", FailureKind.NO_NEWS),
        ("squeue: fatal: Could not establish a configuration source", FailureKind.NO_NEWS),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", FailureKind.NO_NEWS),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", FailureKind.NO_NEWS),
        ("slurm_load_jobs error: Invalid job id specified", FailureKind.INVALID_JOB),
        ("Slurm accounting storage is disabled", FailureKind.ACCOUNTING_DISABLED),
        ("sbatch: error: AssocMaxSubmitJobLimit", FailureKind.REFUSED),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", FailureKind.REFUSED),
        ("slurm_load_jobs error: Access/permission denied", FailureKind.REFUSED),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            FailureKind.REFUSED,
        ),
        ("squeue: error: Invalid user: nobody-such", FailureKind.UNUSABLE),
        ('sacct: fatal: Invalid field requested: "Restarts"', FailureKind.UNUSABLE),
    ],
)
def test_each_message_has_its_kind_of_failure(stderr: str, expected: FailureKind) -> None:
    assert Failure(expected, stderr) == classify(1, "", f"{stderr}\n")


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    "reason",
    ["QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit", "AssocGrpSubmitJobsLimit", "QOSGrpSubmitJobsLimit",
     "QOSMaxSubmitJobPerAccountLimit"],
)  # fmt: skip
def test_too_many_jobs_is_a_temporary_refusal(reason: str) -> None:
    assert is_submit_limit(f"sbatch: error: {reason}\nsbatch: error: Batch job submission failed: {POLICY}")


@pytest.mark.parametrize("reason", ["QOSMaxWallDurationPerJobLimit", "AssocMaxCpuPerJobLimit", "Invalid qos", POLICY])
def test_another_limit_is_no_temporary_refusal(reason: str) -> None:
    assert not is_submit_limit(f"sbatch: error: {reason}\nsbatch: error: Batch job submission failed: {POLICY}")


def test_the_deciding_line_is_returned_verbatim() -> None:
    stderr = "squeue: warning: hello\nslurm_load_jobs error:  Invalid job id specified \n\n"
    assert Failure(FailureKind.INVALID_JOB, "slurm_load_jobs error:  Invalid job id specified ") == classify(
        1, "", stderr
    )


def test_a_failure_without_a_message_has_the_exit_status() -> None:
    assert Failure(FailureKind.UNUSABLE, "exit status 3, nothing on stderr") == classify(3, "rows", "\n")


def test_an_answer_with_warnings_is_an_answer() -> None:
    assert None is classify(0, "rows", "squeue: error: Unable to contact slurm controller, retrying\n")
    assert None is classify(0, "", "")


def test_an_unknown_user_is_a_failure_even_with_exit_status_0() -> None:
    assert Failure(FailureKind.UNUSABLE, "squeue: error: Invalid user: x") == classify(
        0, "", "squeue: error: Invalid user: x"
    )


def test_no_output_and_a_lost_connection_are_no_news_even_with_exit_status_0() -> None:
    line = "slurm_load_jobs error: Unable to contact slurm controller"
    assert Failure(FailureKind.NO_NEWS, line) == classify(0, "\n", line)


@given(st.integers(-64, 255), st.text(), st.text())
def test_no_message_raises_or_turns_a_failed_command_into_an_answer(rc: int, stdout: str, stderr: str) -> None:
    assert (classify(rc, stdout, stderr) is None) <= (rc == 0)


UNFIT = [
    "Invalid partition name specified",
    "Invalid account or account/partition combination specified",
    "Invalid qos specification",
    "Invalid generic resource (gres) specification",
    "Requested node configuration is not available",
    "Requested time limit is invalid (missing or exceeds some limit)",
    "Memory required by task is not available",
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
]


@pytest.mark.parametrize("words", UNFIT)
def test_an_invalid_request_is_refused_wherever_it_is_submitted(words: str) -> None:
    assert is_unfit_request(f"sbatch: error: Batch job submission failed: {words}")


@pytest.mark.parametrize(
    "words",
    [
        "Access/permission denied",
        "Invalid user id",
        "Unspecified error",
        "Socket timed out on send/recv operation",
    ],
)
def test_other_refusals_may_not_apply_elsewhere(words: str) -> None:
    assert not is_unfit_request(f"sbatch: error: Batch job submission failed: {words}")
    assert not is_unfit_request("sbatch: error: Submit from a login node. Invalid partition name specified")


def test_a_limit_on_the_number_of_jobs_is_temporary() -> None:
    words = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size)"
    assert not is_unfit_request(f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: {words}")
