"""Tests that planted links, FIFOs and files, and directories that others can write, are refused and left untouched."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import as_root
import faults
import second_user
from as_root import OTHER, needs_other, needs_root, not_as_root
from evalmon_agent.commands.report import report
from evalmon_agent.commands.sidecar import Sidecar
from evalmon_agent.commands.status import status
from evalmon_agent.commands.stop import stop
from evalmon_agent.errors import UnreadableError, UsageError
from evalmon_agent.jobs.eval_scripts import find
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from experiments import Exp, ended, running

FILES = ("registry.jsonl", "state.json", "monitor.log", "observer.json", "lock.json", "state.json.lock")
WRITTEN_BY_REPORT = ("summary.json", "summary.md")


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1}')
    (found.root / "r1" / "eval").mkdir(parents=True)
    (found.root / "r1" / "eval" / "t_epoch0.slurm").write_text("#!/bin/sh\ntrue\n")
    found.register(r1_a="11")
    found.slurm.show([ended("11")])
    found.observe_to_the_end()
    return found


def evalmon(exp: Exp, *words: str) -> tuple[int, str, str]:
    return run(exp, [sys.executable, "-m", "evalmon_agent", *words])


def evalmon_as_other(exp: Exp, *words: str, groups: Sequence[int] = ()) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "evalmon_agent", *words]
    return run(exp, as_root.other_argv(*argv, environ=exp.slurm.environ, groups=groups))


def run(exp: Exp, argv: list[str]) -> tuple[int, str, str]:
    began = time.monotonic()
    done = subprocess.run(
        argv,
        check=False,
        env=exp.slurm.environ,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "/proc/self/fd" not in done.stdout + done.stderr
    assert time.monotonic() - began < 10
    return done.returncode, done.stdout, done.stderr


def refused(work: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        work()


@pytest.mark.survives("S1")
@pytest.mark.parametrize("name", [*FILES, *WRITTEN_BY_REPORT])
@pytest.mark.parametrize("kind", faults.PLANTS)
def test_planted_files_are_refused_at_once_or_replaced_and_never_written_through(
    exp: Exp, tmp_path: Path, name: str, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    faults.plant(kind, exp.ours / name, victim)
    pid = faults.forked(exp.observe_to_the_end)
    began = time.monotonic()
    faults.ended(pid)
    assert time.monotonic() - began < 1
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.survives("S1")
@pytest.mark.forges_files
@pytest.mark.parametrize("name", ["registry.jsonl", "state.json", "monitor.log"])
@pytest.mark.parametrize("kind", ["fifo", "hard link"])
def test_the_refusal_is_one_line_with_advice(exp: Exp, tmp_path: Path, name: str, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text('{"schema":1}')
    faults.plant(kind, exp.ours / name, victim)
    code, out, err = evalmon(exp, "report", str(exp.root))
    if (name, kind) in {("registry.jsonl", "hard link"), ("state.json", "hard link")}:
        # Read only; state.json is set aside: that moves the name and does not touch the file.
        assert code in {0, 1, 3}
    else:
        assert (code, out) == (2, "")
        assert err.startswith(f"evalmon: {exp.ours / name}: ")
        assert err.endswith("evalmon creates its own\n")
        assert len(err.splitlines()) == 1
    assert victim.read_text() == '{"schema":1}'


@pytest.mark.survives("S1")
def test_an_append_through_a_hard_link_is_refused_before_a_submission(exp: Exp, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    faults.plant("hard link", exp.ours / "registry.jsonl", victim)
    code, _, err = evalmon(exp, "submit", str(exp.root))
    assert code == 2
    assert "has a second name elsewhere" in err
    assert exp.slurm.accepted() == []
    assert victim.read_text() == "precious\n"


@pytest.mark.survives("S1")
@pytest.mark.parametrize("name", ["", "jobs", "scripts"])
def test_a_symbolic_link_in_place_of_the_directory_is_refused(exp: Exp, tmp_path: Path, name: str) -> None:
    path = exp.ours / name if name else exp.ours
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = sorted(os.listdir(elsewhere))
    exp.anew()
    slurm = Slurm(exp.slurm.environ)
    refused(exp.experiment.check, "not a directory")
    refused(lambda: exp.experiment.prepare(group_readable=True), "not a directory")
    refused(lambda: status(exp.session(slurm=slurm)), "not a directory")
    refused(lambda: report(exp.session(slurm=slurm)), "not a directory")
    refused(lambda: stop(exp.session(slurm=slurm)), "not a directory")
    assert sorted(os.listdir(elsewhere)) == before


@pytest.mark.survives("S2")
@pytest.mark.parametrize("name", ["", "jobs", "scripts"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720])
def test_a_directory_that_others_can_write_is_refused_with_the_chmod_to_run(exp: Exp, name: str, mode: int) -> None:
    path = exp.ours / name if name else exp.ours
    path.chmod(mode)
    refused(exp.experiment.check, f"{path}: others can write there; run: chmod go-w {path}")
    refused(lambda: exp.experiment.prepare(group_readable=False), "chmod go-w")
    subprocess.run(["chmod", "go-w", path], check=True)
    exp.experiment.check()


@pytest.mark.survives("S2")
def test_every_writing_command_refuses_it_in_one_line(exp: Exp) -> None:
    exp.ours.chmod(0o770)
    for command in ("submit", "report", "stop", "status", "sidecar", "complete"):
        code, _, err = evalmon(exp, command, str(exp.root))
        assert (code, err) == (2, f"evalmon: {exp.ours}: others can write there; run: chmod go-w {exp.ours}\n")


@pytest.mark.survives("S2")
def test_the_experiment_itself_may_be_group_writable(exp: Exp) -> None:
    exp.root.chmod(0o2775)
    assert evalmon(exp, "submit", str(exp.root))[0] == 0


@pytest.mark.survives("S2")
@needs_root
def test_another_users_directory_is_refused(exp: Exp) -> None:
    with as_root.given(exp.ours):
        code, _, err = evalmon(exp, "submit", str(exp.root))
    assert (code, err.count("\n")) == (2, 1)
    assert f"belongs to user {OTHER}; use an experiment directory of your own" in err


@pytest.mark.survives("S2")
@needs_root
@pytest.mark.parametrize("name", ["registry.jsonl", "state.json", "monitor.log"])
def test_another_users_file_is_refused(exp: Exp, name: str) -> None:
    as_root.run("chmod", "666", exp.ours / name)
    as_root.give(exp.ours / name)
    refused(exp.observer().record, "not a plain file of this experiment's owner")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.mark.survives("S2")
@needs_other
def test_the_group_can_read_and_not_write_with_group_readable(open_place: Path) -> None:
    exp = Exp(open_place)
    exp.settings = Settings(poll_interval=1.0, group_readable=True)
    exp.experiment.prepare(group_readable=True)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.experiment.prepare(group_readable=True)
    exp.observer().observe_once(at_least_s=0)
    assert exp.ours.stat().st_mode & 0o777 == 0o750
    before = {path: path.read_bytes() for path in exp.ours.rglob("*") if path.is_file()}
    group = [exp.ours.stat().st_gid]
    for command in ("status", "report"):
        code, out, err = evalmon_as_other(exp, command, str(exp.root), "--json", groups=group)
        assert code == 3
        assert [(ev["name"], ev["state"]) for ev in json.loads(out)["evals"]] == [("r1/a", "RUNNING")]
        assert err.startswith(f"note: {exp.ours} is read-only for you; nothing was written; the last poll was ")
    code, out, err = evalmon_as_other(exp, "stop", str(exp.root), groups=group)
    assert (code, out, f"belongs to user {os.geteuid()}" in err) == (2, "", True)
    assert {path: path.read_bytes() for path in exp.ours.rglob("*") if path.is_file()} == before


@pytest.mark.survives("S2")
@needs_other
def test_no_other_user_can_read_private_files(open_place: Path) -> None:
    exp = Exp(open_place)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.observer().observe_once(at_least_s=0)
    for command in ("status", "report"):
        code, out, err = evalmon_as_other(exp, command, str(exp.root))
        assert (code, out, "you cannot read it" in err) == (77, "", True)


@pytest.mark.survives("S2")
@needs_other
def test_group_readable_can_be_switched_on_and_off(open_place: Path) -> None:
    """The next command or observer sets the modes; until then a colleague is refused with 77."""
    exp = Exp(open_place)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.observer().observe_once(at_least_s=0)
    launcher = exp.ours / "scripts" / f"{11:016x}" / "a.slurm"
    launcher.parent.mkdir(0o700)
    launcher.touch(0o600)
    (exp.ours / "jobs" / "11.json").touch(0o600)
    private = modes(exp)
    group = [exp.ours.stat().st_gid]
    exp.ours.chmod(0o750)
    code, out, err = evalmon_as_other(exp, "status", str(exp.root), groups=group)
    assert (code, out, "you cannot read it; its owner can set group_readable: true" in err) == (77, "", True)
    (exp.root / "evalmon.yaml").write_text("group_readable: true\n")
    (exp.root / "evalmon.yaml").chmod(0o600)
    exp.anew().settings = Settings(poll_interval=1.0, group_readable=True)
    exp.observer().record()
    kept = {".", "lock.json", "state.json.lock", "jobs/11.json", f"scripts/{11:016x}", f"scripts/{11:016x}/a.slurm"}
    readable = {path: {0o700: 0o750, 0o600: 0o640}[mode] for path, mode in private.items()}
    assert modes(exp) == {path: private[path] if path in kept - {"."} else mode for path, mode in readable.items()}
    code, _, err = evalmon_as_other(exp, "report", str(exp.root), groups=group)
    assert (code, "is read-only for you" in err) == (3, True)
    exp.settings = Settings(poll_interval=1.0)
    exp.observer().record()
    assert modes(exp) == private
    assert evalmon_as_other(exp, "status", str(exp.root), groups=group)[0] == 77


def modes(exp: Exp) -> dict[str, int]:
    paths = [exp.ours, *exp.ours.rglob("*")]
    return {str(path.relative_to(exp.ours)): path.stat().st_mode & 0o7777 for path in paths}


@pytest.mark.survives("S2")
def test_files_get_the_group_of_a_setgid_directory(open_place: Path) -> None:
    """EXP is setgid with the lab's group, not the owner's own; its files must have that group."""
    exp = Exp(open_place)
    second_user.share(exp.root, 0o2770)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.observer().record()
    exp.anew().settings = Settings(poll_interval=1.0, group_readable=True)
    exp.observer().observe_once(at_least_s=0)
    group = exp.root.stat().st_gid
    for name in ("state.json", "monitor.log", "observer.json", "registry.jsonl"):
        status = (exp.ours / name).stat()
        assert (status.st_gid, status.st_mode & 0o777) == (group, 0o640), name
    assert (exp.ours.stat().st_gid, exp.ours.stat().st_mode & 0o777) == (group, 0o750)


@pytest.mark.survives("S2")
@needs_other
def test_the_group_can_read_files_that_were_private_before(open_place: Path) -> None:
    exp = Exp(open_place)
    second_user.share(exp.root, 0o2770)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.observer().record()
    (exp.root / "evalmon.yaml").write_text("group_readable: true\n")
    words = [sys.executable, "-m", "evalmon_agent"]
    of_colleague = [second_user.argv(*words, command, exp.root) for command in ("status", "report")]
    assert [run(exp, argv)[0] for argv in of_colleague] == [77, 77]
    run(exp, [*words, "status", str(exp.root)])
    for code, out, err in [run(exp, argv) for argv in of_colleague]:
        assert (code, "r1/a" in out, err.count("nothing was written")) == (3, True, 1)


@pytest.mark.survives("S3")
@needs_root
@pytest.mark.parametrize("how", ["of another user", "a FIFO", "a link", "too large", "of another job", "deep"])
def test_a_forged_report_of_a_job_is_ignored(exp: Exp, tmp_path: Path, how: str) -> None:
    exp.accept("r1/b", "12")
    exp.slurm.show([ended("11"), running("12")])
    path = exp.report("12", "r1/b", exit_code=3, ended_at=time.time(), elapsed_s=1.0)
    content = path.read_text()
    if how == "of another user":
        as_root.give(path)
    elif how == "a FIFO":
        path.unlink()
        os.mkfifo(path)
    elif how == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "too large":
        path.write_text(content + " " * (4 << 20))
    elif how == "of another job":
        path.write_text(content.replace('"12"', '"11"'))
    else:
        path.write_text("[" * 500_000)
    began = time.monotonic()
    exp.observer().record()
    assert time.monotonic() - began < 1
    assert exp.state()["evals"]["r1/b"].get("state", "PENDING") == "PENDING"


@pytest.mark.survives("S3")
@pytest.mark.parametrize("restart", [-1, 10**9])
def test_a_report_with_an_absurd_number_of_restarts_costs_little(exp: Exp, restart: int) -> None:
    exp.accept("r1/b", "12")
    exp.report("12", "r1/b", restart=restart)
    exp.observer().record()
    assert exp.state()["evals"]["r1/b"]["jobs"][0].get("attempts", []) == []


@not_as_root
def test_an_unreadable_script_is_reported(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path = exp.root / "r1" / "eval" / "t_epoch0.slurm"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0)
    says = rf"{path}: cannot be read \(Permission denied\)"
    refused(lambda: find(exp.experiment, exp.settings, []), says)


def plant_settings(exp: Exp, how: str) -> Path:
    """An evalmon.yaml by which another user would choose what runs as this user, and what must not exist afterwards."""
    canary = exp.root.parent / "canary"
    path = exp.root / "evalmon.yaml"
    path.unlink()
    content = f'{{"poll_interval": 1, "sidecar": {{"extra": ["--wrap=touch {canary}"]}}}}'
    theirs = exp.root / "theirs.yaml"
    (theirs if how.startswith("a link") else path).write_text(content)
    if how.startswith("a link"):
        path.symlink_to(theirs)
    if how == "a link of theirs":
        as_root.give(path)
    elif how == "a link of ours to theirs":
        as_root.give(theirs)
    elif how == "of another user":
        as_root.give(path)
    elif how == "writable for its group":
        as_root.give(path, user=-1)
        path.chmod(0o664)
    else:
        path.chmod(0o646)
    return canary


FOREIGN = {
    "of another user": "belongs to nobody",
    "a link of theirs": "belongs to nobody",
    "a link of ours to theirs": "belongs to nobody",
    "writable for its group": "its group can write it; run: chmod g-w",
    "writable for all": "anybody can write it; run: chmod o-w",
}


@pytest.mark.survives("S2")
@needs_root
@pytest.mark.parametrize("how", FOREIGN)
def test_settings_that_another_user_can_write_are_refused_in_one_line(exp: Exp, how: str) -> None:
    plant_settings(exp, how)
    all_commands = ("submit", "report", "stop")
    for command in all_commands if how == "of another user" else ("submit",):
        code, out, err = evalmon(exp, command, str(exp.root))
        assert (code, out, err.count("\n")) == (78, "", 1)
        assert FOREIGN[how] in err
    assert exp.slurm.accepted() == []


@pytest.mark.survives("S2")
@needs_root
@pytest.mark.parametrize("body", ["complete", "sidecar"])
def test_a_monitor_job_continues_without_refused_settings_and_says_why(exp: Exp, body: str) -> None:
    canary = plant_settings(exp, "of another user")
    exp.slurm.show([ended("11")])
    code, _, err = evalmon(exp, body, str(exp.root))
    assert (code, err) == (0, "")
    [block] = exp.blocks("MONITOR_CONFIG")
    assert FOREIGN["of another user"] in block
    assert not canary.exists()
    assert exp.slurm.accepted() == []


@pytest.mark.skipif(
    grp.getgrgid(os.getegid()).gr_name != pwd.getpwuid(os.geteuid()).pw_name, reason="needs a group of one's own"
)
def test_settings_writable_by_the_users_own_group_are_accepted(exp: Exp) -> None:
    """As a umask of 002 creates it where every user has an own group."""
    (exp.root / "evalmon.yaml").chmod(0o664)
    assert evalmon(exp, "submit", str(exp.root))[0] == 0


@needs_root
def test_a_running_sidecar_does_not_adopt_another_users_settings(exp: Exp) -> None:
    sidecar = Sidecar(exp.session())
    exp.accept("r1/b", "12")
    exp.slurm.show([ended("11"), running("12")])
    plant_settings(exp, "of another user")
    sidecar._watch(until_monotonic_s=0.0)
    assert "Error: " in exp.blocks("MONITOR_CONFIG")[0]
    assert "belongs to nobody" in exp.blocks("MONITOR_CONFIG")[0]
    assert sidecar._observer.settings.sidecar.extra == []


@pytest.mark.survives("S2")
@needs_root
@pytest.mark.parametrize("how", ["of another user", "writable for all", "a link to one of ours", "below such a link"])
def test_another_users_script_is_submitted_only_if_it_is_named(exp: Exp, how: str) -> None:
    script = exp.root / "r1" / "eval" / "z_epoch0.slurm"
    script.write_text("#!/bin/sh\ntrue\n")
    if how == "of another user":
        as_root.give(script)
    elif how == "writable for all":
        script.chmod(0o777)
    else:
        (exp.root / "mine").mkdir()
        script.rename(exp.root / "mine" / script.name)
        link = script if how.startswith("a link") else exp.root / "r9" / "eval"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(exp.root / "mine" / (script.name if link == script else ""))
        as_root.give(link)
        script = script if link == script else link / script.name
    code, _, err = evalmon(exp, "submit", str(exp.root))
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"evalmon: {script}: ")
    assert err.endswith("to submit it anyway, name it: evalmon submit EXP SCRIPT...\n")
    assert exp.slurm.accepted() == []
    assert evalmon(exp, "submit", str(exp.root), str(script))[0] == 0
    assert "z_epoch0.slurm" in [name for _, name in exp.slurm.accepted()]


READS_SETTINGS = """
import sys
from evalmon_agent.session import Session
from evalmon_agent.experiment.experiment import Experiment
print(Session.of_command(Experiment.at(sys.argv[1]), for_reading=True).settings.lost_after)
"""


@pytest.mark.survives("S2")
@needs_other
def test_a_reader_uses_the_owners_settings(open_place: Path) -> None:
    exp = Exp(open_place)
    (exp.root / "evalmon.yaml").write_text("lost_after: 5\n")
    exp.settings = Settings(poll_interval=1.0, group_readable=True)
    exp.register(r1_a="11")
    exp.experiment.prepare(group_readable=True)
    argv = [sys.executable, "-c", READS_SETTINGS, str(exp.root)]
    groups = [exp.ours.stat().st_gid]
    assert run(exp, as_root.other_argv(*argv, environ={}, groups=groups)) == (0, "5.0\n", "")
    as_root.give(exp.root / "evalmon.yaml", user=12345)
    with pytest.raises(UnreadableError, match="belongs to 12345"):
        Session.of_command(exp.experiment, for_reading=True)
