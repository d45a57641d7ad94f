"""Splits a job's output into lines that can be matched, and finds its last words and its exceptions. Pure.

Output is full of caught errors: one counts only if nothing follows it that shows a running program.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# How shells, tools and Slurm begin the line of an error: parts of patterns.
# `script: line 3: `, `bash: line 3: `, dash's `script: 3: `.
SHELL = r"(?:(?:/[^:]*|[^\s:]+): (?:-c: )?(?:line )?\d+: |-?\w*sh: )"
# `cp: `, `/usr/bin/python3: `, or a shell.
TOOL = rf"(?:{SHELL}|[\w./+-]+: )"

# What slurmstepd prints into the job's output: `slurmstepd: error: `, with the node where several slurmd share a
# machine; since 25.05 its time instead of its name, in the form of LogTimeFormat (log_msg in src/common/log.c).
STEPD = r"(?:slurmstepd(?:-\S+)?: error: |\[[^]]{0,40}\d\d:\d\d:\d\d[^]]{0,40}\] error: )"
SLURM = rf"(?:{STEPD}|srun: error: )"

ARGPARSE = r"[\w./-]+(?: [\w-]+){0,2}: error: "

_MAX_CHARS = 1000
_MAX_LINES = 3000
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_=>])")
# What launchers and loggers put before a line: torchrun, srun -l, mpirun, Ray and vLLM, exception groups.
_PREFIX = re.compile(
    r"\[(?:default)?\d*\]?\[?rank ?\d+\]:\s?"
    r"|\[rank\d+\]:\s?"
    r"|\[\d+,\d+\]<std(?:err|out)>:\s?"
    r"|\((?:\w+ )?(?:[\w-]+ )?pid=\d+[^)]{0,60}\)\s?"
    r"|\s?\d{1,4}: (?=\s|Traceback|[A-Za-z_.]+(?:Error|Exception)\b)"
    r"|(?:ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]{1,60}\] ?"
    r"|\s{2,}\| ?(?=\s|Traceback|[A-Za-z_.]+(?:Error|Exception|Group)\b)",
    re.ASCII,
)
_GROUP_RULE = re.compile(r"\s*\+-\+-{5,}|\s*\+-{10,}")
_GROUP_HEAD = re.compile(r"\s*\+ Exception Group Traceback")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_QUOTED = re.compile(r"\s*(?:>|│|┃)")
_END_OF_ATTEMPT = re.compile(rf"{STEPD}\*\*\* .* DUE TO (?:JOB REQUEUE|PREEMPTION|NODE FAILURE)")

# After more than this many other lines, the program had gone on.
_PLAIN_AT_MOST = 12
_PLAIN_AT_MOST_IF_WEAK = 3
_INFO_AT_MOST = 4

_NOISE = re.compile(
    rf"slurmstepd(?:-\S+)?:|{STEPD}|srun:|wandb:|"
    r"\+ |\S+: line \d+:|During handling of|The above exception was|Traceback |"
    r"[=*#_-]{5,}|.*resource_tracker|.*destroy_process_group|.*warnings\.warn|Exception ignored in|"
    r"Task interrupted|Log: |terminate called|  what\(\)|(?:frame )?#\d+|\[?E\d{4} |"
    r".*(?:CUDA_LAUNCH_BLOCKING|TORCH_USE_CUDA_DSA|HYDRA_FULL_ERROR)|Root Cause|"
    r"\s+(?:time|host|rank|exitcode|error_file|traceback) +:"
)
_BAR = re.compile(r"(?<!\d)(\d{1,3})%\s*\|")
_INFO = re.compile(r"\W{0,5}(?:[\d:., TZ+-]{8,40}\W{0,5})?(?:\[?\w[\w.:-]*\]?\W{1,5})?INFO\b")
_WENT_ON = re.compile(
    r"\bretry(?:ing)?\b|\bre-?tried\b|\bfall(?:ing|s)? ?back\b|\bfallback\b|\brecover(?:ed|ing)\b|\bresum(?:ed|ing)\b|"
    r"\bskipp(?:ed|ing)\b|\bignor(?:ed|ing)\b|\bcontinu(?:ed|ing)\b|\breduc(?:ed|ing) batch|\btrying again\b|"
    r"\battempt \d+|\bsucceeded\b|\bcaught\b|\bhandled\b|"
    r"\b(?:eval(?:uation)?|run|task|job|test)s? (?:is |has )?(?:complete|completed|finished|succeeded|done)\b|"
    r"\bresults? (?:saved|written)\b|^\s*(?:accuracy|acc|score|exact_match|mean|f1)\b[^a-z]*\d|\ball samples\b",
    re.IGNORECASE,
)


# Exceptions: Python's tracebacks, rich's boxes, chains and groups.
_HEAD = re.compile(r"Traceback \(most recent call last\):$")
_BOX_HEAD = re.compile(r"╭─+ Traceback \(most recent call last\) ─+╮$")
_FRAME = re.compile(r' {2,}File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<where>.+))?')
_BOX_FRAME = re.compile(r"(?P<path>[^\s│]+\.py):(?P<line>\d+) in (?P<where>\S+)")
_EXCEPTION = re.compile(r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?:: (?P<message>.*)|:)?$", re.ASCII)
_WRITTEN = re.compile(
    r"(?P<type>[A-Za-z_][\w.]*)\((?:(?P<errno>\d{1,4}), )?(?P<quote>['\"])(?P<message>.*)(?P=quote)", re.DOTALL
)
# Installed packages, Python's own modules, and the programs that pip makes of a package's entry points.
_LIBRARY = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d[\d.]*)/|/s?bin/[^/.]+$|^<")
_ALONE = re.compile(
    r"(?:(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception)): |(?=\[Errno \d+\] ))(?P<message>\S.*)$", re.ASCII
)
_MESSAGE_LINES = 8
_LONGEST_BLOCK = 2000


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `raw`: as printed, without colours; `text`: also without the prefixes of launchers."""

    raw: str
    text: str
    is_quoted: bool = False
    """It is part of a quotation or a code block: a text about an error rather than an error."""


def without_colours(output: str) -> str:
    """The text without the sequences that colour it, or do other things to a terminal."""
    return _ANSI.sub("", output)


def lines_of(output: str) -> list[Line]:
    """The lines of the latest attempt; with --open-mode=append the file begins with those of earlier ones."""
    lines: list[Line] = []
    is_fenced = False
    for printed in without_colours(output).split("\n"):
        for raw in printed.split("\r"):
            raw = raw[:_MAX_CHARS].rstrip()  # noqa: PLW2901 - the same line, cut
            if _FENCE.match(raw):
                is_fenced = not is_fenced
            lines.append(Line(raw, _bare(raw), is_fenced or bool(_QUOTED.match(raw))))
    if is_fenced:
        # A fence without an end does not count.
        lines = [Line(line.raw, line.text, bool(_QUOTED.match(line.raw))) for line in lines]
    return _latest_attempt(lines[-_MAX_LINES:])


def _bare(raw: str) -> str:
    if _GROUP_RULE.match(raw):
        return ""
    if _GROUP_HEAD.match(raw):
        return "Traceback (most recent call last):"
    text = raw
    for _ in range(3):
        match = _PREFIX.match(text)
        if match is None or not match[0]:
            break
        text = text[match.end() :]
    return text


def _latest_attempt(lines: list[Line]) -> list[Line]:
    ends = [number for number, line in enumerate(lines) if _END_OF_ATTEMPT.match(line.raw)]
    after = lines[ends[-1] + 1 :] if ends else []
    return after if any(line.raw for line in after) else lines


def went_on(text: str) -> bool:
    """Whether a line says that an error was not the end."""
    return bool(_WENT_ON.search(text))


def is_noise(text: str) -> bool:
    """Whether a line is blank, or one that Slurm, a shell or a library prints at a program's end anyway."""
    return not text.strip() or bool(_NOISE.match(text) or _BAR.search(text))


class LastWords:
    """Where the last words of a text begin. `others`: lines with errors, which are not a sign of life."""

    def __init__(self, lines: Sequence[Line], others: Collection[int]) -> None:
        self._begins_at = _last_words(lines, others, plain_at_most=_PLAIN_AT_MOST)
        self._weak_begins_at = _last_words(lines, others, plain_at_most=_PLAIN_AT_MOST_IF_WEAK)
        self._before, self._after = _bars(lines)

    def include(self, last: int, *, weak: bool = False) -> bool:
        """Whether nothing after line `last` shows that the program went on; a `weak` sign must be nearer."""
        # A progress bar is drawn once more when its program dies; one that gets further is alive.
        begins_at = self._weak_begins_at if weak else self._begins_at
        return last + 1 >= begins_at and self._after[last + 1] <= self._before[last]


def _last_words(lines: Sequence[Line], others: Collection[int], *, plain_at_most: int) -> int:
    """The first line after which nothing shows a running program."""
    plain = info = 0
    for number in range(len(lines) - 1, -1, -1):
        text = lines[number].text
        if number in others or is_noise(text):
            continue
        info += bool(_INFO.match(text))
        plain += 1
        if plain > plain_at_most or info > _INFO_AT_MOST or went_on(text):
            return number + 1
    return 0


def _bars(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """For each line the percent that the last bar up to it shows, and the most that any from it on shows; 0: none."""
    shown = [int(match[1]) if (match := _BAR.search(line.text)) else 0 for line in lines]
    before, after = list(shown), [*shown, 0]
    for number in range(1, len(shown)):
        before[number] = shown[number] or before[number - 1]
    for number in range(len(shown) - 1, -1, -1):
        after[number] = max(shown[number], after[number + 1])
    return before, after


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception. `first`, `last`: its lines, from the head of its traceback; None if no line shows it."""

    type: str
    message: str
    line: str
    """The line that names it."""
    frame: str | None = None
    """`file.py:12 in main`: the innermost place in a file of the user's, else the innermost of all."""
    first: int | None = None
    last: int | None = None

    @property
    def text(self) -> str:
        """`Type: message`, the lines of the message joined."""
        return ": ".join(filter(None, (self.type, self.message)))


def exceptions(lines: Sequence[Line]) -> list[Raised]:
    """In the order in which they are printed; the origin of a chain comes first."""
    all_raised: list[Raised] = []
    at = 0
    while at < len(lines):
        raised = None if lines[at].is_quoted and not _BOX_HEAD.match(lines[at].text) else _block(lines, at)
        if raised is not None:
            all_raised.append(raised)
        at = raised.last + 1 if raised is not None and raised.last is not None else at + 1
    return all_raised


def unexplained(lines: Sequence[Line]) -> Raised | None:
    """The exception that the last line names, without a traceback: a program printed no more than its message."""
    at = next((number for number in reversed(range(len(lines))) if not is_noise(lines[number].text)), None)
    match = None if at is None or lines[at].is_quoted else _ALONE.match(lines[at].text)
    if match is None or at is None:
        return None
    return Raised(match["type"] or "OSError", match["message"], lines[at].raw, first=at, last=at)


def written(error: str) -> Raised:
    """An exception as inspect-ai's log has it: `Type('message')`, `OSError(2, 'message')`, or only a message."""
    match = _WRITTEN.match(error) or _EXCEPTION.match(error.split("\n", 1)[0])
    if match is None or not match["message"]:
        return Raised("", error, error)
    if errno := match.groupdict().get("errno"):
        return Raised(match["type"], f"[Errno {errno}] {match['message']}", error)
    return Raised(match["type"], match["message"], error)


def _block(lines: Sequence[Line], at: int) -> Raised | None:
    """The exception whose traceback begins here."""
    if _BOX_HEAD.match(lines[at].text):
        return _boxed(lines, at)
    is_cut_off = at == 0 and len(lines) > 1 and _FRAME.match(lines[1].text)
    if not (_HEAD.match(lines[at].text) or is_cut_off or (at == 0 and _FRAME.match(lines[at].text))):
        return None
    frames: list[re.Match[str]] = []
    for number in range(at + 1, min(len(lines), at + _LONGEST_BLOCK)):
        text = lines[number].text
        if match := _FRAME.match(text):
            frames.append(match)
        elif text and not text[0].isspace():
            return _named(lines, at, number, frames)
    return None


def _boxed(lines: Sequence[Line], at: int) -> Raised | None:
    frames: list[re.Match[str]] = []
    for number in range(at + 1, min(len(lines), at + _LONGEST_BLOCK)):
        text = lines[number].text
        if _BOX_HEAD.match(text):
            return None
        if match := _BOX_FRAME.search(text):
            frames.append(match)
        if text.startswith("╰"):
            return _named(lines, at, number + 1, frames) if number + 1 < len(lines) else None
    return None


def _named(lines: Sequence[Line], first: int, at: int, frames: Sequence[re.Match[str]]) -> Raised | None:
    """The exception that the line `at` names, with the rest of its message."""
    match = _EXCEPTION.match(lines[at].text)
    if match is None:
        return None
    last = at
    message = [match["message"] or ""]
    while last + 1 < len(lines) and last - at < _MESSAGE_LINES and _goes_on(lines[last + 1].text):
        last += 1
        message.append(lines[last].text.strip())
    return Raised(match["type"], " ".join(message).strip(), lines[at].text, _place(frames), first, last)


_OTHERS = re.compile(
    rf"slurmstepd(?:-\S+)?:|{STEPD}|srun:|"
    r"Traceback |During handling|The above exception|\S+: line \d+:|wandb:|"
    r"(?:INFO|WARNING|ERROR|DEBUG)\b|\[?\d{4}-\d\d-\d\d|.*\d%\||\+ "
)


def _goes_on(text: str) -> bool:
    return bool(text.strip()) and not _OTHERS.match(text) and not went_on(text)


def _place(frames: Sequence[re.Match[str]]) -> str | None:
    """Where to look first: a library raises what somebody else's call provoked."""
    if not frames:
        return None
    match = next((frame for frame in reversed(frames) if not _LIBRARY.search(frame["path"])), frames[-1])
    where = f" in {match['where']}" if match["where"] else ""
    return f"{match['path'].rpartition('/')[2]}:{match['line']}{where}"
