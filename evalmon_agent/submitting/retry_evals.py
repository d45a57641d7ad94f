"""Submits evals again that did not succeed: looks at them, reads their scripts, and submits what is planned."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from evalmon_agent.collect.collect import collect
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.evidence.diagnosis.causes import REFUSED, one_line
from evalmon_agent.evidence.result import worst
from evalmon_agent.experiment import scripts
from evalmon_agent.files.permissions import user_name
from evalmon_agent.files.trusted import ForeignError, OwnedFiles
from evalmon_agent.jobs.eval_scripts import change_since, read
from evalmon_agent.jobs.register import new_token
from evalmon_agent.monitor.finish import Measurer, measure
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sinfo import Partition
from evalmon_agent.submission.plan import Prepared, read_script
from evalmon_agent.submission.retry_plan import (
    ChosenEval,
    Retry,
    RetryRequest,
    RetryScript,
    decide,
    exclude_options,
    limits_in,
    submissions,
    with_options,
)
from evalmon_agent.submitting.prepare import check, prepare_scripts, resolve, submit_prepared
from evalmon_agent.submitting.submit_evals import Mode, SubmitReport
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, eval_name, latest
from evalmon_agent.tracking.timeline import unmeasured
from evalmon_agent.tracking.verdict import settle
from evalmon_agent.words.eval_names import named_evals


def retry(
    session: Session,
    request: RetryRequest,
    *,
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> SubmitReport:
    """Resubmit the chosen evals that did not succeed; nothing is submitted before every check has passed."""
    experiment, slurm = session.experiment, session.slurm
    experiment.require_monitored()
    check(session)
    if not dry_run:
        resolve(session, sleep=sleep)
    report = SubmitReport()
    observer = Observer(session, role="command")
    polled = observer.observe_once(at_least_s=0).state
    # With the figures that are available without waiting.
    state = measure(observer, Measurer(session=session, retry_delay_s=0.0), polled)
    chosen = named_evals(request.names, state.names, experiment=experiment.root)
    request = replace(request, chosen=frozenset(chosen))
    partitions, node_memory = slurm.partitions(), slurm.node_memory()
    retrier = _Retrier(
        session,
        request,
        report,
        () if isinstance(partitions, Failure) else partitions,
        {} if isinstance(node_memory, Failure) else node_memory,
    )
    prepared = [*retrier.prepared(state), *_refused_before(session, state, request, report)]
    submit_prepared(session, prepared, report, mode=mode, dry_run=dry_run, sleep=sleep)
    return report


@dataclass(frozen=True, slots=True)
class _Retrier:
    """Chooses the evals and builds their submissions; the report names those that are left out.

    `partitions`, `node_memory`: empty where sinfo does not answer: sbatch refuses what is too much.
    """

    session: Session
    request: RetryRequest
    report: SubmitReport
    partitions: Sequence[Partition]
    node_memory: Mapping[str, int]
    reader: LogReader = field(default_factory=lambda: LogReader(OwnedFiles(os.geteuid())))

    def prepared(self, state: ExperimentState) -> list[Prepared]:
        """The submissions to be: of an array's tasks those with the same options in one."""
        sources: dict[str, RetryScript | str] = {}
        groups: dict[tuple[str, str, bytes], list[ChosenEval]] = defaultdict(list)
        for chosen in self._choose(state):
            entry = chosen.entry
            if entry.token not in sources:
                sources[entry.token] = self._script(entry)
            source = sources[entry.token]
            # Tasks of one array that ran again with --changed may have another script than the others.
            content = b"" if isinstance(source, str) else source.script.content
            groups[entry.submission.script, chosen.name[0], content].append(chosen)
        return [new for group in groups.values() for new in self._submissions(group, sources[group[0].entry.token])]

    def _choose(self, state: ExperimentState) -> Iterator[ChosenEval]:
        entries = self.session.experiment.ledger.entries()
        counting = {eval_name(name): (name, entry) for name, entry in latest(entries).items()}
        for name in sorted(state.waiting.keys() - state.evals.keys()):
            if self.request.insists(name):
                self.report.skip(name, "it is already waiting to be submitted")
        self._collect(state)
        settled = settle(state)
        for ev in state.evals.values():
            if not self.request.means(ev.name):
                continue
            if ev.name in state.dropped:
                self._skip(ev, "it was dropped; to bring it back, submit its script" * self.request.insists(ev.name))
                continue
            registered, entry = counting.get(ev.name, (None, None))
            is_waiting = ev.name in state.waiting
            again = decide(ev, entry, settled[ev.name], self.request, is_waiting=is_waiting)
            if isinstance(again, str):
                self._skip(ev, again)
            elif registered is not None and entry is not None:
                yield ChosenEval(registered, ev, entry, self._with_own_log(again), worst(settled[ev.name].results))

    def _with_own_log(self, again: Retry) -> Retry:
        """Since its log was read, somebody else may have put another in its place, which the script would obey."""
        if again.log is None:
            return again
        try:
            with self.reader.files.open(again.log):
                return again
        except ForeignError as error:
            why = f"{error.filename} belongs to {user_name(error.uid)}"
        except OSError as error:
            why = f"{again.log} cannot be read ({error.strerror})"
        return replace(again, log=None, no_log=why)

    def _collect(self, state: ExperimentState) -> None:
        """What the last attempts left behind, also where figures are missing; only this process knows it."""
        for owed in unmeasured(state):
            if owed.attempt is owed.ev.latest and owed.attempt.evidence is None and self.request.means(owed.ev.name):
                owed.attempt.evidence = collect(
                    self.session.experiment, state, owed, self.reader, slurm=self.session.slurm
                )

    def _script(self, entry: Entry) -> RetryScript | str:
        """The script as it was submitted, or as it is now if that is asked for; or why there is none."""
        experiment, path = self.session.experiment, entry.submission.script
        if self.request.changed and not os.path.lexists(path):
            return f"its script is gone: {path}"
        submitted = scripts.read_script(experiment, entry.token, path)
        if self.request.changed:
            script = read(experiment, path)
            return RetryScript(script, is_changed=script.content != submitted)
        if submitted is None:
            return "the submitted copy of its script is gone; --changed uses the script as it is now"
        return RetryScript(read_script(path, submitted), change_since(path, submitted))

    def _submissions(self, group: Sequence[ChosenEval], source: RetryScript | str) -> Iterator[Prepared]:
        if isinstance(source, str):
            for chosen in group:
                self._skip(chosen.ev, source)
            return
        session, evals = self.session, list[ChosenEval]()
        named = session.environ.get("SBATCH_PARTITION") or source.script.head.options.get("partition", "")
        limits = limits_in(named, self.partitions, self.node_memory)
        for chosen in group:
            new = with_options(chosen, source, self.request, limits)
            if isinstance(new, str):
                self._skip(chosen.ev, new)
            else:
                evals.append(new)
        most = session.settings.max_submit
        yield from submissions(source, evals, most=most, environ=session.environ, new_token=new_token)

    def _skip(self, ev: Eval, why: str) -> None:
        if why:
            self.report.skip(ev.name, why, ev.job_id)


def _refused_before(
    session: Session, state: ExperimentState, request: RetryRequest, report: SubmitReport
) -> list[Prepared]:
    """The evals that never were in Slurm, as it refused them: with their scripts as they are now."""
    experiment = session.experiment
    if request.causes and REFUSED not in request.causes:
        return []
    refused = {n: r for n, r in state.refused.items() if n not in state.evals and n not in state.dropped}
    why_again: dict[str, str] = {}
    for path in dict.fromkeys(refusal.script for name, refusal in refused.items() if request.means(name)):
        array = [name for name, refusal in refused.items() if refusal.script == path]
        why = "" if os.path.lexists(path) else f"its script is gone: {path}"
        if not all(map(request.means, array)):
            why = "Slurm refused its whole array: name the array"
        if path in {state.refused[name].script for name in state.refused.keys() & state.dropped.keys()}:
            why = f"tasks of its array were dropped; to bring all back: evalmon submit {experiment.root} {path}"
        if why:
            for name in filter(request.means, array):
                report.skip(name, why)
        else:
            why_again[path] = f"Slurm refused it before: {one_line(refused[array[0]].error)}"
    if not why_again:
        return []
    prepared = prepare_scripts(session, [read(experiment, path) for path in why_again], experiment.ledger.entries())
    return [_after_refusal(item, why_again[item.script.path], request.exclude_nodes) for item in prepared]


def _after_refusal(item: Prepared, why: str, exclude_nodes: str) -> Prepared:
    exclude = exclude_options(item.script.head.options, {}, exclude_nodes)
    submission = msgspec.structs.replace(item.submission, options=tuple(exclude.argv))
    return replace(item, submission=submission, why=", ".join([why, *exclude.changes]))
