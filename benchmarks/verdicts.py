"""Do verdicts name the true cause, and do remedies help? python -m benchmarks.verdicts development --data_root data

Trains every case of one half of `benchmarks/verdict_cases`, sick and mended, over some seeds, keeps all evidence in
runs/verdicts/HALF.json, and judges it. `--judge_again` judges the kept evidence with the rules as they are now.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.verdict_cases import Case
from project.studies.trials import run_trials

FOLDER = Path("runs/verdicts")


def cases_of(half: str) -> tuple[list[Case], list[Case]]:
    module = importlib.import_module(f"benchmarks.verdict_cases.{half}")
    return module.SICK, module.HEALTHY


def key_of(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


class Results:
    """What has been trained, kept in a file: nothing is trained twice."""

    def __init__(self, path: Path, data_root: Path, workers: int) -> None:
        self.path, self.data_root, self.workers = path, data_root, workers
        self.known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def train(self, wanted: list[dict[str, Any]]) -> None:
        todo = list({key_of(settings): settings for settings in wanted if key_of(settings) not in self.known}.values())
        local = {"data.root": str(self.data_root)}
        for done, (number, result) in enumerate(run_trials([settings | local for settings in todo], self.workers), 1):
            self.known[key_of(todo[number])] = result
            print(f"{done} of {len(todo)} trained", flush=True)
            if done % 20 == 0 or done == len(todo):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.known))

    def __getitem__(self, settings: dict[str, Any]) -> dict[str, Any]:
        return self.known[key_of(settings)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half", choices=["development", "report"])
    parser.add_argument("--data_root", type=Path, default=Path("data"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    sick, healthy = cases_of(options.half)
    results = Results(FOLDER / f"{options.half}.json", options.data_root, options.workers)
    seeds = range(options.seeds)
    runs = [c.around | c.sick | {"seed_everything": s} for c in (*sick, *healthy) for s in seeds]
    runs += [c.around | {"seed_everything": s} for c in sick for s in seeds]
    import os

    if os.environ.get("ONLY_ADAMW"):
        runs = [r for r in runs if r.get("model.optimizer", "adamw") == "adamw"]
    print(len(runs))
    results.train(runs)


if __name__ == "__main__":
    main()
