"""`evalmon retry`: resubmits evals that did not succeed, raising time or memory where it ran out."""

from __future__ import annotations

import difflib
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from evalmon_agent.cli.options import experiment_argument, json_option, named_evals
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.cli.submissions import print_submitted
from evalmon_agent.collect.collect import collect
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.commands.submit import prepare_scripts, require_slurm, submit_prepared
from evalmon_agent.evidence.diagnosis.causes import CAUSES, REFUSED
from evalmon_agent.evidence.diagnosis.records import one_line
from evalmon_agent.evidence.result import EvalResult, whole_s, worst
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.exposure import refuse_world_writable
from evalmon_agent.files.permissions import user_name
from evalmon_agent.files.trusted import ForeignError, OwnedFiles
from evalmon_agent.jobs import register
from evalmon_agent.jobs.claims import new_token
from evalmon_agent.jobs.eval_scripts import change_since, read
from evalmon_agent.monitor.measure import Measurer, measure
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.monitor.unlock import release_if_over
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sbatch_options import by_long_name
from evalmon_agent.slurm.sinfo import Partition
from evalmon_agent.submission.plan import Prepared, Script, read_script
from evalmon_agent.submission.retry_limits import (
    Had,
    Limits,
    Options,
    exclude_options,
    memory_options,
    time_options,
)
from evalmon_agent.submission.retry_plan import (
    Retry,
    RetryRequest,
    array_option,
    certain_to_fail,
    decide,
    description,
    logs_of,
)
from evalmon_agent.submitting.start_monitor_jobs import Mode
from evalmon_agent.submitting.submit_evals import SubmitReport
from evalmon_agent.tracking.owed import unmeasured
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, Name, Submission
from evalmon_agent.tracking.results import settle
from evalmon_agent.tracking.unsubmitted import eval_name, latest


class _CauseType(click.ParamType[str]):
    """A cause by its slug."""

    name = "CAUSE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The slug, or exit status 2 with the nearest one."""
        slug = str(value)
        if slug not in CAUSES:
            nearest = difflib.get_close_matches(slug, CAUSES, n=1, cutoff=0.5)
            advice = f"did you mean {nearest[0]}?" if nearest else "evalmon report names the cause of each eval."
            self.fail(f"{slug!r} is not a cause; {advice}", param, ctx)
        return slug

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The slugs that begin so, with their meanings."""
        del ctx, param
        causes = CAUSES.items()
        return [CompletionItem(slug, help=cause.phrase) for slug, cause in causes if slug.startswith(incomplete)]


def _node_list(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """A list as sbatch's --exclude takes it; of a file's name sbatch would read another list on each submission."""
    if value is not None and not _NODE_LIST.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a list of nodes; write it like n3 or n[1-2],n7", ctx, param)
    return value or ""


_NODE_LIST = re.compile(r"\w(?:[\w.-]|\[[\d,-]+\]|,(?=\w))*", re.ASCII)


@click.command("retry")
@experiment_argument()
@click.option("--name", "names", multiple=True, metavar="NAME", help="Only this eval, array or pattern; repeatable.")
@click.option(
    "--cause", "causes", multiple=True, type=_CauseType(), help="Only evals that failed for this cause; repeatable."
)
@click.option("--failed", is_flag=True, help="Only evals that failed, not suspect ones.")
@click.option("--changed", is_flag=True, help="Use the scripts as they are now, not as they were submitted.")
@click.option(
    "--force",
    is_flag=True,
    help="Also evals that succeeded, that would fail in the same way, or that had all their attempts.",
)
@click.option(
    "--exclude-nodes", metavar="NODELIST", callback=_node_list, help="Do not run on these nodes, e.g. 'n[1-2],n7'."
)
@click.option(
    "--scale-time",
    type=click.FloatRange(1, 100),
    default=1.5,
    help="Factor for the time limit after TIMEOUT (default: 1.5).",
)
@click.option(
    "--scale-mem",
    type=click.FloatRange(1, 100),
    default=1.5,
    help="Factor for the memory after OUT_OF_MEMORY (default: 1.5).",
)
@click.option(
    "--max-retries", type=click.IntRange(1), default=2, help="Maximum retries per eval (default: 2, so 3 attempts)."
)
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and why.")
@json_option
def command(
    experiment: Experiment,
    names: Sequence[str],
    causes: Sequence[str],
    failed: bool,
    changed: bool,
    force: bool,
    exclude_nodes: str,
    scale_time: float,
    scale_mem: float,
    max_retries: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Resubmit evals that did not succeed, raising time or memory where it ran out."""
    session = session_for(experiment)
    request = RetryRequest(
        names,
        causes,
        failed_only=failed,
        changed=changed,
        force=force,
        exclude_nodes=exclude_nodes,
        max_retries=max_retries,
    )
    report = retry(session, request, More(scale_time, scale_mem), mode=session.settings.mode, dry_run=dry_run)
    if not as_json and not (report.submitted or report.waiting or report.refused):
        click.echo("nothing to run again")
    print_submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    sys.exit(report.exit_status)


@dataclass(frozen=True, slots=True)
class More:
    """How much more time and memory an eval gets that had too little: factors, 1 at least."""

    time: float = 1.5
    memory: float = 1.5


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One eval to be run again; `result`: what the worst of its last attempt's logs says."""

    name: Name
    ev: Eval
    entry: Entry
    again: Retry
    result: EvalResult | None


def retry(
    session: Session,
    request: RetryRequest,
    more: More,
    *,
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> SubmitReport:
    """Resubmit the evals that are meant and did not succeed; nothing is submitted before every check has passed."""
    experiment, slurm = session.experiment, session.slurm
    experiment.require_monitored()
    experiment.check()
    refuse_world_writable(experiment, session.settings)
    require_slurm(slurm)
    if not dry_run:
        release_if_over(experiment, slurm)
        register.resolve(experiment, slurm, sleep=sleep)
    report = SubmitReport()
    state = _look(session)
    request = replace(request, chosen=frozenset(named_evals(request.names, state.names, experiment)))
    retrier = _Retrier(session, request, more, report, _Partitions.ask(slurm))
    prepared = [*retrier.prepared(state), *_refused_before(session, state, request, report)]
    submit_prepared(session, prepared, report, mode=mode, dry_run=dry_run, sleep=sleep)
    return report


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
        mine = [name for name, refusal in refused.items() if refusal.script == path]
        why = "" if os.path.lexists(path) else f"its script is gone: {path}"
        if not all(map(request.means, mine)):
            why = "Slurm refused its whole array: name the array"
        if path in {state.refused[name].script for name in state.refused.keys() & state.dropped.keys()}:
            why = f"tasks of its array were dropped; to bring all back: evalmon submit {experiment.root} {path}"
        if why:
            report.skipped += [{"name": name, "job_id": None, "why": why} for name in mine if request.means(name)]
        else:
            why_again[path] = f"Slurm refused it before: {one_line(refused[mine[0]].error)}"
    if not why_again:
        return []
    prepared = prepare_scripts(session, [read(experiment, path) for path in why_again], experiment.ledger.entries())
    return [_again_with(item, why_again[item.script.path], request.exclude_nodes) for item in prepared]


def _again_with(item: Prepared, why: str, exclude_nodes: str) -> Prepared:
    exclude = exclude_options(item.script.head.options, {}, exclude_nodes)
    submission = msgspec.structs.replace(item.submission, options=tuple(exclude.argv))
    return replace(item, submission=submission, why=", ".join([why, *exclude.told]))


def _look(session: Session) -> ExperimentState:
    """The present state, with the figures that are available without waiting."""
    observer = Observer(session, role="command")
    state = observer.observe_once(at_least_s=0).state
    measurer = Measurer(session=session, retry_delay_s=0.0)
    return measure(observer, measurer, state)


@dataclass(frozen=True, slots=True)
class _Partitions:
    """The limits of time and memory, as sinfo says."""

    partitions: Sequence[Partition]
    node_memory: Mapping[str, int]

    @classmethod
    def ask(cls, slurm: Slurm) -> _Partitions:
        """Where sinfo does not answer, no limit is known: sbatch refuses what is too much."""
        partitions, memory = slurm.partitions(), slurm.node_memory()
        return cls(
            () if isinstance(partitions, Failure) else partitions,
            {} if isinstance(memory, Failure) else memory,
        )

    def limits(self, named: str) -> Limits:
        """Of several partitions the one that allows most; `named` as --partition has them, "" for the default."""
        mine = [p for p in self.partitions if (p.name in named.split(",") if named else p.is_default)]
        times = [p.time_limit_s for p in mine]
        longest = max((time_s for time_s in times if time_s is not None), default=None)
        sizes = [self.node_memory[p.name] for p in mine if p.name in self.node_memory]
        return Limits(None if None in times else longest, max(sizes, default=None))


@dataclass(frozen=True, slots=True)
class _Retrier:
    """Chooses the evals and builds their submissions; the report names those that are left out."""

    session: Session
    request: RetryRequest
    more: More
    report: SubmitReport
    partitions: _Partitions
    reader: LogReader = field(default_factory=lambda: LogReader(OwnedFiles(os.geteuid())))

    def prepared(self, state: ExperimentState) -> list[Prepared]:
        """The submissions to be: of an array's tasks those with the same options in one."""
        by_token: dict[str, tuple[Script | None, str]] = {}
        groups: dict[tuple[str, str, bytes], list[_Chosen]] = defaultdict(list)
        for chosen in self._choose(state):
            entry = chosen.entry
            if entry.token not in by_token:
                by_token[entry.token] = self._script(entry)
            script, _ = by_token[entry.token]
            # Tasks of one array that ran again with --changed may have another script than the others.
            groups[entry.submission.script, chosen.name[0], script.content if script else b""].append(chosen)
        return [new for group in groups.values() for new in self._group(group, *by_token[group[0].entry.token])]

    def _choose(self, state: ExperimentState) -> Iterator[_Chosen]:
        counting = {
            eval_name(name): (name, entry) for name, entry in latest(self.session.experiment.ledger.entries()).items()
        }
        for name in sorted(state.waiting.keys() - state.evals.keys()):
            if self.request.insists(name):
                self.report.skipped.append(
                    {"name": name, "job_id": None, "why": "it is already waiting to be submitted"}
                )
        self._collect(state)
        settled = settle(state)
        for ev in state.evals.values():
            if not self.request.means(ev.name):
                continue
            if ev.name in state.dropped:
                self._skip(ev, "it was dropped; to bring it back, submit its script" * self.request.insists(ev.name))
                continue
            counts, entry = counting.get(ev.name, (None, None))
            is_waiting = ev.name in state.waiting
            again = decide(ev, entry, settled[ev.name], self.request, is_waiting=is_waiting)
            if isinstance(again, str):
                self._skip(ev, again)
            elif counts is not None and entry is not None:
                yield _Chosen(counts, ev, entry, self._with_own_log(again), worst(settled[ev.name].results))

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

    def _group(self, group: Sequence[_Chosen], script: Script | None, remark: str) -> Iterator[Prepared]:
        is_array = group[0].name[1] is not None
        why_not = remark if script is None else _cannot(script, is_array=is_array)
        if script is None or why_not:
            for chosen in group:
                self._skip(chosen.ev, why_not)
            return
        by_options: dict[tuple[str, ...], list[tuple[_Chosen, str]]] = defaultdict(list)
        for chosen in group:
            options, why = self._options(chosen, script)
            if options is not None:
                by_options[options].append((chosen, f"{why}; {remark}" if remark else why))
        for options, alike in by_options.items():
            for part in self._parts(alike):
                yield _submission(script, part, options, self.session.environ)

    def _parts(self, alike: Sequence[tuple[_Chosen, str]]) -> Iterator[Sequence[tuple[_Chosen, str]]]:
        """No more tasks in one submission than may be with Slurm at once."""
        most = self.session.settings.max_submit or len(alike)
        return (alike[start : start + most] for start in range(0, len(alike), most))

    def _script(self, entry: Entry) -> tuple[Script | None, str]:
        """The script as it was submitted, or as it is now if that is asked for; and what is to be said of it."""
        experiment, path = self.session.experiment, entry.submission.script
        if self.request.changed:
            is_there = os.path.lexists(path)
            return read(experiment, path) if is_there else None, "" if is_there else f"its script is gone: {path}"
        submitted = self._submitted(entry)
        if submitted is None:
            return None, "the submitted copy of its script is gone; --changed uses the script as it is now"
        return read_script(path, submitted), change_since(path, submitted)

    def _options(self, chosen: _Chosen, script: Script) -> tuple[tuple[str, ...] | None, str]:
        """sbatch's options for it, and why it is run again; None: it is left out, for it would end the same way."""
        earlier, had = by_long_name(chosen.entry.submission.options), _had(chosen.ev, chosen.result)
        limits = self._limits(script)
        again, own = chosen.again, script.head.options
        changes = [
            time_options(own, earlier, had, limits, scale=self.more.time if again.more_time else None),
            memory_options(own, earlier, had, limits, scale=self.more.memory if again.more_memory else None),
            exclude_options(own, earlier, self.request.exclude_nodes),
        ]
        resumes = bool(logs_of({None: again}, script.content.decode(errors="replace")))
        why_not = self._why_not(chosen, script, changes, resumes=resumes)
        if why_not:
            self._skip(chosen.ev, why_not)
            return None, ""
        more = [text for change in changes for text in (*change.told, *filter(None, [change.why_not]))]
        goes_on = [f"goes on from {again.log}"] if resumes else []
        reason = ", ".join([description(again, self.request), *more, *goes_on])
        return tuple(word for change in changes for word in change.argv), reason

    def _why_not(self, chosen: _Chosen, script: Script, changes: Sequence[Options], *, resumes: bool) -> str:
        *more, exclude = changes
        no_more = next((change.why_not for change in more if change.why_not), "")
        if exclude.why_not:
            return exclude.why_not
        if no_more and not resumes and not self.request.force:
            return f"{chosen.again.reason}: {no_more}; --force runs it with the same"
        is_changed = self.request.changed and script.content != self._submitted(chosen.entry)
        return certain_to_fail(chosen.again, self.request, is_script_changed=is_changed)

    def _submitted(self, entry: Entry) -> bytes | None:
        return scripts.read_script(self.session.experiment, entry.token, entry.submission.script)

    def _limits(self, script: Script) -> Limits:
        named = self.session.environ.get("SBATCH_PARTITION") or script.head.options.get("partition", "")
        return self.partitions.limits(named)

    def _skip(self, ev: Eval, why: str) -> None:
        if why:
            self.report.skipped.append({"name": ev.name, "job_id": ev.job_id, "why": why})


def _submission(
    script: Script, part: Sequence[tuple[_Chosen, str]], options: Sequence[str], environ: Mapping[str, str]
) -> Prepared:
    first = part[0][0]
    tasks = (
        None if first.name[1] is None else sorted(chosen.name[1] for chosen, _ in part if chosen.name[1] is not None)
    )
    spec = environ.get("SBATCH_ARRAY_INX") or script.head.options.get("array", "")
    array = [] if tasks is None else [array_option(tasks, spec)]
    submission = Submission(
        first.name[0],
        script.path,
        first.entry.submission.output_dir,
        None if tasks is None else tuple(tasks),
        (*options, *array),
        new_token(),
    )
    instead_of = {chosen.name: chosen.entry.token for chosen, _ in part}
    logs = logs_of({chosen.name[1]: chosen.again for chosen, _ in part}, script.content.decode(errors="replace"))
    why = _why(part)
    return Prepared(script, submission, logs, f"{array[0]}; {why}" if array else why, instead_of)


def _why(part: Sequence[tuple[_Chosen, str]]) -> str:
    """Why these run again; of an array whose tasks differ, which of them for which reason."""
    tasks_by_text: dict[str, list[int]] = defaultdict(list)
    for chosen, text in part:
        tasks_by_text[text].append(chosen.name[1] or 0)
    if len(tasks_by_text) == 1:
        return part[0][1]
    return "; ".join(f"[{array_option(tasks, '').partition('=')[2]}] {text}" for text, tasks in tasks_by_text.items())


def _cannot(script: Script, *, is_array: bool) -> str:
    if script.head.is_het:
        return "a heterogeneous job has separate limits for each part; submit it yourself"
    if not is_array and script.head.options.get("array"):
        return "its script is now an array; submit it as new evals: evalmon submit"
    return ""


def _had(ev: Eval, result: EvalResult | None) -> Had:
    attempt = ev.latest
    if attempt is None:
        return Had()
    figures = attempt.figures or attempt.accounted
    node = attempt.node_list or ""
    return Had(
        time_limit_s=attempt.time_limit_s,
        elapsed_s=attempt.elapsed_s,
        whole_s=whole_s(result, attempt.elapsed_s),
        memory_bytes=figures.memory_requested_bytes if figures is not None else None,
        cpus=attempt.cpus,
        gpus=sum(attempt.gpus.values()) if attempt.gpus else None,
        single_node=bool(node) and "," not in node and "[" not in node,
    )
