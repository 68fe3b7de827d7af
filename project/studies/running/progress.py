"""A study's progress on the terminal: what is running, done and failed, and the time left."""

import time
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from project.errors import printable
from project.pages import terminal
from project.studies.study import Study

LINE_EVERY_S = 15.0
"""Where the output is no terminal but a log file, the time between two lines is at least this."""


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        total: The study needs so many runs; those that are `done` ended without an error.
        running: These are the labels of the runs in progress.
        seconds: The runs that ended last took so long each.
        last: This is the label and the result of the run that ended last.
        dashboard: This is the address of Dask's page on the workers, if there is one.
    """

    total: int
    done: int
    failed: int
    running: tuple[str, ...]
    seconds: tuple[float, ...]
    last: str
    dashboard: str = ""

    @property
    def ended(self) -> int:
        return self.done + self.failed

    @property
    def seconds_left(self) -> float | None:
        """The time left if as many runs as now go on at a time; None before the first run has ended."""
        return fmean(self.seconds) * (self.total - self.ended) / max(len(self.running), 1) if self.seconds else None


class StudyProgress:
    """Shows a study's progress between `__enter__` and `__exit__`, on standard error if no console is given."""

    def __init__(self, study: Study, console: Console | None = None) -> None:
        self.study = study
        self.console = console or terminal(stderr=True)
        starting = Text("starting the workers", style="dim")  # which takes seconds
        self._live = Live(starting, console=self.console, refresh_per_second=2, transient=True)
        self._last_line, self._last_ended, self._dashboard = 0.0, -1, ""
        self._started = time.monotonic()

    def __enter__(self) -> "StudyProgress":
        self.console.print(f"{self.study.name}: {self.study.question}", style="bold", soft_wrap=True)
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show the newest state."""
        now, line = time.monotonic(), self.line(progress)
        if progress.dashboard != self._dashboard:
            self._dashboard = progress.dashboard
            self.console.print(f"Watch the workers at {self._dashboard}", soft_wrap=True)
        if self.console.is_terminal:
            bar = ProgressBar(total=max(progress.total, 1), completed=progress.ended, width=40)
            running = "; ".join(progress.running) or "nothing"
            self._live.update(Group(bar, Text(printable(line)), Text(printable(f"running: {running}"), style="dim")))
        elif progress.ended != self._last_ended and (
            now - self._last_line >= LINE_EVERY_S or progress.ended == progress.total
        ):
            self.console.print(line, soft_wrap=True)
            self._last_line, self._last_ended = now, progress.ended

    def line(self, progress: Progress) -> str:
        """The progress in one line."""
        left = progress.seconds_left if progress.ended < progress.total else None
        parts = (
            f"{progress.done} of {progress.total} done",
            f"{progress.failed} failed" if progress.failed else "",
            f"{duration(time.monotonic() - self._started)} so far" if left is None else f"about {duration(left)} left",
            f"last: {progress.last}" if progress.last else "",
        )
        return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
