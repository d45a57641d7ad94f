"""Tests that real receivers get each notification once, without secrets, whatever is killed, hangs or is down."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

import faults
import receivers
import schema_check
from evalmon_agent.experiment import settings_file
from experiments import Exp, ended, running
from receivers import PASSWORD, Mail, Web

PRINTED = "the-secret-line-that-the-eval-printed"
TRACEBACK = 'Traceback (most recent call last):\n  File "eval.py", line 3, in <module>\n    main()\n{error}\n'
OUTPUTS = {
    "cuda-out-of-memory": "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "missing-module": "ModuleNotFoundError: No module named 'vllm'",
    "disk-full": "OSError: [Errno 28] No space left on device: '/scratch/x'",
}


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    return Exp(tmp_path)


@pytest.fixture
def web() -> Iterator[Web]:
    with receivers.web() as server:
        yield server


@pytest.fixture
def mail() -> Iterator[Mail]:
    with receivers.mail() as server:
        yield server


class Trouble(NamedTuple):
    """A completion job at work, one of whose targets hangs, and another refuses; `web` gets what is sent to it."""

    exp: Exp
    web: Web
    job: subprocess.Popen[bytes]


@pytest.fixture(scope="module", autouse=True)
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """Begins with the first test here and is looked at by the last: it waits twice for a real time limit of 30 s."""
    exp = Exp(tmp_path_factory.mktemp("trouble"))
    with receivers.web() as web, receivers.web() as refusing:
        refusing.status = 500
        configure(exp, notify=[refusing.url, web.url], notify_command=["sleep", "1000"])
        end(exp, submit(exp, "a"))
        argv = [shutil.which("timeout") or "timeout", "190", sys.executable, "-m", "evalmon_agent", "complete", "."]
        with subprocess.Popen(argv, env=exp.slurm.environ, cwd=exp.root, stderr=subprocess.PIPE) as job:
            try:
                yield Trouble(exp, web, job)
            finally:
                job.terminate()


def configure(exp: Exp, **settings: Any) -> None:
    path = exp.root / "evalmon.yaml"
    path.write_text(json.dumps({"poll_interval": 1, "seff_retry_delay": 0, **settings}))
    path.chmod(0o600)


def submit(exp: Exp, *names: str) -> dict[str, tuple[str, str, int]]:
    """Submit these evals; returns (job id, script, submit time) of each."""
    for name in names:
        path = exp.root / "r1" / "eval" / f"{name}_epoch0.slurm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n#SBATCH --time=5\n#SBATCH --output={path.parent}/{name}.out\ntrue\n")
    assert exp.evalmon("submit", ".", "--mode", "dependency").returncode == 0
    jobs = {}
    for path in sorted((exp.slurm.directory / "queue").iterdir()):
        row = path.read_text().split("\x1f")
        match = re.fullmatch(r"(.+)_epoch0\.slurm", os.path.basename(row[-2]))
        if match is not None:
            jobs[match[1]] = (row[0].removeprefix("\x1e"), row[-2], int(row[2]))
    return jobs


def end(exp: Exp, jobs: dict[str, tuple[str, str, int]], **printed: str) -> None:
    """All are over: those that `printed` something failed with that."""
    rows = []
    for name, (job_id, command, submitted) in jobs.items():
        state = "FAILED" if name in printed else "COMPLETED"
        times = {"submitted": submitted, "started": submitted, "ended": int(time.time()) + 2}
        rows.append(ended(job_id, state, command=command, exit_code="1:0" if name in printed else "0:0", **times))
        exp.slurm.measure(rows[-1])
        text = f"{PRINTED}\n" + (TRACEBACK.format(error=f"{printed[name]} {PRINTED}") if name in printed else "")
        (exp.root / "r1" / "eval" / f"{name}.out").write_text(text)
    exp.slurm.show(rows)
    for row in (exp.slurm.directory / "queue").iterdir():
        row.unlink()


def over(exp: Exp) -> None:
    """One eval, which is over and of which all figures are known."""
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    exp.slurm.measure(ended("11"))


def journal(exp: Exp, kind: str) -> list[dict[str, Any]]:
    path = exp.ours / "notifications.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []
    return [line for line in lines if line["type"] == kind]


def everything_written(exp: Exp) -> str:
    paths = [path for path in exp.ours.rglob("*") if path.is_file()]
    return "".join(path.read_text(errors="replace") for path in paths)


def recorder(exp: Exp, name: str = "events.jsonl", then: str = "") -> list[str]:
    """A `notify_command` that records what it gets."""
    return ["sh", "-c", f"cat >>{exp.root}/{name}; {then}"]


def recorded(exp: Exp, name: str = "events.jsonl") -> list[dict[str, Any]]:
    path = exp.root / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_receiver_gets_each_event_once_and_no_text_that_an_eval_printed(exp: Exp, web: Web, mail: Mail) -> None:
    configure(exp, notify=[web.url, {"url": mail.url, "events": ["complete"]}], notify_command=recorder(exp))
    jobs = submit(exp, "a", "b", "c", "d")
    end(exp, jobs, a=OUTPUTS["cuda-out-of-memory"], b=OUTPUTS["cuda-out-of-memory"])
    done = exp.evalmon("complete", ".")
    assert (done.returncode, done.stderr) == (0, "")
    for _ in range(2):
        assert exp.evalmon("report", ".").returncode == 1
    failed, complete = recorded(exp)
    assert (failed["event"], failed["level"]) == ("failed", "error")
    assert failed["title"] == "2 evals ran out of GPU memory"
    assert failed["evals"] == ["r1/a/epoch0", "r1/b/epoch0"]
    assert (complete["event"], complete["level"]) == ("complete", "error")
    assert complete["title"] == "2 of 4 evals succeeded; 2 need you: all ran out of GPU memory"
    assert complete["text"].splitlines()[0] == "r1/a/epoch0, r1/b/epoch0 ran out of GPU memory"
    keys = ["schema", "id", "event", "experiment", "at", "title", "text", "level", "evals", "summary"]
    assert list(complete) == keys
    for event in (failed, complete):
        jsonschema.validate(event, json.loads((schema_check.DIRECTORY / "notification.schema.json").read_text()))
    assert complete["experiment"] == str(exp.root)
    assert json.loads(Path(complete["summary"]).read_text())["complete"] is True
    assert web.titles == [f"study: {failed['title']}", f"study: {complete['title']}"]
    assert [message["Subject"] for message in mail.got] == [f"study: {complete['title']}"]
    whole = json.dumps([recorded(exp), web.got, [str(message) for message in mail.got]])
    assert PRINTED not in whole
    assert PRINTED in everything_written(exp)  # it is in the diagnosis, so it could have been sent
    assert "swordfish" not in everything_written(exp) + done.stdout


def test_a_thousand_failures_of_three_causes_are_three_events(exp: Exp) -> None:
    configure(exp, notify_command=recorder(exp))
    exp.register(**{f"r1_t{n}": str(5000 + n) for n in range(1000)})
    jobs = []
    for n in range(1000):
        state, code = (("FAILED", "1:0"), ("TIMEOUT", "0:15"), ("OUT_OF_MEMORY", "0:125"))[n % 3]
        jobs.append(ended(str(5000 + n), state, exit_code=code, command=str(exp.root / f"r1/t{n}.slurm")))
    exp.slurm.show(jobs)
    exp.slurm.remove("seff")
    assert exp.evalmon("complete", ".").returncode == 0
    events = Counter(event["event"] for event in recorded(exp))
    assert events == {"failed": 3, "complete": 1}
    assert len({event["id"] for event in recorded(exp)}) == 4
    assert sum(len(event["text"]) for event in recorded(exp)) < 4000


def test_notifications_that_a_compute_node_cannot_send_are_kept_and_sent_by_a_command_that_can(exp: Exp) -> None:
    way_out = exp.root / "network"
    configure(exp, notify_command=["sh", "-c", f"[ -e {way_out} ] && cat >>{exp.root}/events.jsonl"])
    jobs = submit(exp, "a", "b")
    end(exp, jobs, a=OUTPUTS["missing-module"])
    exp.evalmon("complete", ".")
    assert recorded(exp) == []
    [block] = exp.blocks("NOTIFICATION_FAILED")
    assert block == (
        "NOTIFICATION_FAILED: notify_command\n"
        "Error: it ended with exit status 1\n"
        "Action: Kept, and sent by the next monitor job or command that can, e.g. evalmon status on a login node"
    )
    way_out.touch()
    from_elsewhere(exp)
    exp.evalmon("status", ".")
    faults.wait_until(lambda: len(journal(exp, "sent")) == 2, within_s=60)
    assert [event["event"] for event in recorded(exp)] == ["failed", "complete"]
    exp.evalmon("status", ".")
    assert exp.blocks("NOTIFICATION_FAILED", "NOTIFICATION_RECOVERED") == [
        block,
        "NOTIFICATION_RECOVERED: notify_command\nResult: Notifications are sent again",
    ]
    assert len(recorded(exp)) == 2


def from_elsewhere(exp: Exp) -> None:
    """Pretend that earlier failures happened on another host."""
    path = exp.ours / "notifications.jsonl"
    path.write_text(re.sub(r'"host":"[^"]*"', '"host":"node1"', path.read_text()))


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["no-such-program", PASSWORD], "cannot run no-such-program: not found on PATH"),
        (["sh", "-c", f"echo {PASSWORD} >&2; exit 3"], "it ended with exit status 3"),
        (["sh", "-c", "while :; do echo flood; done"], "it printed more than 1 MiB"),
        (["sh", "-c", "kill -9 $$"], "it ended with signal 9"),
    ],
)
def test_a_failing_command_is_logged_once_without_its_output(exp: Exp, command: list[str], error: str) -> None:
    configure(exp, notify_command=command)
    over(exp)
    assert exp.evalmon("complete", ".").returncode == 0
    assert exp.evalmon("status", ".").returncode == 0
    [block] = exp.blocks("NOTIFICATION_FAILED")
    assert block.splitlines()[1] == f"Error: {error}"
    assert PASSWORD not in everything_written(exp)
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def test_no_poll_waits_for_a_hanging_target(exp: Exp) -> None:
    configure(exp, notify_command=["sleep", "1000"])
    exp.settings = settings_file.load(exp.experiment.settings, environ=exp.slurm.environ)
    exp.register(r1_a="11", r1_b="12")
    exp.slurm.show([ended("11", "TIMEOUT", started=None), running("12")])
    observer = exp.observer()
    try:
        observer.observe_once(at_least_s=0)
        began = time.monotonic()
        faults.wait_until(lambda: journal(exp, "began"), within_s=60)
        for _ in range(3):
            observer.observe_once(at_least_s=0)
        assert observer.notifier._is_running()
        assert time.monotonic() - began < 25
    finally:
        observer.notifier._child.end()
    assert len(journal(exp, "began")) == 1, "at most one process sends at a time"
    assert len(journal(exp, "ended")) == 1, "it says that it ended, so that the next need not wait"


def test_without_apprise_the_log_and_doctor_say_what_to_install_and_everything_else_works(
    exp: Exp, tmp_path: Path
) -> None:
    python = without_apprise(tmp_path)
    configure(exp, notify=["ntfy://localhost/x"], notify_command=recorder(exp))
    over(exp)
    argv = [python, "-m", "evalmon_agent"]
    subprocess.run([*argv, "complete", "."], check=True, env=exp.slurm.environ, cwd=exp.root)
    action = f"To install it: {python} -m pip install apprise; notifications are kept until then"
    assert exp.blocks("NOTIFICATION_FAILED") == [
        f"NOTIFICATION_FAILED: notify[0] (ntfy)\nError: Apprise is not installed\nAction: {action}"
    ]
    assert [event["event"] for event in recorded(exp)] == ["complete"]
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    done = subprocess.run([*argv, "doctor", "."], check=False, env=exp.slurm.environ, cwd=exp.root, capture_output=True)
    remedy = f"run: {python} -m pip install apprise"
    assert f"Apprise is not installed; the URLs of notify get nothing; {remedy}" in done.stdout.decode()


def without_apprise(directory: Path) -> Path:
    """An interpreter with everything that this one has installed except Apprise."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "venv"], check=True)
    there = next((directory / "venv").glob("lib/python3*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith("apprise") and not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)
    return directory / "venv/bin/python"


def test_a_test_notification_is_sent_to_each_target_at_once(exp: Exp, web: Web) -> None:
    configure(exp, notify=[web.url, "swordfish"], notify_command=["false"])
    done = exp.evalmon("notify", ".", "--test", env={"PATH": os.environ["PATH"]})
    assert done.returncode == 1
    assert web.titles == ["study: A test by evalmon notify"]
    assert done.stdout.splitlines() == [
        "notify[0] (json): sent",
        "notify[1]: not sent: Apprise does not know this kind of URL",
        "notify_command: not sent: it ended with exit status 1",
    ]
    configure(exp)
    done = exp.evalmon("notify", ".", "--test")
    assert (done.returncode, done.stderr) == (
        2,
        f"evalmon: {exp.root}/evalmon.yaml: set notify or notify_command first\n",
    )


def test_readable_urls_are_reported_by_the_first_submit_and_by_doctor(exp: Exp) -> None:
    exp.root.chmod(0o755)
    configure(exp, notify=[f"json://me:{PASSWORD}@127.0.0.1:1/"])
    settings = exp.root / "evalmon.yaml"
    settings.chmod(0o640)
    (exp.root / "r1" / "eval").mkdir(parents=True)
    (exp.root / "r1" / "eval" / "a_epoch0.slurm").write_text("#!/bin/sh\ntrue\n")
    told = f"{settings}: its group can read the URLs of notify, which may hold passwords; run: chmod 600 {settings}"
    assert told in exp.evalmon("submit", ".").stderr
    done = exp.evalmon("doctor", ".")
    assert told in done.stdout
    assert PASSWORD not in done.stdout
    assert told not in exp.evalmon("submit", ".").stderr
    settings.chmod(0o600)
    assert "can read the URLs" not in exp.evalmon("doctor", ".").stdout


def sidecar(exp: Exp) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "evalmon_agent", "sidecar", "."]
    return subprocess.Popen(argv, env=exp.slurm.environ, cwd=exp.root, stdout=subprocess.PIPE, text=True)


def test_a_sidecar_sends_while_it_watches_and_once_more_before_it_ends(exp: Exp, web: Web) -> None:
    configure(exp, notify=[web.url])
    exp.register(r1_a="11", r1_b="12")
    exp.slurm.show([ended("11", "TIMEOUT"), running("12")])
    watching = sidecar(exp)
    try:
        faults.wait_until(lambda: web.titles[:1] == ["study: r1/a reached the time limit"], within_s=60)
        exp.slurm.show([ended("11", "TIMEOUT"), ended("12")])
        assert watching.wait(120) == 0
    finally:
        watching.kill()
        watching.communicate()
    assert web.titles[-1] == "study: 1 of 2 evals succeeded; 1 needs you: r1/a reached the time limit"
    assert len(web.titles) == len(set(web.titles))
    assert exp.blocks()[-1].startswith("MONITOR_STOPPED: sidecar\nReason: all evaluations are over")


def test_a_cancelled_sidecar_ends_at_once_although_a_target_hangs(exp: Exp) -> None:
    configure(exp, notify_command=["sleep", "1000"])
    exp.register(r1_a="11", r1_b="12")
    exp.slurm.show([ended("11", "TIMEOUT"), running("12")])
    watching = sidecar(exp)
    try:
        faults.wait_until(lambda: journal(exp, "began"), within_s=60)
        watching.terminate()
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.communicate()
    faults.wait_until(lambda: journal(exp, "ended"), within_s=60)
    assert journal(exp, "sent") == []
    assert exp.blocks()[-1].startswith("MONITOR_STOPPED: sidecar\nReason: ended by SIGTERM")


def test_a_url_is_in_no_process_listing(exp: Exp, web: Web) -> None:
    web.hangs_s = 2.0
    configure(exp, notify=[web.url])
    argv = [sys.executable, "-m", "evalmon_agent", "notify", ".", "--test"]
    sending = subprocess.Popen(argv, env=exp.slurm.environ, cwd=exp.root, stdout=subprocess.PIPE, text=True)
    listings = []
    try:
        while sending.poll() is None:
            listings.append(process_listing())
            time.sleep(0.1)
    finally:
        sending.kill()
        assert "sent" in sending.communicate()[0]
    assert any("evalmon_agent.notify.send" in listing for listing in listings)
    assert not any(PASSWORD in listing for listing in listings)


def process_listing() -> str:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


def test_a_hanging_or_refusing_target_does_not_delay_the_others(trouble: Trouble) -> None:
    exp = trouble.exp
    _, errors = trouble.job.communicate(timeout=200)
    assert (trouble.job.returncode, errors) == (0, b""), "124: it was at work for 190 s"
    assert trouble.web.titles == ["study: The eval succeeded"]
    assert sorted(block.splitlines()[:2] for block in exp.blocks("NOTIFICATION_FAILED")) == [
        ["NOTIFICATION_FAILED: notify[0] (json)", "Error: Apprise could not send it"],
        ["NOTIFICATION_FAILED: notify_command", "Error: it did not end within 30 s"],
    ]
    assert PASSWORD not in everything_written(exp)
    assert schema_check.problems(exp.root) == []
