"""What the terminal shows while a study runs."""

import io

import pytest
from rich.console import Console

from project.studies.read_study import parse_study
from project.studies.running.progress import Progress, StudyProgress, duration

STUDY = parse_study("small", {"question": "?", "vary": {"model.depth": [0, 1]}})


def test_the_line_says_what_is_done_failed_and_left() -> None:
    state = Progress(30, 9, 1, ("relu seed 3", "tanh seed 3"), (12.0, 14.0), "relu seed 2: test/accuracy 0.8712")
    line = StudyProgress(STUDY).line(state)
    assert line == "9 of 30 done, 1 failed, about 2 min 10 s left, last: relu seed 2: test/accuracy 0.8712"
    assert [duration(seconds) for seconds in (41.6, 185, 7800)] == ["42 s", "3 min 5 s", "2 h 10 min"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_the_newest_state_and_a_log_file_a_line_now_and_then(terminal: bool) -> None:
    output = io.StringIO()
    with StudyProgress(STUDY, Console(file=output, width=100, force_terminal=terminal)) as shown:
        for done in (0, 1, 2):  # the second comes too soon after the first for another line
            shown.show(Progress(2, done, 0, (f"relu seed {done}",), (1.0,) * done, "", "http://127.0.0.1:1/status"))
            shown._live.refresh()
    assert output.getvalue().count("http://127.0.0.1:1/status") == 1
    if terminal:
        assert "running: relu seed 1" in output.getvalue()
    else:
        lines = [line.split(",")[0] for line in output.getvalue().splitlines() if "http" not in line]
        assert lines == ["small: ?", "0 of 2 done", "2 of 2 done"]
