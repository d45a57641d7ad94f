"""Looks once a second, in a thread of the sampler, at which eval programs run in the job and which logs they write.

Processes are only looked at, by /proc: new ones, shells (`exec` keeps the pid) and, less and less often, what may still
turn out to be an eval (`python run.py`). The end of an eval's process wakes us.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from evalmon_agent.agent.children import SharedMemory
from evalmon_agent.files.proc import stat_fields
from evalmon_agent.words.eval_processes import RANKS, WatchedProgram

from . import command_line
from .command_line import CommandLine
from .open_files import OpenFiles, Paths
from .programs import UNKNOWN_IMAGE, JobProcesses, Process, Program, has_ended, image_in, program_in, variables_of

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh", "csh", "tcsh", "fish"})
_PROGRAMS_AT_MOST = 200
_NEVER = float("inf")

# Since its start or its last exec, a Python, and an eval that we know, is looked at each second at first, then whenever
# it is an eighth older; what is neither that nor a shell could only become one by an exec of a launcher's, which comes
# soon.
_AN_EIGHTH, _A_HALF = 0.125, 0.5
_OTHERS_AT_LEAST_EVERY_S = 60.0
_EVALS_AT_LEAST_EVERY_S = 10.0
_LISTED_AT_LEAST_EVERY_S = 30.0

# The first system calls after a sleep cost most, so looks that can wait are made together. A shell goes on when what it
# waits for ends: while nothing begins or ends on the node, it can wait. One that goes on by what no process does (it
# reads a FIFO) is met a few seconds later.
_LOOKS_AFTER_A_CHANGE = 4
_TOGETHER_EVERY_S = 5.0

# A short eval has the file that names its logs open for less than a second. Until we have seen it, a young Python is
# looked at more often; one that we know to be an eval for longer, since it may take its time to load.
_YOUNG_EVERY_S = 0.25
_PYTHON_IS_YOUNG_S, _EVAL_IS_YOUNG_S = 10.0, 120.0

# A report in between tells what a kill would lose.
_FIRST_REPORT_AFTER_S = 3.0
_REPORTS_EVERY_S = 30.0


class Witness:
    """The looks, and what was seen."""

    def __init__(self, source: JobProcesses, shared: SharedMemory, *, wake_run: Callable[[], None]) -> None:
        """Nothing is looked at yet.

        Args:
            source: lists the processes.
            shared: where what was seen is put.
            wake_run: called when that is worth a report at once.
        """
        self._shared = shared
        self._wake_run = wake_run
        self._source = source
        self._processes: dict[int, Process] = {}
        self._programs: list[Program] = []
        self._young: list[Process] = []
        self._since = 0.0
        self._looks, self._left_out, self._trouble = 0, 0, ""
        self._is_changed = True
        self._loadavg, self._numbers, self._looks_without_change = -1, list[bytes](), 0
        self._is_changing, self._list_next_s, self._together_next_s = True, 0.0, 0.0
        self._next_report_s, self._reported_s = _NEVER, -_NEVER
        self._poll = select.poll()
        self._watched: dict[int, Process] = {}
        self._reading, self._writing = os.pipe()
        self._poll.register(self._reading, select.POLLIN)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look.

        Raises:
            RuntimeError: no thread can be created.
        """
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ask for a last look; `wait` waits for it."""
        os.write(self._writing, b".")

    def wait(self, within_s: float) -> None:
        """Wait until the last look is over."""
        if self._thread is not None:
            self._thread.join(within_s)

    def _live(self) -> None:
        self._since = time.time()
        is_over = False
        while not is_over:
            next_s = time.monotonic() + self._source.every_s
            self._try(self._look)
            is_over = self._sleep(next_s)
        self._try(self._finish)

    def _try(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # noqa: BLE001 (a look is part of a tick: what is caught is on record)
            self._trouble = f"{type(error).__name__}: {error}"[:300]

    def _sleep(self, until_s: float) -> bool:
        """Wait for the next look; whether it is to be the last. Meanwhile young ones are looked at, and ends noted."""
        while (left_s := until_s - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll((min(left_s, _YOUNG_EVERY_S) if self._young else left_s) * 1000):
                if descriptor == self._reading:
                    return True
                self._note_end_of(self._watched[descriptor])
            if self._young:
                self._try(self._look_at_young)
        return False

    def _look_at_young(self) -> None:
        now_s = time.monotonic()
        self._young = [process for process in self._young if self._is_young(process, now_s)]
        for process in self._young:
            with suppress(OSError):  # its end is noted by the next look
                self._look_at(process, now_s)
        self._publish(is_last=False)

    def _is_young(self, process: Process, now_s: float) -> bool:
        is_gone = self._processes.get(process.pid) is not process
        if is_gone or process.files is None or process.files.names_its_logs:
            return False
        return now_s - process.judged_s < (_PYTHON_IS_YOUNG_S if process.program is None else _EVAL_IS_YOUNG_S)

    def _note_end_of(self, process: Process) -> None:
        """An eval's process has ended just now."""
        self._stop_watching(process)
        self._try(lambda: self._end_of(process.pid))
        self._try(lambda: self._publish(is_last=False))

    def _finish(self) -> None:
        with suppress(OSError):
            for pid in self._processes.keys() - set(self._source.pids()):
                self._end_of(pid)
        for process in self._processes.values():
            self._read_files(process)
        self._is_changed = True
        self._publish(is_last=True)

    def _look(self) -> None:
        """One look at the whole job."""
        now_s, self._looks = time.monotonic(), self._looks + 1
        if self._is_listing_due(now_s):
            self._try(lambda: self._list(now_s))
        is_together = now_s >= self._together_next_s
        if is_together:
            self._together_next_s = now_s + _TOGETHER_EVERY_S
        is_quiet = self._looks_without_change >= _LOOKS_AFTER_A_CHANGE
        for process in self._processes.values():
            can_wait = is_quiet if process.is_shell else process.can_wait
            if process.look_next_s <= now_s and (is_together or not can_wait):
                with suppress(OSError):  # its end is noted by the next look
                    self._look_at(process, now_s)
                self._schedule(process, now_s)
        self._publish(is_last=False)

    def _is_listing_due(self, now_s: float) -> bool:
        """Whether a process may have begun: /proc/loadavg (proc(5)) has the newest pid on this node.

        slurmstepd puts a process into its cgroup right after it began: hence one listing more.
        """
        if self._loadavg < 0:
            self._loadavg = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        # `0.20 0.18 0.12 1/80 11206`: the number of threads, and the newest pid.
        numbers = os.pread(self._loadavg, 100, 0).rpartition(b"/")[2].split()
        has_begun = numbers[-1:] != self._numbers[-1:]
        is_due = self._is_changing or has_begun or now_s >= self._list_next_s
        self._looks_without_change = self._looks_without_change + 1 if numbers == self._numbers else 0
        self._numbers, self._is_changing = numbers, has_begun
        return is_due

    def _list(self, now_s: float) -> None:
        """Take note of which processes are gone and which are new. Raises OSError: the next look lists them again."""
        self._list_next_s = now_s
        listed = self._source.pids()
        self._list_next_s = now_s + _LISTED_AT_LEAST_EVERY_S
        for pid in self._processes.keys() - set(listed):
            self._end_of(pid)
        for pid in listed:
            if pid not in self._processes:
                self._processes[pid] = Process(pid=pid, judged_s=now_s)

    def _look_at(self, process: Process, now_s: float) -> None:
        """Look at what may have become an eval, or at what one holds open.

        Raises:
            OSError: it is gone, or another user's.
        """
        if process.files is None and os.readlink(f"/proc/{process.pid}/exe") == process.executable:
            process.looked_at = time.time()
            return
        fields = stat_fields(process.pid)
        if has_ended(fields):
            process.look_next_s = _NEVER
            return
        image = image_in(fields)
        if image != process.image:
            self._read_files(process)
            self._leave_program(process)
            process.files = None
            process.know(fields)
            process.judged_s = now_s
            self._judge(process, image)
        else:
            self._look_at_files(process)

    def _judge(self, process: Process, image: tuple[int, ...]) -> None:
        """Decide what a process is by its command line; `image` is what it was just now.

        Raises:
            OSError: it is gone, or another user's.
        """
        process.executable, process.image, words = program_in(process.pid, image)
        process.is_shell = os.path.basename(words[0]).lstrip("-") in _SHELLS
        if not any(words) or not all(process.image):  # in the middle of an exec: the next look judges again
            process.executable, process.image = "", UNKNOWN_IMAGE
            return
        line = command_line.parse(words)
        if line is not None and not line.begins_eval:
            process.look_next_s = _NEVER
            return
        if line is not None or command_line.is_python(words):
            process.files, process.paths = OpenFiles(process.pid), Paths(process.pid)
            process.cwd = process.cwd or os.readlink(f"/proc/{process.pid}/cwd")
        if line is not None or self._program_of(process, None) is not None:
            self._join_program(process, line)
        else:
            self._look_at_files(process)
        if process.files is not None and (line is not None or process.program is None):
            self._young.append(process)

    def _schedule(self, process: Process, now_s: float) -> None:
        """Say when it is to be looked at again; a shell each time that something has changed."""
        if process.look_next_s == _NEVER or process.is_shell:
            return
        at_least_every_s = _OTHERS_AT_LEAST_EVERY_S if process.program is None else _EVALS_AT_LEAST_EVERY_S
        part = _A_HALF if process.files is None else _AN_EIGHTH
        interval_s = min((now_s - process.judged_s) * part, at_least_every_s)
        process.look_next_s, process.can_wait = now_s + interval_s, interval_s >= _TOGETHER_EVERY_S

    def _look_at_files(self, process: Process) -> None:
        """Raises OSError: it is gone, or another user's."""
        if process.files is not None:
            process.files.look()
            self._add_logs_of(process)
        if process.program is None:
            process.looked_at = time.time()

    def _read_files(self, process: Process) -> None:
        """What is held, once more; then it is let go."""
        if process.files is None:
            return
        process.files.read()
        process.files.close()
        self._add_logs_of(process)

    def _add_logs_of(self, process: Process) -> None:
        """Its program has written what its open files name; a process that has such files open is an eval's."""
        if process.program is None and process.files is not None and process.files.written:
            self._join_program(process, None)
        elif process.program is not None:
            self._is_changed |= process.program.add_logs_of(process)

    def _join_program(self, process: Process, line: CommandLine | None) -> None:
        """It is an eval's process: of a program that is known, or the first of a new one."""
        table = line.program if line is not None else process.files.program if process.files is not None else None
        environment = self._environment_of(process, table)
        program = self._program_of(process, line)
        if program is None:
            if table is None:
                return
            if len(self._programs) >= _PROGRAMS_AT_MOST:
                process.look_next_s, self._left_out, self._is_changed = _NEVER, self._left_out + 1, True
                return
            program = Program(
                first=process,
                table=table,
                command_line=line,
                started_at=process.looked_at or process.started_at,
                directory=None if process.cwd is None or process.paths is None else process.paths.outside(process.cwd),
                environment={name: value for name, value in environment.items() if name in table.environment},
            )
            self._programs.append(program)
        program.processes.append(process)
        program.count += 1
        process.program = program
        self._watch_its_end(process)
        self._is_changed = True
        program.add_logs_of(process)
        with suppress(OSError):
            self._look_at_files(process)

    def _environment_of(self, process: Process, table: WatchedProgram | None) -> dict[str, str]:
        """What is needed of its environment, which is nothing where we may not read it."""
        try:
            variables = variables_of(process.pid, (*RANKS, *(table.environment if table is not None else ())))
        except OSError:
            return {}
        process.ranks = tuple(variables.get(name, "") for name in RANKS)
        return variables

    def _program_of(self, process: Process, line: CommandLine | None) -> Program | None:
        """The living program that a process belongs to: as a fork, as what its launcher started, or as a rank."""
        for program in self._programs:
            for other in program.processes:
                is_child = other.pid == process.parent and line is not None and line.program is program.table
                if process.is_fork_of(other) or is_child:
                    return program
            if line is not None and program.has_rank(process, line):
                return program
        return None

    def _watch_its_end(self, process: Process) -> None:
        with suppress(OSError, AttributeError):  # an old kernel, or a Python for one: the next look notes it
            process.pidfd = os.pidfd_open(process.pid)
            self._watched[process.pidfd] = process
            self._poll.register(process.pidfd, select.POLLIN)

    def _stop_watching(self, process: Process) -> None:
        if self._watched.pop(process.pidfd, None) is not None:
            self._poll.unregister(process.pidfd)
            os.close(process.pidfd)
            process.pidfd = -1

    def _end_of(self, pid: int) -> None:
        """A process has ended."""
        process = self._processes.pop(pid)
        try:
            self._read_files(process)
        finally:
            self._leave_program(process)

    def _leave_program(self, process: Process) -> None:
        """It belongs to no program any more."""
        self._stop_watching(process)
        if process.program is not None:
            process.program.processes.remove(process)
            if not process.program.processes:
                process.program.ended_at = time.time()
            process.program, self._is_changed = None, True

    def _publish(self, *, is_last: bool) -> None:
        """Put what is known where `run` finds it, if it has changed, and ask for a report where that is due."""
        now_s = time.monotonic()
        if self._is_changed:
            self._is_changed = False
            self._put()
            if self._programs:
                due_s = max(now_s + _FIRST_REPORT_AFTER_S, self._reported_s + _REPORTS_EVERY_S)
                self._next_report_s = min(self._next_report_s, due_s)
        if now_s >= self._next_report_s and not is_last:
            self._next_report_s, self._reported_s = _NEVER, now_s
            self._shared.ask_for_report()
            self._wake_run()

    def _put(self) -> None:
        entries = [program.entry() for program in self._programs]
        left_out = self._left_out
        while not self._shared.put(json.dumps({"witness": self._entry(left_out), "programs": entries}).encode()):
            entries.pop()
            left_out += 1

    def _entry(self, left_out: int) -> dict[str, Any]:
        """How and for how long was looked: what was not seen in that time may still have been there."""
        return {
            "by": self._source.name,
            "every_s": self._source.every_s,
            "since": round(self._since, 2),
            "until": round(time.time(), 2),
            "looks": self._looks,
            "left_out": left_out,
            "trouble": self._trouble or None,
        }
