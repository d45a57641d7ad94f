"""Tests that the user's settings change no answer, and that a job's variables do not reach the next job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.environment import carried, clean, for_evals, for_monitor_jobs, for_submission

environments = st.dictionaries(
    st.one_of(
        st.sampled_from(["PATH", "SLURM_CONF", "SBATCH_WAIT", "SACCT_FORMAT", "CUDA_VISIBLE_DEVICES", "PMIX_RANK"]),
        st.text(min_size=1),
    ),
    st.text(),
)


@pytest.mark.survives("S12")
@pytest.mark.parametrize(
    "name",
    ["SACCT_FORMAT", "SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SQUEUE_STATES", "SQUEUE_USERS", "SINFO_FORMAT",
     "SCONTROL_ALL", "SLURM_DEBUG_FLAGS", "SACCT_FEDERATION", "SLURM_JSON"],
)  # fmt: skip
def test_variables_that_change_answers_are_removed(name: str) -> None:
    assert name not in clean({name: "1"})


@pytest.mark.survives("S12")
def test_queries_ask_for_epoch_seconds_full_fields_and_english() -> None:
    users = {"SLURM_TIME_FORMAT": "relative", "LC_ALL": "de_DE.UTF-8", "SLURM_BITSTR_LEN": "8"}
    expected = {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}
    assert expected == clean(users)


def test_the_selected_cluster_is_kept() -> None:
    where = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "b", "PATH": "/usr/bin"}
    assert where == {name: clean(where)[name] for name in where}
    assert where == for_submission(where, inside_job=True)


def test_a_jobs_own_variables_are_not_passed_to_the_next_job() -> None:
    inherited = dict.fromkeys(
        ["SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE", "SLURM_CPU_BIND", "SLURMD_NODENAME", "SBATCH_CPU_BIND_LIST",
         "SRUN_DEBUG", "PMI_RANK", "PMIX_NAMESPACE", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
         "SLURM_JOB_ID"],
        "1",
    )  # fmt: skip
    users = {"HOME": "/h", "SBATCH_PARTITION": "gpu"}
    assert users == for_submission({**inherited, **users}, inside_job=True)


def test_a_monitor_job_gets_none_of_the_users_sbatch_options_and_carries_all_of_them() -> None:
    users = {"HOME": "/h", "SBATCH_PARTITION": "gpu", "SBATCH_GRES": "gpu:8"}
    for environ in (users, {**users, "SLURM_JOB_ID": "7"}):
        given_to_it = for_monitor_jobs(environ)
        assert {name for name in given_to_it if name.startswith("SBATCH_")} == set()
        assert carried(given_to_it) == users


def test_on_a_login_node_the_users_sbatch_variables_apply() -> None:
    users = {"SBATCH_ACCOUNT": "a", "SLURM_CPUS": "3", "LC_ALL": "de_DE.UTF-8"}
    assert users == for_submission(users, inside_job=False)


@pytest.mark.parametrize("inside_job", [True, False])
def test_sbatch_never_waits_for_the_job(inside_job: bool) -> None:
    expected = {}
    assert expected == for_submission({"SBATCH_WAIT": "1"}, inside_job=inside_job)


@given(environments, st.booleans())
def test_a_submission_adds_no_variable_that_the_job_would_inherit(environ: dict[str, str], inside_job: bool) -> None:
    assert for_submission(environ, inside_job=inside_job).items() <= environ.items()


@pytest.mark.survives("S12")
@given(environments)
def test_cleaning_twice_equals_cleaning_once(environ: dict[str, str]) -> None:
    assert clean(environ) == clean(clean(environ))


@pytest.mark.survives("S20")
def test_an_eval_submitted_inside_another_inherits_none_of_its_variables() -> None:
    """Least of all the log that a retry would continue from."""
    said = {f"EVALMON_{name}": "x" for name in ("DIR", "NAME", "OUTPUT_DIR", "JOB_ID", "RETRY_LOG", "UNMONITORED")}
    kept = {"EVALMON_ALLOW_FAST_POLLING": "1", "HOME": "/h"}
    assert for_evals({"SLURM_JOB_ID": "7", **said, **kept}) == kept
    assert for_evals({**said, **kept}) == {**said, **kept}
