"""The database of a study: SQLite in the study's folder, or a server that several machines share."""

import contextlib
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.storages import RDBStorage

from project.errors import InputError

HEARTBEAT_S = 10
GRACE_S = 60
"""A worker on another machine has lost its run if the database has not heard of it for so long."""
DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
MAX_ATTEMPTS = 5


def open_database(folder: Path, url: str | None) -> tuple[RDBStorage, contextlib.AbstractContextManager[Any]]:
    """Connect to a study's database, and create Optuna's tables if they do not exist.

    Args:
        folder: SQLite keeps its file in this folder if there is no URL.
        url: It names a database server.

    Returns:
        The database, and a lock that a worker holds while it chooses a run.

    Raises:
        InputError: If the database cannot be used.
    """
    lock: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{(folder / 'study.db').resolve()}"
        # SQLite cannot lock single rows, which is what keeps two workers from choosing the same run
        lock = filelock.FileLock(folder / "study.lock")
        options = {"connect_args": {"timeout": 120}}
    elif url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with lock, quiet_optuna():
            database = _connect(url, options)
    except (*DATABASE_ERRORS, ImportError) as error:
        raise InputError(
            f"the study's database cannot be used: {str(error).strip().splitlines()[0][:300]}",
            "check the URL: --storage postgresql://USER:PASSWORD@HOST/DATABASE (pip install 'psycopg[binary]')",
        ) from None
    if database.engine.name == "sqlite":
        # it need not wait for the disk at each write: what was committed survives the end of any process
        @sqlalchemy.event.listens_for(database.engine, "connect")
        def _(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        database.engine.dispose()
    return database, lock


def _connect(url: str, options: dict[str, Any]) -> RDBStorage:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return RDBStorage(url, options, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            # another machine may be creating the same tables: waiting for different times keeps the two apart
            if attempt == MAX_ATTEMPTS:
                raise
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - not a secret
    raise AssertionError


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide Optuna's warnings of experimental functions, and that `ask` sends no heartbeats: StudyStorage sends them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        yield
