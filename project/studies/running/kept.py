"""What a study's folder keeps: each run's result in a file of its own, and when each claim was written."""

import dataclasses
import hashlib
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from project.errors import InputError
from project.runs.saving.contents import NUMBER, SCORE, Shape, check_shape
from project.runs.saving.files import read_json, write_json, write_text
from project.studies.read_study import write_study
from project.studies.running.plan import Plan
from project.studies.study import Cell, RunRecord, Study

CLAIMS: Shape = {
    "claims": [{"claim": str, "metric": str, "written": str, "results": int}],
    "plans": [{"looks": [int], "written": str, "results": int}],
}
"""claims.json."""
RESULT: Shape = {
    "status": str,
    "metrics": {"*": NUMBER},
    "history": [{"*": NUMBER}],
    "layers": {"*": [{"name": str, "*": SCORE}]},
    "num_classes": int,
    "correct": str,
    "num_test": int,
    "origin": {
        "commit": (str, type(None)),
        "extensions": {"*": str},
        "uncommitted change": (str, type(None)),
        "versions": {"*": str},
        "processor": str,
        "gpus": [str],
        "data": {"*": str},
        "split": {"*": str},
    },
    "folder": str,
    "error": str,
}
"""The file of one run in results/."""
ORIGIN = {"commit", "uncommitted change", "versions", "processor", "gpus", "data", "split"}
"""What a result must know of its origin, if it knows anything."""
_RUN_AGAIN = "delete the file, and start the study again: it does this run anew"


def write_result(folder: Path, cell: Cell, found: dict[str, Any]) -> RunRecord:
    """Keep what a run found, completely or not at all: a study never repeats a run that has a result."""
    record = RunRecord(**found | _place(cell))
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
            record = _read_result(folder, cell)
            if retry_failed and record.status == "failed":
                _file(folder, cell).unlink()
            else:
                plan.note(cell.key, record)
        if not new and (plan.due() or not plan.next_look()):
            return plan


def _place(cell: Cell) -> dict[str, Any]:
    """What the study says of a run, whatever the run says of itself."""
    return {"arm": cell.arm, "seed": cell.seed, "phase": cell.phase, "point": cell.point, "settings": cell.settings}


def _read_result(folder: Path, cell: Cell) -> RunRecord:
    path = _file(folder, cell)
    found = read_json(path, folder)
    check_shape(path, found, RESULT)
    origin, correct = found.get("origin"), found.get("correct", "")
    num_test = found.get("num_test", 0)
    is_whole = (
        re.fullmatch(r"(?:[0-9a-f]{2})*", correct) and num_test >= 0 and (not correct or num_test <= 4 * len(correct))
    )
    if not is_whole or (num_test and found.get("num_classes", 0) < 1) or (origin and not origin.keys() >= ORIGIN):
        raise InputError(f"{path} does not say all of where its numbers come from", _RUN_AGAIN)
    numbers: dict[str, Any] = {  # numpy takes no whole number that is longer than its own
        "metrics": {name: float(value) for name, value in found.get("metrics", {}).items()},
        "history": [{name: float(value) for name, value in epoch.items()} for epoch in found.get("history", [])],
    }
    try:
        return RunRecord(**found | numbers | _place(cell))
    except TypeError as error:
        raise InputError(f"{path} holds no result of a run: {error}", _RUN_AGAIN) from None


def _read_claims(folder: Path) -> dict[str, Any]:
    path = folder / "claims.json"
    content = read_json(path)
    check_shape(path, content, CLAIMS)
    for kind, known in CLAIMS.items():
        for item in content.get(kind, []):
            if item.keys() != known[0].keys() or not item.get("looks", [1]):
                raise InputError(f"{path}: an item of {kind} has not {', '.join(known[0])}", "restore the file")
    return content


def _file(folder: Path, cell: Cell) -> Path:
    return folder / "results" / f"{cell.key}.json"


def freeze(study: Study, folder: Path) -> Study:
    """Write down a study and which claims it makes, and mark those that were written after runs had ended.

    study.yaml has the study, with seeds and quick settings worked in. claims.json has every claim that the study ever
    made, with the time at which it was first seen, the number of results that there were then, and the number of seeds
    that was planned.
    """
    results = len(list((folder / "results").glob("*.json")))
    content = _read_claims(folder)
    known = content.setdefault("claims", [])
    for claim in study.claims:
        if not any((old["claim"], old["metric"]) == (claim.text, claim.metric) for old in known):
            known.append({"claim": claim.text, "metric": claim.metric, "written": _now(), "results": results})
    plans = content.setdefault("plans", [])
    if not plans or plans[-1]["looks"] != list(study.looks):
        plans.append({"looks": list(study.looks), "written": _now(), "results": results})
    if content != _read_claims(folder):
        write_json(folder / "claims.json", content)
    write_study(study, folder)
    return frozen(study, folder)


def frozen(study: Study, folder: Path) -> Study:
    """Mark the claims of a study as claims.json says, and say what else was changed after runs had ended."""
    content = _read_claims(folder)
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
