"""Submits a script: the argv and answer of sbatch, and what sbatch reads of the script.

sbatch reads a script so (_opt_batch_script and get_argument in src/sbatch/opt.c; tried on 22.05): lines that start with
`#SBATCH` up to the first line that is neither comment nor blank; all their arguments make one argv.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from evalmon_agent.slurm.sbatch_options import by_long_name
from evalmon_agent.words.job_id import JobId, parse_job_id

TEST_ONLY = "--test-only"

_SENTENCE = re.compile(r"\bSubmitted batch job ([1-9][0-9]{0,9})\b(?: on cluster (\S+))?", re.ASCII)
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;([^\s;]+))?", re.ASCII)

_MAGIC = "#SBATCH"
_SEPARATORS = frozenset({"hetjob", "packjob"})

# isspace() of C: sbatch does not count Unicode's blanks.
_BLANKS = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class Answer:
    """The job that sbatch's answer names, and its cluster if it does.

    `said_plainly`: in a sentence, and not by a number alone on its line, which could be anything of a site's wrapper.
    """

    job_id: JobId
    cluster: str | None = None
    said_plainly: bool = False


def argv(script: str, *, options: Sequence[str] = ()) -> list[str]:
    """Submit this file. Without options, its #SBATCH lines alone decide; nothing in them is overridden."""
    # The `--` is for a file whose name starts with a dash.
    return ["sbatch", "--parsable", *options, "--", script]


def parse(stdout: str, stderr: str = "") -> Answer | None:
    """The job that sbatch's answer names; None if it names none, or could mean several.

    With `--parsable` it is the id alone on a line, or with the cluster. A site's wrapper may drop that option, so the
    sentence of plain sbatch counts too, and first; and it may print lines of its own, a bare number among them.
    """
    sentences = set(_SENTENCE.findall(f"{stdout}\n{stderr}"))
    lines = {match.groups("") for line in stdout.splitlines() if (match := _PARSABLE.fullmatch(line.strip()))}
    answers = sentences or lines
    if len(answers) != 1:
        return None
    [(job_id, cluster)] = answers
    parsed = parse_job_id(job_id)
    return None if parsed is None else Answer(parsed, cluster or None, said_plainly=bool(sentences))


def knows_no_test(words: str) -> bool:
    """Whether a site's own sbatch wrapper does not know the option."""
    return TEST_ONLY in words


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
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        line = text[start:] if end < 0 else text[start:end]
        stripped = line.lstrip(_BLANKS)
        if stripped and not stripped.startswith("#"):
            return
        yield line
        start += len(line) + 1


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
