"""`evalmon retry`: resubmits evals that did not succeed, raising time or memory where it ran out."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from evalmon_agent.cli.options import experiment_argument, json_option
from evalmon_agent.cli.output import interruptible
from evalmon_agent.cli.submissions import print_submitted
from evalmon_agent.errors import did_you_mean
from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.session import Session
from evalmon_agent.submission.retry_plan import RetryRequest
from evalmon_agent.submitting.retry_evals import retry


class _CauseType(click.ParamType[str]):
    """A cause by its slug."""

    name = "CAUSE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The slug, or exit status 2 with the nearest one."""
        slug = str(value)
        if slug not in CAUSES:
            suggestion = did_you_mean(slug, CAUSES) or "; evalmon report names the cause of each eval."
            self.fail(f"{slug!r} is not a cause{suggestion}", param, ctx)
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
    session = Session.of_command(experiment)
    request = RetryRequest(
        names,
        causes,
        failed_only=failed,
        changed=changed,
        force=force,
        exclude_nodes=exclude_nodes,
        scale_time=scale_time,
        scale_memory=scale_mem,
        max_retries=max_retries,
    )
    with interruptible("nothing was submitted"):
        report = retry(session, request, mode=session.settings.mode, dry_run=dry_run)
    if not as_json and not (report.submitted or report.waiting or report.refused):
        click.echo("nothing to run again")
    print_submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    sys.exit(report.exit_status)
