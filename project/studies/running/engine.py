"""How a study runs: every run once, on Dask's workers, even if they or this process are killed and started again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock

from project.errors import InputError
from project.extensions import extension_flags
from project.inside import check_contained
from project.runs.saving.files import write_text
from project.settings import Settings, settings_yaml
from project.studies.running.checks import check_settings
from project.studies.running.cluster import Workers, connect
from project.studies.running.kept import freeze, frozen, read_results, write_result
from project.studies.running.plan import Plan
from project.studies.running.progress import Progress
from project.studies.running.search import best_of, search
from project.studies.running.tasks import data_of, refusal, train_one
from project.studies.study import RunRecord, Study

SHOW_EVERY_S = 1.0
LOCK = "study.lock"


def run_study(
    study: Study,
    folder: Path,
    workers: int = 1,
    scheduler: str = "",
    insecure: bool = False,
    retry_failed: bool = False,
    show: Callable[[Progress], None] | None = None,
    local: Settings | None = None,
) -> tuple[Study, list[RunRecord]]:
    """Do all runs of a study that have no result yet.

    Args:
        study: The study.
        folder: The study's folder.
        workers: So many processes work on this machine, if there is no scheduler.
        scheduler: The address or the scheduler file of a cluster of Dask's, or a YAML file that describes one.
        insecure: Whether the scheduler may be on another machine and have no TLS.
        retry_failed: If true, runs that failed before are run again.
        show: The function is called with the progress, every second at least.
        local: These settings, such as `data.root`, belong to this machine and change no result.

    Returns:
        The study with its late claims marked, and every run of it, failed ones too.

    Raises:
        InputError: If the study or the cluster cannot be used, or if its data have changed.
        RunError: If the cluster goes away, or a search finds nothing.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}, but must be at least 1", "type for example --workers 2")
    check_settings(study)
    with _alone(folder):
        plan = read_results(Plan(study, best_of(study, folder)), folder, retry_failed)
        if plan.due() or (study.search and not plan.found):
            with connect(workers, scheduler, insecure) as cluster:
                dashboard = cluster.dashboard

                def shown(progress: Progress) -> None:
                    if show:
                        show(replace(progress, dashboard=dashboard))

                _check_in_worker(study, plan, cluster, local or {})
                freeze(study, folder)
                if study.search is not None and not plan.found:
                    found = search(study, study.search, folder, cluster, shown, local or {})
                    plan = read_results(Plan(study, found), folder)
                _run_all(plan, folder, cluster, shown, local or {})
        if plan.found:
            best = {"patience": 0} | study.base | plan.found
            write_text(folder / "best.yaml", settings_yaml(best))
        return freeze(study, folder), plan.records()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other commands out of a study's folder, and leave none behind of a study that was refused."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    check_contained(folder)  # the lock, the search's journal and the runs are opened by libraries
    try:
        with filelock.FileLock(folder / LOCK, timeout=0):
            yield
            is_new = False
    except filelock.Timeout:
        raise InputError(f"another command runs the study in {folder}", "wait for it, or use another --root") from None
    finally:
        if is_new and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _check_in_worker(study: Study, plan: Plan, cluster: Workers, local: Settings) -> None:
    """Refuse wrong settings of the Trainer, which this process does not load, and other data than before."""
    if refused := cluster.ask(refusal, study, extension_flags()):
        raise InputError(refused.get("cause") or refused["error"], refused.get("remedy", "correct the study"))
    seen: dict[str, RunRecord] = {}
    for record in plan.records():
        if record.origin:
            seen.setdefault(str(record.settings.get("data.dataset")), record)
    for name, record in seen.items():
        now = cluster.ask(data_of, record.settings | local, extension_flags())
        if now.get("sha256") != record.origin["data"]:
            cause = now.get("error") or f"the data of {name} have changed since the study's first run"
            raise InputError(cause, "restore the data, or run the study in a new folder with --root")


def _run_all(plan: Plan, folder: Path, cluster: Workers, show: Callable[[Progress], None], local: Settings) -> None:
    """Keep every worker busy until no run is due and no claim asks for more seeds."""
    while True:
        due = plan.due()
        if not due and not plan.next_look():
            show(plan.progress([]))
            return
        started = {cell.key for cell in cluster.running.values()}
        waiting = [cell for cell in due if cell.key not in started]
        for cell in waiting[: max(cluster.free, 0)]:
            place = Path("runs") / str(cell.settings.get("data.dataset", "fashion_mnist")) / cell.run_name
            cluster.submit(cell, train_one, cell.settings | local, folder.resolve() / place, extension_flags())
        show(plan.progress(list(cluster.running.values())))
        if (event := cluster.wait(SHOW_EVERY_S)) is not None:
            cell, found = event
            plan.note(cell.key, write_result(folder, cell, found))


def study_records(study: Study, folder: Path) -> tuple[Study, list[RunRecord]]:
    """A study with its late claims marked, and its runs that have ended so far; nothing is run."""
    check_contained(folder)
    study = frozen(study, folder)
    return study, read_results(Plan(study, best_of(study, folder)), folder).records()
