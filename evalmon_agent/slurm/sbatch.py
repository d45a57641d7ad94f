"""Submits a script: the argv and answer of sbatch, what sbatch reads of the script, and its options by long name.

sbatch reads a script so (_opt_batch_script and get_argument in src/sbatch/opt.c; tried on 22.05): lines that start with
`#SBATCH` up to the first line that is neither comment nor blank; all their arguments make one argv.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from evalmon_agent.slurm.failures import is_submit_limit
from evalmon_agent.words.job_id import JobId, parse_job_id, task_of, whole_job

TEST_ONLY = "--test-only"

_SENTENCE = re.compile(r"\bSubmitted batch job ([1-9][0-9]{0,9})\b(?: on cluster (\S+))?", re.ASCII)
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;([^\s;]+))?", re.ASCII)

_MAGIC = "#SBATCH"
_SEPARATORS = frozenset({"hetjob", "packjob"})

# isspace() of C: sbatch does not count Unicode's blanks.
_BLANKS = " \t\n\v\f\r"

# sbatch(1), up to 25.05.
_WITH_VALUE = frozenset(
    """
    account acctg-freq array batch bb bbf begin chdir cluster cluster-constraint clusters comment constraint
    container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
    dependency distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus
    gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep
    licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile
    nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket oom-kill-step
    open-mode output partition power prefer priority profile qos reservation segment signal sockets-per-node
    switches tasks tasks-per-node thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid
    umask wait-all-nodes wckey workdir wrap
    """.split()  # noqa: SIM905 - eighty quoted strings read worse
)
_FLAGS = frozenset(
    """
    contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot requeue share
    spread-job stepmgr test-only usage use-min-nodes verbose version wait
    """.split()  # noqa: SIM905 - eighty quoted strings read worse
)
# Their value stands behind a `=` or nowhere.
_WITH_OPTIONAL_VALUE = frozenset({"exclusive", "get-user-env", "nice", "no-kill", "propagate", "resv-ports"})

_LONG = _WITH_VALUE | _FLAGS | _WITH_OPTIONAL_VALUE
_RENAMED = MappingProxyType(
    {
        "cluster": "clusters",
        "share": "oversubscribe",
        "tasks": "ntasks",
        "tasks-per-node": "ntasks-per-node",
        "workdir": "chdir",
    }
)
_SHORT: Mapping[str, str] = dict(
    pair.split("=")
    for pair in """
    A=account a=array B=extra-node-info b=begin C=constraint c=cpus-per-task D=chdir d=dependency e=error F=nodefile
    G=gpus H=hold h=help i=input J=job-name k=no-kill L=licenses M=clusters m=distribution N=nodes n=ntasks
    O=overcommit o=output p=partition Q=quiet q=qos S=core-spec s=oversubscribe t=time V=version v=verbose W=wait
    w=nodelist x=exclude
    """.split()  # noqa: SIM905 - thirty quoted strings read worse
)

_VARIABLE = "SBATCH_"
_NAMED_OTHERWISE = MappingProxyType({"timelimit": "time", "array-inx": "array", "mem-per-node": "mem"})

_SPECIFIER = re.compile(r"%(?P<width>\d{0,2})(?P<letter>[A-Za-z%])")


@dataclass(frozen=True, slots=True)
class Submitted:
    """sbatch's answer: the job's id and cluster, or why there is none.

    `said_plainly`: the id, in a sentence, and not by a number alone on its line, which could be anything of a site's
    wrapper. `unknown`: sbatch was killed or printed nothing usable, so Slurm may or may not have taken the job.
    `doubtful`: that, or it failed, but not in Slurm's words; whether there is a job is to be looked up.
    `waits`: it may be accepted later, or from another place.
    """

    job_id: JobId | None = None
    cluster: str | None = None
    said_plainly: bool = False
    refusal: str = ""
    unknown: bool = False
    doubtful: bool = False
    waits: bool = False

    @property
    def is_full(self) -> bool:
        """Whether it was refused only because too many jobs are in the queue."""
        return self.job_id is None and not self.unknown and is_submit_limit(self.refusal)


def argv(script: str, *, options: Sequence[str] = ()) -> list[str]:
    """Submit this file. Without options, its #SBATCH lines alone decide; nothing in them is overridden."""
    # The `--` is for a file whose name starts with a dash.
    return ["sbatch", "--parsable", *options, "--", script]


def parse(stdout: str, stderr: str = "") -> Submitted:
    """The job that sbatch's answer names; no id if it names none, or could mean several.

    With `--parsable` it is the id alone on a line, or with the cluster. A site's wrapper may drop that option, so the
    sentence of plain sbatch counts too, and first; and it may print lines of its own, a bare number among them.
    """
    sentences = set(_SENTENCE.findall(f"{stdout}\n{stderr}"))
    lines = {match.groups("") for line in stdout.splitlines() if (match := _PARSABLE.fullmatch(line.strip()))}
    answers = sentences or lines
    if len(answers) != 1:
        return Submitted()
    [(job_id, cluster)] = answers
    return Submitted(parse_job_id(job_id), cluster or None, said_plainly=bool(sentences))


@dataclass(frozen=True, slots=True)
class ScriptHead:
    """The part of a script that sbatch reads.

    `shebang` is the whole first line, None if it is none (sbatch refuses the script). `leading_lines` are the
    comments and blank lines below it, verbatim, where #SBATCH lines count. `options` are those of the first
    component, by long name (`-p` and `--part` are `partition`), the last one of a name; a flag's value is "".
    """

    shebang: str | None
    leading_lines: tuple[str, ...]
    options: Mapping[str, str]
    is_het: bool


def read_head(text: str) -> ScriptHead:
    """The head of any text; what sbatch would refuse is left out."""
    lines = list(_leading(text))
    shebang = lines.pop(0) if lines and lines[0].startswith("#!") else None
    words: list[str] = []
    is_het = False
    for line in lines:
        arguments = list(_arguments(line))
        # sbatch reads no further in a line that has the bare word; at its start it begins a component.
        at = next((i for i, (_, raw) in enumerate(arguments) if raw.lower() in _SEPARATORS), len(arguments))
        is_het = is_het or (bool(arguments) and at == 0)
        if not is_het:
            words += [argument for argument, _ in arguments[:at]]
    return ScriptHead(
        shebang=shebang,
        leading_lines=tuple(lines),
        options=MappingProxyType(by_long_name(words)),
        is_het=is_het,
    )


def without_wait(line: str) -> str:
    """The line without `--wait`, an option of sbatch alone, by which it lasts as long as the job."""
    for argument, raw in _arguments(line):
        if list(by_long_name([argument])) == ["wait"]:
            before, _, after = line.partition(raw)
            line = f"{before.rstrip(_BLANKS)} {after.lstrip(_BLANKS)}".rstrip(_BLANKS)
    return line


def _leading(text: str) -> Iterator[str]:
    lines = (line.removesuffix("\n") for line in io.StringIO(text))
    return takewhile(lambda line: line.lstrip(_BLANKS)[:1] in {"", "#"}, lines)


def _arguments(line: str) -> Iterator[tuple[str, str]]:
    """The arguments of a `#SBATCH` line, each with its text as written.

    Both quotes group, a backslash takes what follows, `#` ends the line.
    """
    at = len(_MAGIC) if line.startswith(_MAGIC) else len(line)
    while at < len(line):
        if line[at] in _BLANKS:
            at += 1
            continue
        start = at
        argument, at = _argument(line, start)
        # Nothing, as in `--comment ""`: sbatch takes that for the end of the line.
        if not argument:
            return
        yield argument, line[start:at]


def _argument(line: str, start: int) -> tuple[str, int]:
    """The argument that starts there, and where the rest of the line starts."""
    taken: list[str] = []
    quote = ""
    escaped = False
    for at in range(start, len(line)):
        char = line[at]
        # Before the backslash is looked at: `\\ ` ends an argument anyway.
        if char in _BLANKS and not quote:
            return "".join(taken), at
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
            continue
        elif char == quote or (char in "\"'" and not quote):
            quote = "" if quote else char
            continue
        elif char == "#" and not quote:
            return "".join(taken), len(line)
        taken.append(char)
    return "".join(taken), len(line)


def in_effect(script: Mapping[str, str], environ: Mapping[str, str], given: Sequence[str] = ()) -> dict[str, str]:
    """The options of a submission: those given to sbatch, above its variables, above the script's.

    `environ` is sbatch's (sbatch(1), INPUT ENVIRONMENT VARIABLES).
    """
    variables: dict[str, str] = {}
    for variable, value in environ.items():
        name = variable.removeprefix(_VARIABLE).lower().replace("_", "-")
        name = _NAMED_OTHERWISE.get(name, name)
        if variable.startswith(_VARIABLE) and name in _LONG and value:
            variables[name] = value
    return {**script, **variables, **by_long_name(given)}


def by_long_name(words: Sequence[str]) -> dict[str, str]:
    """The options among the words, the last of each name; a flag's value is "".

    What is no option is passed over (sbatch refuses the script). An unknown one, of a site's SPANK plugin,
    is kept under its own name, with the value behind its `=`.
    """
    options: dict[str, str] = {}
    left = iter(words)
    for word in left:
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = _full_name(name)
            if not equals and name in _WITH_VALUE:
                value = next(left, "")
            options[_RENAMED.get(name, name)] = value
        elif word.startswith("-") and word != "-":
            last = _read_cluster(word[1:], options)
            if last is not None:
                options[last] = next(left, "")
    return options


def output_path(options: Mapping[str, str], job_id: JobId, *, name: str, folder: str) -> str | None:
    """The file of a batch job's stdout (sbatch(1), FILENAME PATTERN); None where only Slurm knows it.

    `options`: the script's #SBATCH options; `folder`: where it was submitted; `name`: the job's name.
    """
    number, task = whole_job(job_id), task_of(job_id)
    default = "slurm-%j.out" if task is None else "slurm-%A_%a.out"
    pattern = options.get("output") or default
    folder = os.path.join(folder, options.get("chdir", ""))
    if "\\" in pattern:
        return os.path.join(folder, pattern.replace("\\", ""))
    own_id = number if task is None else None
    values = {"%": "%", "A": number, "a": None if task is None else str(task), "j": own_id, "J": own_id, "x": name}
    expanded = _expand(pattern, values)
    return None if expanded is None else os.path.join(folder, expanded)


def path_beforehand(options: Mapping[str, str], which: str, *, name: str, user: str, folder: str) -> str | None:
    """The file of --output or --error (`which`) of a job that is not submitted yet; None if its directory is not known.

    In the file's own name, what only a job has stays as it is (`%j`).
    """
    pattern = options.get(which) or "slurm-%j.out"
    folder = os.path.join(folder, options.get("chdir", ""))
    if "\\" in pattern:
        return os.path.join(folder, pattern.replace("\\", ""))
    directory, slash, file = pattern.rpartition("/")
    expanded = _expand(directory + slash, {"%": "%", "x": name, "u": user})
    return None if expanded is None else os.path.join(folder, expanded, file)


def _full_name(name: str) -> str:
    """getopt_long takes `--part` for `--partition`, where only one option starts like that."""
    if name in _LONG:
        return name
    matches = {_RENAMED.get(full, full) for full in _LONG if name and full.startswith(name)}
    return matches.pop() if len(matches) == 1 else name


def _read_cluster(letters: str, options: dict[str, str]) -> str | None:
    """`-Hn4` is `-H -n 4`. The name of the last option if its value is still to come."""
    for at, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            return None
        if name in _WITH_VALUE:
            options[name] = letters[at + 1 :]
            return None if options[name] else name
        options[name] = ""
    return None


def _expand(pattern: str, values: Mapping[str, str | None]) -> str | None:
    parts: list[str] = []
    at = 0
    for match in _SPECIFIER.finditer(pattern):
        value = values.get(match["letter"])
        if value is None:
            return None
        width = int(match["width"] or 0)
        parts += [pattern[at : match.start()], value.zfill(width) if value.isdecimal() else value]
        at = match.end()
    return "".join([*parts, pattern[at:]])
