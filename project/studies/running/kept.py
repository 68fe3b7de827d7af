"""What a study's folder keeps: each run's result in a file of its own, and when each claim was written."""

import dataclasses
import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from project.errors import InputError
from project.runs.saving.files import read_json, write_json, write_text
from project.studies.running.plan import Plan
from project.studies.study import Cell, RunRecord, Study


def write_result(folder: Path, cell: Cell, found: dict[str, Any]) -> RunRecord:
    """Keep what a run found, completely or not at all: a study never repeats a run that has a result."""
    # whatever the run says of itself, its place in the study is the study's matter
    place = {"arm": cell.arm, "seed": cell.seed, "phase": cell.phase, "point": cell.point, "settings": cell.settings}
    record = RunRecord(**found | place)
    write_text(_file(folder, cell), json.dumps(dataclasses.asdict(record)), folder)
    return record


def read_results(plan: Plan, folder: Path, retry_failed: bool = False) -> Plan:
    """Give a study's plan all results that its folder has.

    Args:
        plan: The plan of the study.
        folder: The study's folder.
        retry_failed: If true, results of runs that failed are deleted.

    Raises:
        InputError: If a result is damaged, or if the study was run by a version that kept its results elsewhere.
    """
    if (folder / "study.db").exists() and not (folder / "results").exists():
        cause = f"{folder} was made by an earlier version of this program, which kept results in study.db"
        raise InputError(cause, "name another folder with --root, or delete this one")
    while True:
        new = [cell for cell in plan.due() if _file(folder, cell).exists()]
        for cell in new:
            record = RunRecord(**read_json(_file(folder, cell), folder))
            if retry_failed and record.status == "failed":
                _file(folder, cell).unlink()
            else:
                plan.note(cell.key, record)
        if not new and (plan.due() or not plan.next_look()):
            return plan


def _file(folder: Path, cell: Cell) -> Path:
    return folder / "results" / f"{cell.key}.json"


def freeze(study: Study, folder: Path) -> Study:
    """Write down which claims a study makes, and mark those that were written after runs had ended.

    claims.json has every claim that the study ever made, with the time at which it was first seen, the number of
    results that there were then, and the number of seeds that was planned.
    """
    results = len(list((folder / "results").glob("*.json")))
    content = read_json(folder / "claims.json")
    known = content.setdefault("claims", [])
    for claim in study.claims:
        if not any((old["claim"], old["metric"]) == (claim.text, claim.metric) for old in known):
            known.append({"claim": claim.text, "metric": claim.metric, "written": _now(), "results": results})
    plans = content.setdefault("plans", [])
    if not plans or plans[-1]["looks"] != list(study.looks):
        plans.append({"looks": list(study.looks), "written": _now(), "results": results})
    if content != read_json(folder / "claims.json"):
        write_json(folder / "claims.json", content)
    return frozen(study, folder)


def frozen(study: Study, folder: Path) -> Study:
    """Mark the claims of a study as claims.json says, and say what else was changed after runs had ended."""
    content = read_json(folder / "claims.json")
    times = {(old["claim"], old["metric"]): old for old in content.get("claims", [])}
    now = {(claim.text, claim.metric) for claim in study.claims}
    claims = tuple(
        dataclasses.replace(claim, late=_late(times.get((claim.text, claim.metric)))) for claim in study.claims
    )
    remarks = [
        f"A claim was taken out again: {old['claim']} (written {old['written']})."
        for key, old in times.items()
        if key not in now
    ]
    remarks += [
        f"The number of seeds was changed to {plan['looks'][-1]} on {plan['written']}, after {plan['results']} runs "
        "had ended: the stated error of the verdicts holds only for a number that is fixed before."
        for plan in content.get("plans", [])[1:]
        if plan["results"]
    ]
    early = [old for old in content.get("claims", []) if not old["results"]]
    digest = hashlib.sha256(json.dumps(early, sort_keys=True).encode()).hexdigest()
    said = ""
    if early:
        said = f"{len(early)} before the first run, the last on {early[-1]['written']}, SHA-256 {digest[:12]}"
    return dataclasses.replace(study, claims=claims, content={**study.content, "frozen": said, "remarks": remarks})


def _late(known: dict[str, Any] | None) -> str:
    if known is None:
        return "not in claims.json: nobody knows when it was written"
    return f"written {known['written']}, after {known['results']} runs" if known["results"] else ""


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
