"""Tests that another user's files beside an eval are named in the summary and change nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import second_user
from collect.test_evidence import LM_COMMAND, LM_SCRIPT, RESULTS, TRACEBACK, Study, inspect_log, of_this_attempt
from evalmon_agent.collect.attempt_files import AttemptSpan, script_of
from evalmon_agent.collect.collect import progress, read_gpu_figures
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.monitor.log_blocks import resource_blocks
from evalmon_agent.settings import Settings
from evalmon_agent.tracking.records import Eval, Job
from evidence.gpu_texts import BEGIN_UNIX_S, OUR_HEADER, our_tick
from experiments import STARTED, running

COMMAND = "inspect eval task.py --log-dir logs"
SCRIPT = f"#!/bin/sh\n{COMMAND}\n"


def watched(directory: Path) -> Study:
    """An inspect eval that the job's witness recorded."""
    study = Study(directory, SCRIPT)
    study.saw(COMMAND)
    return study


def leave(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    second_user.give(path)
    return path


def table(at_unix_s: float) -> bytes:
    return (OUR_HEADER + our_tick(at_unix_s - BEGIN_UNIX_S, 97)).encode()


def summary_md(study: Study) -> str:
    return (study.exp.ours / "summary.md").read_text()


def named(*paths: Path) -> list[dict[str, str]]:
    return [{"path": str(path), "owner": second_user.name()} for path in sorted(paths)]


def test_another_users_log_is_no_result_and_is_named(tmp_path: Path) -> None:
    study = watched(tmp_path)
    theirs = leave(study.folder / "logs" / "x.eval", inspect_log())
    ev = study.outcome()
    assert (ev["verdict"], ev["result"], ev["foreign"]) == ("suspect", None, named(theirs))
    assert f"* ignored, because it belongs to {second_user.name()}: {theirs}\n" in summary_md(study)
    assert study.told("EVAL_RESULT")[0][2:4] == ["Status: unknown", "Log: none was found"]


def test_the_owners_log_is_the_result_however_many_other_users_logs_there_are(tmp_path: Path) -> None:
    study = watched(tmp_path)
    theirs = [leave(study.folder / "logs" / f"{number:03}.eval", b"") for number in range(150)]
    (study.folder / "logs" / "mine.eval").write_bytes(inspect_log(status="error", error={"message": "mine"}))
    os.utime(study.folder / "logs" / "mine.eval", (time.time() - 60, time.time() - 60))
    ev = study.outcome()
    assert (ev["verdict"], ev["result"]["error"]) == ("suspect", "mine")
    assert len(ev["foreign"]) == 20
    assert all(one in named(*theirs) for one in ev["foreign"])


def test_an_error_in_another_users_log_is_not_shown(tmp_path: Path) -> None:
    study = watched(tmp_path)
    leave(study.folder / "logs" / "x.eval", b"torn, and no archive")
    (study.folder / "logs" / "mine.eval").write_bytes(inspect_log())
    ev = study.outcome()
    assert (ev["verdict"], ev["result"]["status"], ev["result"]["error"]) == ("ok", "success", None)


@pytest.mark.parametrize("linked", ["logs", "the folder of the model", "a log"])
def test_another_users_link_to_a_log_is_not_followed(tmp_path: Path, linked: str) -> None:
    """Not even to the owner's own log of another experiment."""
    study = Study(tmp_path, LM_SCRIPT.format(head="", out="here"))
    study.saw(LM_COMMAND.format(out="here"))
    other = tmp_path / "other" / "model"
    other.mkdir(parents=True)
    (other / RESULTS).write_text(of_this_attempt())
    if linked == "logs":
        link, target = study.folder / "here", other.parent
    elif linked == "a log":
        link, target = study.folder / "here" / "model" / RESULTS, other / RESULTS
    else:
        link, target = study.folder / "here" / "model", other
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    second_user.give(link)
    ev = study.outcome()
    assert (ev["verdict"], ev["result"]) == ("suspect", None)
    # Links to directories below are never followed, whoever owns them.
    assert ev["foreign"] == ([] if linked.startswith("the folder") else named(link))


def test_the_owners_link_to_the_owners_logs_is_followed(tmp_path: Path) -> None:
    study = watched(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "mine.eval").write_bytes(inspect_log())
    (study.folder / "logs").symlink_to(scratch)
    ev = study.outcome()
    assert (ev["verdict"], ev["result"]["status"], ev["foreign"]) == ("ok", "success", [])


def test_another_users_output_is_no_evidence(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/sh\n#SBATCH --error=err\n", state="FAILED", exit_code="1:0")
    forged = TRACEBACK.format(error="MemoryError: theirs").encode()
    output, errors = leave(study.folder / "slurm-11.out", forged), leave(study.folder / "err", forged)
    ev = study.outcome()
    assert (ev["log"], ev["foreign"]) == (None, named(output, errors))
    assert "theirs" not in json.dumps(ev)


def test_an_output_behind_another_users_link_is_no_evidence(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/sh\n#SBATCH --output=out/%j.out\n", state="FAILED", exit_code="1:0")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "11.out").write_text("private words")
    (study.folder / "out").symlink_to(tmp_path / "private")
    second_user.give(study.folder / "out")
    ev = study.outcome()
    assert (ev["log"], ev["foreign"]) == (None, named(study.folder / "out"))
    assert "private words" not in json.dumps(ev)


def test_another_users_gpu_table_gives_no_figures(tmp_path: Path) -> None:
    files = OwnedFiles(os.geteuid())
    ran = AttemptSpan(STARTED, STARTED + 60)
    (tmp_path / "gpu_metrics.csv").write_bytes(table(STARTED + 5))
    theirs = leave(tmp_path / "gpu_metrics.n2.csv", table(STARTED + 5))
    found = read_gpu_figures(files, str(tmp_path), ran, None)
    assert found is not None
    assert (found.count, files.foreign) == (1, {str(theirs): second_user.uid()})
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    second_user.give(link)
    assert read_gpu_figures(files, str(link), ran, None) is None


def test_another_users_gpu_table_gives_no_current_utilization(tmp_path: Path) -> None:
    study = Study(tmp_path, "#!/bin/sh\n")
    study.exp.slurm.show([running("11")])
    study.exp.observer().observe_once(at_least_s=0)
    path = study.folder / "gpu_metrics.csv"
    path.write_bytes(table(time.time()))
    state = state_file.load(study.exp.experiment)
    assert state is not None
    state.evals["r1/a"].output_dir = str(study.folder)
    blocks = lambda: resource_blocks(state, Settings(), now=time.time(), progress={})  # noqa: E731
    assert len(blocks()) == 1
    second_user.give(path)
    assert blocks() == []


def test_another_users_script_of_a_watched_job_is_not_read(tmp_path: Path) -> None:
    """The script names the directory of the logs."""
    path = tmp_path / "a.slurm"
    path.write_text(SCRIPT)
    ev = Eval("r/t", "7", jobs=[Job("7", 1.0, submitted_at=time.time() + 60)], script=str(path))
    experiment, files = Experiment.at(str(tmp_path)), OwnedFiles(os.geteuid())
    assert script_of(experiment, ev, "7", files=files) == SCRIPT
    second_user.give(path)
    assert script_of(experiment, ev, "7", files=files) == ""
    assert files.foreign == {str(path): second_user.uid()}


def test_odd_names_of_other_users_files_are_printable_and_prevent_no_write(tmp_path: Path) -> None:
    study = watched(tmp_path)
    odd = study.folder / "logs" / "|<b>\x1b[31m\n.eval"
    leave(odd.with_name("|<b>\x1b[31m.eval"), inspect_log())
    leave(Path(os.fsdecode(os.fsencode(str(odd.parent)) + b"/\xff.eval")), inspect_log())
    ev = study.outcome()
    assert [one["path"].rpartition("/")[2] for one in ev["foreign"]] == ["|<b>\\x1b[31m.eval"]
    assert "\\|\\<b>\\\\x1b[31m.eval" in summary_md(study)


def test_an_odd_name_of_the_owners_log_prevents_no_write(tmp_path: Path) -> None:
    study = watched(tmp_path)
    folder = os.fsencode(str(study.folder / "logs"))
    os.mkdir(folder)
    with open(folder + b"/\xff.eval", "wb") as file:
        file.write(inspect_log())
    assert study.outcome()["result"] is None


def test_for_a_colleague_the_owners_logs_count_and_the_colleagues_do_not(tmp_path: Path) -> None:
    study = watched(tmp_path)
    study.exp.slurm.show([running("11")])
    state = study.exp.observer().observe_once(at_least_s=0).state
    log = study.folder / "logs" / "x.eval"
    log.parent.mkdir()
    log.write_bytes(inspect_log(status="started", at=STARTED + 1))
    experiment = study.exp.experiment
    assert list(progress(experiment, state)) == ["r1/a"]
    assert list(progress(experiment, state, owner=second_user.uid())) == ([] if os.geteuid() else ["r1/a"])
    second_user.give(log)
    assert list(progress(experiment, state)) == []
    # The other files belong to root here, or to the owner.
    if os.geteuid() == 0:
        assert list(progress(experiment, state, owner=second_user.uid())) == ["r1/a"]


def test_a_remembered_log_that_now_belongs_to_another_user_is_not_used(tmp_path: Path) -> None:
    reader = LogReader(OwnedFiles(os.geteuid()))
    path = tmp_path / "x.eval"
    path.write_bytes(inspect_log())
    assert list(reader.logs(str(tmp_path), written_since=0).logs) == [str(path)]
    second_user.give(path)
    assert list(reader.logs(str(tmp_path), written_since=0).logs) == []
