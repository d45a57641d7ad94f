"""Tests that unknown fields are ignored, and another schema is refused with advice and left alone, for each file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evalmon_agent.errors import UnreadableError
from evalmon_agent.experiment import experiment_lock, reports, settings_file, state, versioned
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.ledger import Ledger
from evalmon_agent.experiment.state import Heartbeat
from evalmon_agent.settings import Settings
from evalmon_agent.tracking.registry import Intent, Submission

pytestmark = pytest.mark.survives("F11")

Read = Callable[[], object]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    found = Experiment.at(str(tmp_path))
    found.prepare(group_readable=False)
    return found


def files(experiment: Experiment) -> dict[str, tuple[Path, Read]]:
    """Each file, written by evalmon, and how it is read."""
    state.hold(experiment, now=0).save()
    state.save_heartbeat(experiment, Heartbeat("command", "h", 1))
    experiment.ledger.append(Intent(Submission("r/a", "/r/a.slurm", token="a"), 1.0, "host", 1))
    experiment_lock.choice(experiment)
    own = Path(experiment.by_descriptor)
    return {
        "state.json": (own / "state.json", lambda: state.load(experiment)),
        "observer.json": (own / "observer.json", lambda: state.load_heartbeat(experiment)),
        "registry.jsonl": (own / "registry.jsonl", lambda: Ledger(str(own / "registry.jsonl")).entries()),
        "lock.json": (own / "lock.json", lambda: experiment_lock.recorded(experiment)),
        "experiment.json": (own / "experiment.json", lambda: Experiment.at(experiment.root).id),
    }


@pytest.mark.parametrize("name", ["state.json", "observer.json", "registry.jsonl", "lock.json", "experiment.json"])
class TestEachFile:
    def test_an_unknown_field_of_the_same_schema_is_ignored(self, experiment: Experiment, name: str) -> None:
        path, read = files(experiment)[name]
        before = read()
        path.write_text(json.dumps({"of_tomorrow": [{}], **json.loads(path.read_text())}) + "\n")
        assert read() == before
        assert before

    @pytest.mark.parametrize(
        ("schema", "says"),
        [
            (2, "by a newer evalmon; upgrade this one"),
            (0, "by an older evalmon, .*; go on with that one, or begin anew"),
        ],
    )
    @pytest.mark.parametrize("shape", ["same", "another"])
    def test_another_schema_is_refused_and_left_alone(
        self, experiment: Experiment, name: str, schema: int, says: str, shape: str
    ) -> None:
        path, read = files(experiment)[name]
        known = json.loads(path.read_text()) if shape == "same" else {"kind": ["x"], "evals": 1, "role": {}, "id": 0}
        path.write_text(json.dumps({**known, "schema": schema}) + "\n")
        before = path.read_bytes()
        with pytest.raises(UnreadableError, match=f"{name}: written {says}") as caught:
            read()
        assert caught.value.exit_status == 78
        assert path.read_bytes() == before


def test_a_file_without_a_schema_has_the_first() -> None:
    class Of2(msgspec.Struct):
        number: int
        schema: int

    decoder = msgspec.json.Decoder(Of2)
    assert versioned.decode(b'{"number":1,"schema":2}', decoder, path="f", schema=2) == Of2(1, 2)
    with pytest.raises(UnreadableError, match="f: written by an older evalmon"):
        versioned.decode(b'{"number":1}', decoder, path="f", schema=2)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"schema":', b'{"schema":"2"}', b'{"schema":2', b'{"x":' + b"[" * 4000])
def test_a_damaged_file_is_not_taken_for_another_versions(data: bytes) -> None:
    assert versioned.decode(data, msgspec.json.Decoder(Heartbeat), path="f", schema=1) is None


def test_a_jobs_report_of_another_schema_is_skipped(experiment: Experiment) -> None:
    for number, schema in ((11, 0), (12, 1), (13, 2)):
        report = {"schema": schema, "job_id": str(number), "attempts": [{"of_tomorrow": 1}]}
        (Path(experiment.jobs) / f"{number}.json").write_text(json.dumps(report))
    assert [report.job_id for report in reports.changed(experiment.jobs, {})] == ["12"]
    assert reports.unread(experiment.jobs) == ["11.json", "13.json"]


class TestKeptSettings:
    KEPT = Settings(poll_interval=90, scripts=["a/*.slurm"], notify=["mailto://me"])

    def load(self, experiment: Experiment, kept: Path) -> Settings:
        """As a monitor job does after an invalid edit."""
        Path(experiment.settings).write_text("poll_intervall: 60\n")
        found, why = settings_file.load_or_kept(experiment.settings, kept=str(kept), environ={})
        assert "no such setting" in why
        return found

    def test_settings_are_read_back_except_what_may_hold_secrets(self, experiment: Experiment, tmp_path: Path) -> None:
        settings_file.keep(str(tmp_path / "kept"), self.KEPT)
        found = self.load(experiment, tmp_path / "kept")
        assert (found.poll_interval, found.scripts, found.notify) == (90, ["a/*.slurm"], [])

    @pytest.mark.parametrize(
        ("more", "poll_interval_s"), [({"of_tomorrow": 1}, 90), ({"schema": 2}, 60), ({"schema": 0}, 60)]
    )
    def test_settings_of_another_schema_are_not_used(
        self, experiment: Experiment, tmp_path: Path, more: dict[str, int], poll_interval_s: float
    ) -> None:
        settings_file.keep(str(tmp_path / "kept"), self.KEPT)
        (tmp_path / "kept").write_text(json.dumps({**json.loads((tmp_path / "kept").read_text()), **more}))
        assert self.load(experiment, tmp_path / "kept").poll_interval == poll_interval_s
