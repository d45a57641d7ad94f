"""Tests the promises of the fold with a simulated Slurm whose true history is known.

After polls like an observer's, with failures, delays and lagging answers in between:

* the log has exactly the true transitions, once each, in order, each `Previous` being the last `Current`;
  SUSPENDED where a poll saw it;
* one COMPUTE_METRICS for each attempt that ran;
* no terminal state that did not happen; it ends soon after the last job; repeated facts change nothing;
* a state lost at any time is rebuilt from the log and the facts, and nothing is logged twice.

After facts in any order (such as stale answers of an observer that was stopped during a poll):

* the same final states, attempts and figures, whatever the order;
* no false state is logged, none twice, and the last one is the true one. A line may be missing: the log only grows,
  so an event found out late (an attempt between two others, a suspension) cannot be put before later ones;
* if only squeue's answers are out of order, and sacct is asked in the same poll: only suspensions may be missing, or
  be shown until the next poll though they are over.

"Any order" means within STALE_S (ten minutes): an older answer looks like one after a clock was set back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalmon_agent.tracking.records import Attempt, Eval
from evalmon_agent.tracking.registry import (
    Accepted,
    Dropped,
    Entries,
    Intent,
    Record,
    Refused,
    Submission,
    update_unsubmitted,
)
from evalmon_agent.tracking.timeline import slurm_says
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State
from tracking.simulated_slurm import EPOCH, MAX_LAG_S, MIN_JOB_AGE_S, Cluster, TrueJob, clusters, without_suspensions
from tracking.watching import Look, Watcher, copy_of

GENTLE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LOOKS = st.lists(
    st.builds(
        Look,
        after=st.integers(1, 300).map(float),
        squeue_fails=st.integers(0, 3).map(lambda n: n == 0),
        sacct_fails=st.integers(0, 3).map(lambda n: n == 0),
        reports_late_s=st.sampled_from([0.0, 0.0, 30.0, None]),
        lag_s=st.integers(0, MAX_LAG_S).map(float),
        mystery=st.integers(0, 9).map(lambda n: n == 0),
    ),
    max_size=12,
)


def seen_path(job: TrueJob, samples: Sequence[tuple[float, bool]]) -> list[tuple[str, State]]:
    """The true path with only those suspensions that these squeue answers showed."""
    path: list[tuple[str, State]] = []
    for number, attempt in enumerate(job.attempts):
        path += [(job.job_id, State.PENDING)] if number else []
        path += [(job.job_id, State.RUNNING)] if attempt.started_at is not None else []
        last = State.RUNNING
        for at, mystery in samples:
            row = job.row_at(at)
            live = row is not None and row.submitted_at == attempt.submitted_at
            state = row.state if row is not None and live and not mystery else None
            if state in {State.RUNNING, State.SUSPENDED} and state is not last:
                last = State(str(state))
                path.append((job.job_id, last))
        path.append((job.job_id, attempt.told_end))
    return path


def attempts_of(ev: Eval) -> list[Attempt]:
    return [attempt for job in ev.jobs for attempt in job.attempts]


def check_states(watcher: Watcher) -> None:
    for job in watcher.cluster.jobs:
        ev = watcher.state.evals[job.name]
        assert (job.attempts[-1].end, True) == (ev.state, ev.final)
        known = zip(job.attempts, attempts_of(ev), strict=True)
        assert all(a.submitted_at in {None, true.submitted_at} for true, a in known)
        accounted = [a.submitted_at for a in job.attempts if a.accounted]
        assert accounted == [a.submitted_at for a in attempts_of(ev) if a.submitted_at in accounted]
        assert [a.end for a in job.attempts if a.accounted] == [
            slurm_says(a) for a in attempts_of(ev) if a.submitted_at in accounted
        ]
        reported = [a.restart if a.reports and a.started_at is not None else None for a in job.attempts]
        reports = [attempt.report for attempt in attempts_of(ev)]
        assert all(r is None or r.restart == n for r, n in zip(reports, reported, strict=True)), (reports, reported)


def check_measured(watcher: Watcher) -> None:
    for job in watcher.cluster.jobs:
        assert sum(a.started_at is not None for a in job.attempts) == watcher.measured(job.name)


def polled_log_is_true(cluster: Cluster, looks: Sequence[Look]) -> None:
    watcher = Watcher(cluster)
    at = watcher.watch(looks, begin=EPOCH)
    after = [(180.0 * (n + 1) + at, False) for n in range(40)]
    end = watcher.watch_to_the_end(begin=at)
    times = []
    clock = EPOCH
    for look in looks:
        clock += look.after
        times += [] if look.squeue_fails else [(clock, look.mystery)]
    samples = times + [sample for sample in after if sample[0] <= end]
    for job in cluster.jobs:
        assert seen_path(job, samples) == watcher.logged(job.name), watcher.log
    check_states(watcher)
    check_measured(watcher)


@pytest.mark.survives("F18")
@GENTLE
@given(clusters(), LOOKS)
def test_the_log_has_exactly_the_true_transitions_whatever_fails_or_lags(cluster: Cluster, looks: list[Look]) -> None:
    polled_log_is_true(cluster, looks)


@pytest.mark.survives("F18")
@pytest.mark.full
@THOROUGH
@given(clusters(), LOOKS)
def test_the_log_has_exactly_the_true_transitions_in_many_examples(cluster: Cluster, looks: list[Look]) -> None:
    polled_log_is_true(cluster, looks)


def vanished_nodes_are_told_truly(cluster: Cluster, looks: Sequence[Look]) -> None:
    watcher = Watcher(cluster)
    watcher.watch_to_the_end(begin=watcher.watch(looks, begin=EPOCH))
    check_states(watcher)
    for job in cluster.jobs:
        logged, true = without_suspensions(watcher.logged(job.name)), job.true_path(suspended=False)
        assert true[-1] == logged[-1]
        assert is_subsequence(logged, true), watcher.log
        if all(a.accounted for a in job.attempts):
            assert true == logged, watcher.log


@pytest.mark.survives("F18")
@GENTLE
@given(clusters(nodes_vanish=True), LOOKS)
def test_each_report_is_matched_to_its_own_attempt_after_a_node_vanished(cluster: Cluster, looks: list[Look]) -> None:
    """The restart count then goes up by two, and accounting may lack the lost run, which only its report shows."""
    vanished_nodes_are_told_truly(cluster, looks)


@pytest.mark.survives("F18")
@pytest.mark.full
@THOROUGH
@given(clusters(nodes_vanish=True), LOOKS)
def test_reports_are_matched_after_vanished_nodes_in_many_examples(cluster: Cluster, looks: list[Look]) -> None:
    vanished_nodes_are_told_truly(cluster, looks)


def outcome(watcher: Watcher) -> dict[str, object]:
    """What people see in the end, whatever came first."""
    return {name: (ev.job_id, ev.state, ev.final, shown(ev)) for name, ev in watcher.state.evals.items()}


def shown(ev: Eval) -> list[tuple[object, ...]]:
    times = [(a.submitted_at, a.started_at, a.ended_at, a.elapsed_s) for a in attempts_of(ev)]
    ends = [(slurm_says(a), a.exit_code, a.signal, a.accounted if a.ran else None) for a in attempts_of(ev)]
    return [*times, *ends, *[(a.report,) for a in attempts_of(ev)]]


QUICK = clusters(longest_s=12)
"""Over in less than STALE_S, so that no fact of theirs is older than that."""


@GENTLE
@given(QUICK, LOOKS, st.randoms(use_true_random=False))
def test_repeated_facts_change_nothing_and_log_nothing(cluster: Cluster, looks: list[Look], random: Random) -> None:
    watcher = Watcher(cluster)
    at = watcher.watch([replace(look, after=min(look.after, 10.0)) for look in looks], begin=EPOCH)
    watcher.watch_to_the_end(begin=at, every_s=40.0)
    evals, log = copy_of(watcher.state).evals, watcher.log
    again = list(watcher.fed)
    random.shuffle(again)
    for facts in again:
        watcher.take(facts, now=at)
    assert log == watcher.log
    assert evals == watcher.state.evals


@GENTLE
@given(clusters(), LOOKS, st.integers(0, 12))
def test_a_state_lost_at_any_time_is_rebuilt_and_nothing_is_logged_twice(
    cluster: Cluster, looks: list[Look], lost_at: int
) -> None:
    watcher = Watcher(cluster)
    at = watcher.watch(looks[:lost_at], begin=EPOCH)
    watcher.lose_state()
    at = watcher.watch(looks[lost_at:], begin=at)
    watcher.watch_to_the_end(begin=at)
    for job in cluster.jobs:
        logged = watcher.logged(job.name)
        assert job.true_path(suspended=False) == without_suspensions(logged), watcher.log
        assert is_subsequence(logged, job.true_path())
    check_states(watcher)
    check_measured(watcher)


@GENTLE
@given(QUICK, LOOKS)
def test_a_state_lost_after_the_end_is_rebuilt_and_nothing_is_logged(cluster: Cluster, looks: list[Look]) -> None:
    watcher = Watcher(cluster)
    at = watcher.watch_to_the_end(begin=watcher.watch(looks, begin=EPOCH))
    before, log = outcome(watcher), watcher.log
    watcher.lose_state()
    watcher.watch_to_the_end(begin=at)
    assert log == watcher.log
    assert before == outcome(watcher)


@st.composite
def anything(draw: st.DrawFn) -> tuple[Cluster, list[Facts], list[Facts]]:
    """A cluster; its facts in the order of time; and the same facts in some order, doubled and grouped."""
    cluster = draw(QUICK)
    end = int(cluster.over_at - EPOCH)
    times = st.lists(st.integers(0, end).map(lambda s: EPOCH + s), max_size=8)
    facts = [(at, Facts(queue=cluster.queue(at))) for at in draw(times)]
    facts += [(at, Facts(reports=cluster.reports(at))) for at in [*draw(times), cluster.over_at]]
    lags = st.integers(0, MAX_LAG_S)
    facts += [(at, Facts(accounts=[cluster.accounts(at, lag=draw(lags))])) for at in draw(times)]
    last = cluster.over_at + MIN_JOB_AGE_S
    facts += [(last, Facts(queue=cluster.queue(last))), (last, Facts(accounts=[cluster.accounts(last)]))]
    in_time = [fact for _, fact in sorted(facts, key=lambda pair: pair[0])]
    doubled = [*in_time, *draw(st.lists(st.sampled_from(in_time), max_size=5))]
    # The registry is read before Slurm is asked.
    known = Facts(registrations=cluster.registrations())
    return cluster, [known, *in_time], [known, *_grouped(draw, draw(st.permutations(doubled)))]


def _grouped(draw: st.DrawFn, facts: Sequence[Facts]) -> list[Facts]:
    """Groups some successive facts into one."""
    groups: list[Facts] = []
    for fact in facts:
        last = groups[-1] if groups else Facts()
        fits = groups and not (last.queue and fact.queue) and draw(st.booleans())
        if not fits:
            groups.append(fact)
            continue
        groups[-1] = Facts(
            [*last.registrations, *fact.registrations],
            [*last.reports, *fact.reports],
            last.queue or fact.queue,
            [*last.accounts, *fact.accounts],
        )
    return groups


def any_order_ends_alike(found: tuple[Cluster, list[Facts], list[Facts]]) -> None:
    cluster, in_time, shuffled = found
    first, second = Watcher(cluster), Watcher(cluster)
    for watcher, facts in ((first, in_time), (second, shuffled)):
        for fact in facts:
            watcher.take(fact, now=cluster.over_at)
    assert outcome(first) == outcome(second)
    check_states(second)
    for job in cluster.jobs:
        logged, true = second.logged(job.name), job.true_path()
        assert true[-1] == logged[-1]
        assert is_subsequence(without_suspensions(logged), job.true_path(suspended=False)), second.log
        assert logged.count((job.job_id, State.SUSPENDED)) <= true.count((job.job_id, State.SUSPENDED))


def is_subsequence(some: Sequence[tuple[str, State]], whole: Sequence[tuple[str, State]]) -> bool:
    left = iter(whole)
    return all(key in left for key in some)


@GENTLE
@given(anything())
def test_facts_in_any_order_doubled_and_grouped_end_alike_and_invent_nothing(
    found: tuple[Cluster, list[Facts], list[Facts]],
) -> None:
    any_order_ends_alike(found)


REGISTRY = st.lists(st.sampled_from(["drop", "refused", "accepted"]), max_size=6)


@GENTLE
@given(anything(), REGISTRY, st.randoms(use_true_random=False))
def test_a_drop_or_a_refusal_at_any_time_and_twice_changes_no_transition(
    found: tuple[Cluster, list[Facts], list[Facts]], kinds: list[str], random: Random
) -> None:
    cluster, in_time, shuffled = found
    first, second = Watcher(cluster), Watcher(cluster)
    name = cluster.jobs[0].name
    records = [record for number, kind in enumerate(kinds) for record in _records(name, kind, number)]
    for fact in in_time:
        first.take(fact, now=cluster.over_at)
    update_unsubmitted(first.state, list(Entries(records)))
    read = 0
    for fact in shuffled:
        # Each observer has read the registry up to some line; the next one may read lines again.
        read = random.randint(read, len(records))
        update_unsubmitted(second.state, list(Entries([*records[:read], *records[:read]])))
        second.take(fact, now=cluster.over_at)
    update_unsubmitted(second.state, list(Entries([*records, *records])))
    assert outcome(first) == outcome(second)
    known = (first.state.dropped, first.state.refused)
    assert known == (second.state.dropped, second.state.refused)
    check_states(second)
    is_dropped = ["accepted", *kinds][-1] == "drop"
    assert is_dropped == (name in first.state.dropped)
    assert ([kind for kind in ["accepted", *kinds] if kind != "drop"][-1] == "refused") == (name in known[1])
    assert is_dropped == (name not in [ev.name for ev in second.state.counted])


def _records(name: str, kind: str, number: int) -> list[Record]:
    if kind == "drop":
        return [Dropped((name,), float(number))]
    token = str(number)
    intent = Intent(Submission(name, "/s", token=token), float(number), "h", 1)
    outcome = Refused(token, "no", float(number)) if kind == "refused" else Accepted(token, JobId("1"), float(number))
    return [intent, outcome]


@pytest.mark.survives("F18")
@pytest.mark.full
@THOROUGH
@given(anything())
def test_facts_in_any_order_end_alike_in_many_examples(found: tuple[Cluster, list[Facts], list[Facts]]) -> None:
    any_order_ends_alike(found)


@pytest.mark.survives("F7")
@GENTLE
@given(clusters(), LOOKS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_an_observer_that_was_stopped_and_resumes_adds_no_wrong_line(
    cluster: Cluster, looks: list[Look], stopped: list[bool]
) -> None:
    watcher = Watcher(cluster)
    at, held = EPOCH, []
    for look, is_stopped in zip(looks, stopped, strict=False):
        at += look.after
        facts = watcher.facts(look, at=at)
        if is_stopped and not held:
            held.append(facts)
            continue
        watcher.take(facts, now=at)
        while held:
            watcher.take(held.pop(), now=at)
        watcher.measure(now=at)
    watcher.watch_to_the_end(begin=at)
    for facts in held:
        watcher.take(facts, now=at)
    for job in cluster.jobs:
        logged = watcher.logged(job.name)
        assert job.true_path(suspended=False) == without_suspensions(logged), watcher.log
        assert logged.count((job.job_id, State.SUSPENDED)) <= job.true_path().count((job.job_id, State.SUSPENDED))
    check_states(watcher)
    check_measured(watcher)
