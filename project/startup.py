"""Imported by every script before all else: Ctrl-C while Python imports libraries ends the program with one line.

That takes seconds, in which nothing has begun that would have to be finished. An exception would not do: what is being
imported may catch it, or make another one of it. When the script's main function begins, `project.runs.command` takes
over.
"""

import os
import signal
import sys
from types import FrameType


def _leave(signum: int, _: FrameType | None) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the first process speaks for those that it started
        os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    os._exit(130)


def _outermost(frame: FrameType) -> FrameType:
    return _outermost(frame.f_back) if frame.f_back else frame


_file = _outermost(sys._getframe()).f_code.co_filename
# not where something else calls a script, such as a test, or imports it, such as a worker process
if os.path.basename(os.path.dirname(os.path.abspath(_file))) == "scripts":  # noqa: PTH100, PTH119, PTH120 - imports less
    signal.signal(signal.SIGINT, _leave)
