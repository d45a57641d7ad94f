"""Tests how jobs become evals: chosen by id; named by the user, by path or by job name; each name once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.errors import UsageError
from evalmon_agent.jobs.adoption import (
    SlurmJob,
    WatchRequest,
    parse_requests,
    plan_adoptions,
    requested_jobs,
)
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

ROOT = "/exp"


def job(number: int, task: int | None = None, *, name: str = "cell", script: str | None = None) -> SlurmJob:
    return SlurmJob(JobId(str(number) if task is None else f"{number}_{task}"), 1000.0, State.RUNNING, name, script)


def names(*chosen: tuple[WatchRequest, SlurmJob], taken: dict[str, bool] | None = None) -> list[str]:
    return list(plan_adoptions(chosen, root=ROOT, taken=taken or {}))


def unnamed(one: SlurmJob) -> tuple[WatchRequest, SlurmJob]:
    return WatchRequest(one.job_id, None), one


class TestIds:
    def test_an_id_names_a_job_a_task_several_tasks_or_a_het_job(self) -> None:
        found = parse_requests(["123", "124_4", "125_[1,3-4%2]", "126+0", "127+1"])
        assert [one.job_id for one in found] == ["123", "124_4", "125_1", "125_3", "125_4", "126", "127"]

    def test_a_name_is_given_before_the_last_equals_sign(self) -> None:
        assert parse_requests(["a=b=123"]) == [WatchRequest(JobId("123"), "a=b")]

    def test_a_repeated_id_counts_once(self) -> None:
        assert len(parse_requests(["123", "123"])) == 1

    @pytest.mark.survives("S6")
    @pytest.mark.parametrize(
        "word",
        [
            "",
            "1;rm",
            "--help",
            "../x",
            "0123",
            "123.0",
            "1 2",
            "a=",
            "=",
            "=12",
            "123\n",
            "9" * 11,
            "१२",
            "123_",
            "1=x",
        ],
    )
    def test_an_invalid_id_is_refused_by_name(self, word: str) -> None:
        with pytest.raises(UsageError) as refused:
            parse_requests(["123", word])
        assert len(refused.value.lines) == 1

    @pytest.mark.parametrize("name", [" ", "a\nb", "\x1b[31m", "a\u202eb", "\udcff"])
    def test_a_name_that_cannot_be_printed_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match="no name for an eval"):
            parse_requests([f"{name}=123"])

    @given(st.text(max_size=20))
    def test_any_word_is_accepted_or_refused(self, word: str) -> None:
        try:
            found = parse_requests([word])
        except UsageError:
            return
        assert found


class TestWhatIsMeant:
    jobs = {one.job_id: one for one in (job(1), job(2, 0), job(2, 7))} | {JobId("3"): job(3), JobId("3+1"): job(4)}

    def test_an_id_selects_a_job(self) -> None:
        assert requested_jobs(WatchRequest(JobId("1"), None), self.jobs) == [job(1)]

    def test_an_array_id_selects_all_its_tasks(self) -> None:
        assert requested_jobs(WatchRequest(JobId("2"), None), self.jobs) == [job(2, 0), job(2, 7)]

    def test_a_task_id_selects_one_task(self) -> None:
        assert requested_jobs(WatchRequest(JobId("2_7"), None), self.jobs) == [job(2, 7)]
        assert requested_jobs(WatchRequest(JobId("2_3"), None), self.jobs) == []

    def test_a_het_job_is_represented_by_its_first_component(self) -> None:
        assert requested_jobs(WatchRequest(JobId("3"), None), self.jobs) == [job(3)]


class TestNames:
    def test_the_users_name_precedes_the_path_and_that_the_jobs_name(self) -> None:
        script = "/exp/r8/eval/t_epoch0/cell.slurm"
        assert names((WatchRequest(JobId("1"), "mine"), job(1, script=script))) == ["mine"]
        assert names(unnamed(job(1, script=script))) == ["r8/t/epoch0"]
        assert names(unnamed(job(1, name="my job", script="/elsewhere/cell.slurm"))) == ["my job"]
        assert names(unnamed(job(1, name=""))) == ["1"]

    def test_tasks_of_an_array_have_their_number(self) -> None:
        assert names(unnamed(job(2, 0)), unnamed(job(2, 7))) == ["cell[0]", "cell[7]"]

    def test_a_job_name_shared_by_many_jobs_gets_the_id(self) -> None:
        assert names(unnamed(job(1)), unnamed(job(4))) == ["cell-1", "cell-4"]
        assert names(unnamed(job(2, 0)), unnamed(job(5, 0))) == ["cell-2[0]", "cell-5[0]"]
        assert names(unnamed(job(1)), taken={"cell": False}) == ["cell-1"]

    def test_two_jobs_of_one_script_are_refused_with_advice(self) -> None:
        script = "/exp/r8/eval/t_epoch0/cell.slurm"
        with pytest.raises(UsageError) as refused:
            names(unnamed(job(1, script=script)), unnamed(job(4, script=script)))
        assert refused.value.lines == ["jobs 1 and 4 would all be called r8/t/epoch0; name them: NAME=1"]

    def test_an_active_evals_name_is_refused_and_an_ended_ones_adds_a_job_to_it(
        self,
    ) -> None:
        with pytest.raises(UsageError, match="as an active eval is; name it: NAME=1"):
            names((WatchRequest(JobId("1"), "mine"), job(1)), taken={"mine": True})
        assert names((WatchRequest(JobId("1"), "mine"), job(1)), taken={"mine": False}) == ["mine"]

    def test_a_script_below_the_experiment_is_named_by_its_path(self) -> None:
        assert names(unnamed(job(1, script="/expx/cell.slurm"))) == ["cell"]
