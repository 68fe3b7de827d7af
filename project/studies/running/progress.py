"""A study's progress on the terminal: what is running, done and failed, and the time left."""

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from project.studies.running.storage import Progress
from project.studies.study import Study

LINE_EVERY_S = 15.0
"""Where there is no terminal, such as in a log file, a line appears at most so often."""


class StudyProgress:
    """Shows a study's progress for as long as it is entered.

    Args:
        study: The study.
        workers: How many processes work on it.
        console: Where to show it; standard error if None.
    """

    def __init__(self, study: Study, workers: int, console: Console | None = None) -> None:
        self.study, self.workers = study, workers
        self.console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self.console, refresh_per_second=2, transient=True)
        self._last_line, self._last_done = 0.0, -1
        self._started = time.monotonic()

    def __enter__(self) -> "StudyProgress":
        self.console.print(f"{self.study.name}: {self.study.question}", style="bold", soft_wrap=True)
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Bring the display up to date."""
        ended = progress.done + progress.failed
        if self.console.is_terminal:
            bar = ProgressBar(total=max(progress.total, 1), completed=ended, width=40)
            running = "; ".join(progress.running) or "nothing"
            self._live.update(Group(bar, Text(self.line(progress)), Text(f"running: {running}", style="dim")))
            return
        now = time.monotonic()
        if ended != self._last_done and (now - self._last_line >= LINE_EVERY_S or ended == progress.total):
            self.console.print(self.line(progress), soft_wrap=True)
            self._last_line, self._last_done = now, ended

    def line(self, progress: Progress) -> str:
        """The progress in one line."""
        parts = [f"{progress.done} of {progress.total} done"]
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        left = progress.seconds_left(self.workers)
        if left is not None and progress.done + progress.failed < progress.total:
            parts.append(f"about {duration(left)} left")
        else:
            parts.append(f"{duration(time.monotonic() - self._started)} so far")
        if progress.last:
            parts.append(f"last: {progress.last}")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
