"""Tests that a lab member can stop the monitoring of evals in a group-writable directory, and nothing more."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from collect.test_evidence import inspect_log
from evidence.gpu_texts import BEGIN_UNIX_S, OUR_HEADER, our_tick
from real_slurm.cluster import Cluster, Exp, wait_for
from real_slurm.lab import LAYOUTS, MOVE_AND_PLANT, Lab, lab, listing, renaming, snatching

pytestmark = pytest.mark.slurm

HOLD = "#SBATCH --hold\n"
MORE = [pytest.param(name, marks=[] if name == "2770" else [pytest.mark.full]) for name in LAYOUTS]


@pytest.fixture
def place(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, other: str) -> Iterator[Lab]:
    """A lab in the layout that the test asks for; by default group-writable without the sticky bit."""
    layout = getattr(request, "param", "2770")
    with lab(cluster, layout, private=tmp_path / "private", user=other) as found:
        yield found


more_layouts = pytest.mark.parametrize("place", MORE, indirect=True)


def release_all(place: Lab) -> None:
    for job in {job[0] for job in place.jobs("-t", "PENDING")}:
        place.exp.cluster.run("scontrol", "release", job)


@pytest.mark.survives("S17")
@more_layouts
def test_pending_evals_run_as_submitted(place: Lab) -> None:
    """A job, an array, a requeued one, and one that asks Slurm for its path."""
    exp = place.exp
    sleeps = f"[ -e {place.private}/once ] || {{ touch {place.private}/once; sleep 300; }}\n"
    asks = "scontrol show job $SLURM_JOB_ID | grep -q Command=\n"
    scripts = {
        "r1/one/epoch0": place.eval("one_epoch0", header=HOLD),
        "r1/array/epoch0[0]0": place.eval("array_epoch0", header=f"{HOLD}#SBATCH --array=0-1\n"),
        "r1/again/epoch0": place.eval("again_epoch0", sleeps),
        "r1/asks/epoch0": place.eval("asks_epoch0", asks, header=HOLD),
    }
    scripts["r1/array/epoch0[1]1"] = scripts["r1/array/epoch0[0]0"]
    bytes_of = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in scripts.items()}
    done = exp.submit("--mode", "dependency")
    assert done.returncode == 0, done.stderr
    wait_for((place.private / "once").exists, 30)
    [[again, *_]] = place.jobs("-t", "R")
    completion = place.job_of("evalmon-completion")
    if place.is_sticky:
        with pytest.raises(Exception, match="non-zero exit"):
            place.attack(MOVE_AND_PLANT, place.identity())
    else:
        place.attack(MOVE_AND_PLANT, place.identity())
    exp.cluster.run("scontrol", "requeue", again)
    release_all(place)
    wait_for(lambda: len(place.ran()) == len(scripts), 60, lambda: (place.ran(), place.jobs()))
    assert place.ran() == sorted(f"{name} {digest}  -" for name, digest in bytes_of.items())
    wait_for(lambda: place.is_over(completion), 60, place.jobs)
    if not place.is_sticky:
        assert place.is_over(completion) == "77:0"
    place.put_back()
    wait_for(lambda: exp.evalmon("report", str(exp.root)).returncode == 0, 30, exp.log)
    assert {ev["verdict"] for ev in exp.evals().values()} == {"ok"}
    assert len(exp.evals()) == len(scripts)


def planted(place: Lab, kind: str) -> Path:
    if kind == "forged":
        return place.forge()
    if kind == "link to an experiment of ours":
        return place.another_study().ours
    letters = place.private / "letters"
    letters.mkdir(0o700)
    (letters / "state.json").write_text("mine")
    return letters


@pytest.mark.survives("S17")
@pytest.mark.parametrize(
    "kind",
    [
        "forged",
        "link to an experiment of ours",
        pytest.param("link to a private directory", marks=pytest.mark.full),
    ],
)
@more_layouts
def test_a_sidecar_obeys_no_other_user(place: Lab, kind: str) -> None:
    """A running sidecar, and one that starts only then; likewise the completion job."""
    if place.is_sticky:
        pytest.skip("nobody can rename it")
    exp = place.exp
    place.settings(max_submit=1, completion={"extra": ["--hold"]})
    for name in ("one_epoch0", "two_epoch0"):
        place.eval(name, f"until [ -e {place.private}/go ]; do sleep 0.2; done\n")
    assert exp.submit().returncode == 0
    wait_for(lambda: exp.blocks("MONITOR_STARTED"), 30, exp.outputs)
    sidecar, completion = place.job_of("evalmon-sidecar"), place.job_of("evalmon-completion")
    forged = planted(place, kind)
    known = {job[0] for job in place.all_jobs("-t", "all")}
    before = listing(forged)
    swap = 'mv "$exp/evalmon" "$exp/moved"; '
    swap += 'mv "$1" "$exp/evalmon"' if kind == "forged" else 'ln -s "$1" "$exp/evalmon"'
    place.attack(swap, forged)
    wait_for(lambda: place.is_over(sidecar), 60, exp.outputs)
    assert place.is_over(sidecar) == "77:0"
    exp.cluster.run("scontrol", "requeue", sidecar)
    (place.private / "go").touch()
    wait_for(lambda: len(place.ran()) == 1, 60, lambda: (place.ran(), place.jobs()))
    exp.cluster.run("scontrol", "release", completion)
    wait_for(lambda: place.is_over(completion), 60, place.jobs)
    assert place.is_over(completion) == "77:0"
    for command in ("status", "report", "submit", "retry", "stop"):
        done = exp.evalmon(command, str(exp.root))
        if command not in {"status", "report"} or kind != "forged":  # these may read what belongs to others
            assert done.returncode in {2, 77}, (command, done.stdout)
    assert list(listing(exp.ours.resolve()).values()) == list(before.values())
    assert {job[0] for job in place.jobs("-t", "all")} <= known
    place.put_back()
    assert any("was moved or replaced" in block for block in exp.blocks("MONITOR_STOPPED")), exp.log() + exp.outputs()
    assert exp.submit().returncode == 0
    exp.wait_complete()
    assert {ev["verdict"] for ev in exp.evals().values()} == {"ok"}
    assert len(place.ran()) == 2


COMMANDS = {
    "submit": lambda place: ["submit", str(place.exp.root)],
    "status": lambda place: ["status", str(place.exp.root)],
    "report": lambda place: ["report", str(place.exp.root)],
    "retry": lambda place: ["retry", "--max-retries", "1000", str(place.exp.root)],
    "stop": lambda place: ["stop", str(place.exp.root)],
    "watch": lambda place: ["watch", str(place.exp.root), place.job_of("other")],
    "doctor": lambda place: ["doctor", str(place.exp.root)],
}
JOBS = ("evals", "sidecar", "completion")


def a_busy_study(place: Lab) -> None:
    """A case for each command: a failed eval, a pending one, one that waits for submission, an unmonitored job.

    Its lock is the soft one, which is a file's existence; and the attacker may read the registry.
    """
    exp = place.exp
    place.settings(poll_interval=1, max_submit=3, group_readable=True)
    exp.ours.mkdir(mode=0o750)
    (exp.ours / "lock.json").write_text('{"kind": "soft", "filesystem": "nfs", "host": "elsewhere"}')
    place.eval("a_epoch0", header=HOLD)
    exp.script(
        "r1", "failed_epoch0", f"date >>{place.private}/failed\nexit 3\n", header="#!/bin/sh\n#SBATCH --mem=50\n"
    )
    for name in ("b", "c", "d"):
        place.eval(f"{name}_epoch0", "sleep 1\n")
    done = exp.submit()
    assert done.returncode == 0, done.stderr
    words = ("--parsable", "--hold", "--job-name=other", "--mem=50", "--output=/dev/null", "--wrap", "true")
    assert exp.cluster.run("sbatch", *words, cwd=str(exp.root)).returncode == 0
    wait_for((place.private / "failed").exists, 30)


def tried(place: Lab, what: str) -> tuple[int, str]:
    """A command, or a job of that kind; and how it ended."""
    if what in COMMANDS:
        done = place.exp.evalmon(*COMMANDS[what](place), timeout=60)
        return done.returncode, done.stderr
    for job in place.jobs():
        if what in job[2] or (what == "evals" and job[2] == "cell.slurm"):
            place.exp.cluster.run("scontrol", "requeue", job[0])
            place.exp.cluster.run("scontrol", "release", job[0])
    time.sleep(2)
    return 0, ""


@pytest.mark.survives("S17")
@pytest.mark.parametrize(
    "what",
    [("submit", "status", "retry"), *[pytest.param((one,), marks=pytest.mark.full) for one in (*COMMANDS, *JOBS)]],
    ids="+".join,
)
def test_processes_running_while_the_directory_is_renamed_do_no_harm(
    place: Lab, what: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """The sidecar, the completion job and evals are running as well."""
    exp = place.exp
    a_busy_study(place)
    other = place.another_study()
    forged = place.forge()
    known = {job[0] for job in place.all_jobs("-t", "all")}
    before = listing(other.root), listing(forged)
    until = time.monotonic() + (60 if request.config.getoption("--all") else 5)
    codes: Counter[int] = Counter()
    with renaming(place, forged, f"-> {other.ours}", f"-> {place.private}"):
        while time.monotonic() < until:
            for one in what:
                code, said = tried(place, one)
                codes[code] += 1
                assert "Traceback" not in said, said
                assert "bug" not in said, said
    assert 70 not in codes
    assert listing(other.root) == before[0]
    assert listing(forged) == before[1]
    for job in {job[0] for job in place.all_jobs("-t", "all")} - known:
        assert str(place.canary) not in exp.cluster.run("scontrol", "write", "batch_script", job, "-").stdout
    assert {path.name for path in place.private.iterdir()} <= {"failed", "precious", "ran"}
    release_all(place)
    done = exp.submit()
    assert done.returncode == 0, done.stderr
    # If all evals have ended meanwhile, only `report` is left to finish.
    wait_for(lambda: exp.evalmon("report", str(exp.root)) and exp.summary()["complete"], 60, exp.log)
    assert not (place.private / "precious-ran-b_epoch0").exists()
    assert {name: ev["verdict"] for name, ev in exp.evals().items() if name.startswith("r1/")} == {
        **dict.fromkeys(("r1/a/epoch0", "r1/b/epoch0", "r1/c/epoch0", "r1/d/epoch0"), "ok"),
        "r1/failed/epoch0": "failed",
    }


@pytest.mark.survives("S17")
def test_a_script_that_asks_for_its_path_is_not_replaced_while_sbatch_reads_it(place: Lab) -> None:
    """Slurm must know its launcher by a path where the group can put another file."""
    exp = place.exp
    names = [f"{letter}_epoch0" for letter in "abcdefgh"]
    for name in names:
        place.eval(name, "scontrol show hostnames $SLURM_JOB_NODELIST >/dev/null # a command\n")
    with snatching(place) as said:
        time.sleep(1)
        first = exp.submit("--mode", "dependency")
    # On a busy machine the attacker may come too late each time.
    told = "somebody exchanged its script while sbatch read it" in first.stderr
    assert first.returncode in ({1} if told else {0, 1, 77}), (said, first.stderr)
    done = exp.submit("--mode", "dependency")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(place.ran()) == len(names), 60, lambda: (place.ran(), place.jobs()))
    exp.wait_complete()
    assert {ev["verdict"] for ev in exp.evals().values()} == {"ok"}


@pytest.mark.survives("S20")
@pytest.mark.parametrize(
    "header", ["", pytest.param("#SBATCH --array=7\n", marks=pytest.mark.full)], ids=["alone", "array"]
)
def test_a_job_submitted_by_an_eval_is_not_that_eval(exp: Exp, tmp_path: Path, header: str) -> None:
    """It inherits the eval's variables, and is monitored itself, by `run` and by a hook."""
    evalmon = f"{sys.executable} -E -P -m evalmon_agent"
    children = {"run": f"{evalmon} run -- sh -c 'exit 3'\n", "hooked": f'eval "$({evalmon} hook)"\nexit 4\n'}
    calls = ""
    for name, body in children.items():
        (tmp_path / f"{name}.sh").write_text(
            f"#!/bin/bash\n#SBATCH --mem=50 --output=/dev/null --job-name={name}\n{body}"
        )
        calls += f"sbatch --wait {tmp_path}/{name}.sh || :\n"
    exp.script("r1", "parent_epoch0", f"{calls}true\n", header=f"#!/bin/bash\n#SBATCH --mem=50\n{header}")
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    name = "r1/parent/epoch0[7]" if header else "r1/parent/epoch0"
    parent = exp.evals()[name]
    assert (parent["verdict"], len(parent["attempts"])) == ("ok", 1), exp.evals()
    others = {ev["name"]: ev["exit_code"] for ev in exp.evals().values() if ev["name"] != name}
    assert sorted(others.values()) == [3, 4], exp.evals()


@pytest.mark.survives("S2", "S18")
@pytest.mark.parametrize("has_monitor", [True, pytest.param(False, marks=pytest.mark.full)])
def test_no_script_of_another_user_is_submitted_from_their_directory(place: Lab, has_monitor: bool) -> None:
    theirs = place.forge().parent
    place.attack('chgrp -R --reference="$exp" "$1"; chmod 2770 "$1"', theirs)
    if not has_monitor:
        place.attack('rm -r "$1/evalmon"', theirs)
    words = ("--parsable", "--hold", "--job-name=other", "--mem=50", "--output=/dev/null", "--wrap", "true")
    job = place.exp.cluster.run("sbatch", *words, cwd=str(place.exp.root)).stdout.strip()
    for command in ("submit", "retry", "report", "stop", "doctor"):
        done = place.exp.evalmon(command, str(theirs))
        assert done.returncode or (command == "doctor"), (command, done.stdout)
    assert place.exp.evalmon("watch", str(theirs), job).returncode != 0
    assert [job for job in place.all_jobs("-t", "all") if theirs.name in job[3]] == []
    assert [path for path, status in listing(theirs).items() if status[2] == os.geteuid()] == []


READS_LOG = "# inspect eval task.py --log-dir logs\necho 'Log: logs/x.eval'\n"


@pytest.mark.survives("S17", "S18", "S19")
def test_other_users_files_beside_an_eval_are_neither_believed_nor_run(place: Lab) -> None:
    """A log, a GPU table, programs named like Slurm's, Python modules; and a script is changed meanwhile."""
    exp = place.exp
    once = f"[ -e {place.private}/again ] || {{ until [ -e {place.private}/go ]; do sleep 0.2; done; exit 1; }}\n"
    says = f'echo "log: ${{EVALMON_RETRY_LOG-none}}" >>{place.private}/logs\n'
    reads = place.eval("reads_epoch0", f"{READS_LOG}{once}{says}")
    changed = place.eval("changed_epoch0", once)
    digest = hashlib.sha256(changed.read_bytes()).hexdigest()
    for path in (reads, changed):
        path.parent.chmod(0o2770)
        path.chmod(0o660)
    env = {"PATH": f":.:{exp.cluster.environ['PATH']}:", "PYTHONPATH": ":."}
    plant = 'cd "$1"; for name in sbatch squeue sacct scontrol seff scancel sinfo nvidia-smi; do\n'
    plant += 'cp "$evil" $name; chmod 755 $name; done\n'
    plant += f"echo \"open({str(place.canary)!r}, 'w')\" >click.py; cp click.py sitecustomize.py\n"
    place.attack(plant, reads.parent)
    here = {"timeout": 60, "cwd": str(reads.parent)}
    # A Python started with such a PYTHONPATH in such a directory runs foreign code at once; monitor jobs use -E and -P.
    words = [sys.executable, "-E", "-P", "-m", "evalmon_agent"]
    done = exp.cluster.run(*words, "submit", str(exp.root), "--mode", "dependency", env=env, **here)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(place.jobs("-t", "R")) == 2, 30, place.jobs)
    theirs = reads.parent / "logs" / "x.eval"
    (exp.root.parent / "x.eval").write_bytes(inspect_log(status="started", at=time.time()))
    leave = 'mkdir "$1/logs"; cp "$exp/../x.eval" "$1/logs"; printf %s "$2" >"$1/gpu_metrics.csv"\n'
    place.attack(
        f'{leave}cp "$evil" "$3"', reads.parent, OUR_HEADER + our_tick(time.time() - BEGIN_UNIX_S, 97), changed
    )
    (place.private / "go").touch()
    exp.wait_complete()
    ev = exp.evals()["r1/reads/epoch0"]
    assert (ev["verdict"], ev["result"], ev["gpu"]) == ("failed", None, None)
    assert {"path": str(theirs), "owner": place.user} in ev["foreign"]
    (place.private / "again").touch()
    done = exp.cluster.run(*words, "retry", str(exp.root), env=env, **here)
    assert done.returncode == 0, done.stderr
    assert "its script has changed since (its group can write it; run: chmod g-w " in done.stdout
    wait_for(lambda: len(place.ran()) == 2, 60, place.jobs)
    assert f"r1/changed/epoch0 {digest}  -" in place.ran()
    assert (place.private / "logs").read_text() == "log: none\n"
