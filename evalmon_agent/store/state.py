"""state.json: loaded, saved, and set aside when it cannot be read."""

from __future__ import annotations

import os
import time

import msgspec

from evalmon_agent.errors import UnreadableError
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.logbook import read as logbook
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.tracking.records import SCHEMA, ExperimentState
from evalmon_agent.tracking.recover import recover

MAX_BYTES = 512 * 1024 * 1024

_decoder = msgspec.json.Decoder(ExperimentState)
_schema = msgspec.json.Decoder(dict[str, msgspec.Raw])


def load(experiment: Experiment) -> ExperimentState | None:
    """The state as saved; None if there is none or it cannot be read. Takes no lock: saves are atomic.

    A newer schema raises UnreadableError (78).
    """
    path = experiment.state
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        if _schema_of(data) > SCHEMA:
            raise _newer(path) from None
        return None


def load_for_update(experiment: Experiment, *, now: float) -> ExperimentState:
    """The state to fold into; call it under the lock. One that cannot be read is set aside, never overwritten.

    What a lost state knew comes back from the registry, the self-reports, Slurm and the log.
    """
    found = load(experiment)
    if found is not None:
        if found.schema > SCHEMA:
            raise _newer(experiment.state)
        return found
    if os.path.lexists(experiment.state):
        os.rename(experiment.state, f"{experiment.state}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}")
    state = ExperimentState(experiment=experiment.root)
    recover(state, logbook.blocks(_read_text(experiment.log)))
    return state


def save(experiment: Experiment, state: ExperimentState, *, mode: int = 0o600) -> None:
    """Replace state.json atomically; call it under the lock."""
    state.generation += 1
    replace_atomically(experiment.state, msgspec.json.encode(state), mode=mode)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _schema_of(data: bytes) -> int:
    try:
        return msgspec.json.decode(_schema.decode(data)["schema"], type=int)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError):
        return 0


def _newer(path: str) -> UnreadableError:
    return UnreadableError(f"{path}: written by a newer evalmon; upgrade this one (the file is left as it is)")
