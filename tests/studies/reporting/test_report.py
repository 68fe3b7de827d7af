"""Reports: verdicts, warnings, pages and tables, on made-up runs; words are in test_report_wording.py."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from readable import WIDTHS, check_readable
from rich.console import Console
from scipy import stats

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.studies.read_study import parse_study
from project.studies.reporting.report import check_same_data, make_report, metric_values
from project.studies.reporting.run_comparison import compare_runs
from project.studies.reporting.wording import headline, sentence, table_rows
from project.studies.reporting.write import (
    print_report,
    publish,
    report_table,
    to_csv,
    to_index,
    to_markdown,
    write_report,
)
from project.studies.study import RunRecord, Study

ORIGIN: dict[str, Any] = {
    "commit": "0" * 40,
    "uncommitted change": None,
    "versions": {"python": "3.12.0", "torch": "2.9.0"},
    "processor": "a processor",
    "gpus": [],
    "data": {"train-images-idx3-ubyte": "1" * 64},
    "split": {"train": "2" * 64},
}
ACCURACIES = {
    "relu,depth=1": [0.861, 0.864, 0.859, 0.866, 0.862],
    "relu,depth=6": [0.871, 0.872, 0.868, 0.877, 0.870],
    "tanh,depth=1": [0.860, 0.865, 0.861, 0.864, 0.863],
    "tanh,depth=6": [0.100, 0.100, 0.100, 0.100, 0.100],
}
CLAIMS = [
    "relu,depth=6 > relu,depth=1 by 0.005",
    "relu,depth=1 < tanh,depth=6",
    "tanh,depth=6 == chance within 0.01",
    "relu,depth=1 > tanh,depth=1",
    "relu,depth=6 - relu,depth=1 > tanh,depth=6 - tanh,depth=1 by 0.5",
    "relu,depth=6 < relu,depth=1 on test/loss",
]


def layers(depth: int, base: float) -> list[dict[str, Any]]:
    names = [*(f"hidden {i}" for i in range(1, depth + 1)), "output"]
    numbers = ("pre_activation_sd", "activation_sd", "saturated_fraction", "dead_fraction", "weight_gradient_norm")
    return [
        {"name": name, "pre_activation_gradient_norm": base**index} | dict.fromkeys(numbers, 0.1)
        for index, name in enumerate(reversed(names))
    ]


def made_up(**changes: Any) -> tuple[Study, list[RunRecord]]:
    content = {
        "question": "Does <depth> help & when?",
        "notes": ["N8"],
        "lesson": "Deeper is better.",
        "base": {"trainer.max_epochs": 3},
        "vary": {"model.activation": ["relu", "tanh"], "model.depth": [1, 6]},
        "expect": CLAIMS,
        **changes,
    }
    study = parse_study("depths", content)
    return study, [made_up_run(study, arm, *run) for arm in study.arms for run in enumerate(ACCURACIES[arm])]


def made_up_run(study: Study, arm: str, seed: int, accuracy: float) -> RunRecord:
    numbers = {"test/accuracy": accuracy, "test/loss": 1.0 - accuracy, "seconds": 3.0, "parameters": 1234.0}
    depth = 6 if "6" in arm else 1
    return RunRecord(
        arm,
        seed,
        settings=study.settings(arm, seed),
        metrics=numbers | {"train_seconds": 2.0 + seed},
        history=[{"validation/accuracy": accuracy - 0.1 / (e + 1), "train/loss": 1 / (e + 1)} for e in range(3)],
        layers={"start": layers(depth, 0.5), "end": layers(depth, 0.9)},
        num_classes=10,
        origin=ORIGIN,
        folder=f"runs/{arm}_{seed}",
    )


def with_change(records: list[RunRecord], index: int, **changes: Any) -> list[RunRecord]:
    return [*records[:index], replace(records[index], **changes), *records[index + 1 :]]


def test_verdicts_on_claims_with_known_answers() -> None:
    report = make_report(*made_up())
    names = [judgement.name for judgement in report.judgements]
    assert names == ["supported", "contradicted", "supported", "undecided", "supported", "supported"]
    assert report.chance == 0.1
    found = [judgement.estimate for judgement in report.judgements]
    difference = [b - a for a, b in zip(ACCURACIES["relu,depth=1"], ACCURACIES["relu,depth=6"], strict=True)]
    interval = stats.t.interval(1 - 0.05 / 6, 4, sum(difference) / 5, stats.sem(difference))
    assert (found[0].n, found[0].low, found[0].high) == (5, *map(pytest.approx, interval))
    means = [sum(difference) / 5, 0.7624, 0.0, -0.0002, 0.7718]
    assert [one.mean for one in found] == pytest.approx([*means, -sum(difference) / 5], abs=1e-9)


def test_the_table_is_scipys() -> None:
    report = make_report(*made_up())
    arm = report.arms[1]
    assert arm.difference is not None
    reference, *others = ACCURACIES
    raw = {name: stats.ttest_rel(ACCURACIES[name], ACCURACIES[reference]).pvalue for name in others}
    ordered = sorted(raw, key=lambda name: raw[name])
    steps = 3 - ordered.index("relu,depth=6")
    assert arm.p == pytest.approx(raw["relu,depth=6"] * steps, rel=1e-9)
    reference_interval = stats.ttest_rel(ACCURACIES["relu,depth=6"], ACCURACIES[reference]).confidence_interval(
        1 - 0.05 / 3  # all three are tested at this level, which decides
    )
    assert (arm.difference.low, arm.difference.high) == pytest.approx(tuple(reference_interval))
    assert arm.middle == pytest.approx(sum(sorted(ACCURACIES["relu,depth=6"])[1:4]) / 3)
    u = stats.mannwhitneyu(ACCURACIES["relu,depth=6"], ACCURACIES[reference]).statistic
    assert arm.improvement == pytest.approx(u / 25)
    assert (arm.seconds, arm.parameters) == (4.0, 1234)
    header, rows = table_rows(report)
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][:4] == ["relu,depth=1", "5", "86.24 %", "0.27 %"]
    assert rows[0][5:8] == [""] * 3


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_can_be_read_on_every_terminal(width: int) -> None:
    table = report_table(make_report(*made_up()))
    check_readable(table, width, "arm", "mean", "difference", "p")


def test_runs_that_are_missing_are_left_out_of_the_pairs_and_named() -> None:
    study, records = made_up()
    failed = with_change(records, 6, status="failed", metrics={}, error="Traceback\nMemoryError: too large")
    report = make_report(study, failed)
    assert report.arms[1].difference is not None
    assert (report.arms[1].result.n, report.arms[1].difference.n) == (4, 4)
    assert any("relu,depth=6" in warning and "MemoryError" in warning for warning in report.warnings)
    everything = [replace(r, status="failed", metrics={}, error="no disk") for r in records]
    with pytest.raises(InputError, match="disk"):
        make_report(study, everything)
    with pytest.raises(InputError, match=r"test/acuracy\n.*test/accuracy"):
        make_report(*made_up(metric="test/acuracy"))


def test_diverged_runs_count_as_chance_and_are_named() -> None:
    study, records = made_up()
    records = with_change(records, 0, status="diverged", metrics={})
    assert metric_values(study, records, "test/accuracy")["relu,depth=1"][0] == 0.1
    diverged, collapsed = make_report(study, records).warnings
    assert "relu,depth=1" in diverged
    assert "relu,depth=1 collapsed in 1 of 5 seeds" in collapsed


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("commit", "f" * 40, "commit"),
        ("uncommitted change", "abc", "uncommitted change"),
        ("versions", {"python": "3.12.0", "torch": "2.8.0"}, "torch"),
        ("processor", "another", "times"),
    ],
)
def test_undeclared_differences_are_warned_of(name: str, value: Any, word: str) -> None:
    study, records = made_up()
    assert make_report(study, records).warnings == []
    (warning,) = make_report(study, with_change(records, 7, origin=ORIGIN | {name: value})).warnings
    assert word in warning
    assert "relu,depth=6" in warning


def test_runs_on_other_data_are_refused_unless_an_arm_declares_it() -> None:
    study, records = made_up()
    for changed in ({"data": {"train-images-idx3-ubyte": "9" * 64}}, {"split": {"train": "9" * 64}}):
        other = with_change(records, 7, origin=ORIGIN | changed)
        with pytest.raises(InputError, match=f"runs/relu,depth=6_2 .*{'data' if 'data' in changed else 'splits'}"):
            make_report(study, other)
        check_same_data([records[0], replace(other[7], settings=other[7].settings | {"data.num_train": 100})])


def test_what_tuning_chose_is_in_the_table() -> None:
    study, records = made_up(tune={"settings": {"model.learning_rate": [0.001, 0.01, 0.1]}})
    records = [replace(r, settings=r.settings | {"model.learning_rate": 0.1 if r.seed else 0.01}) for r in records]
    header, rows = table_rows(make_report(study, records))
    assert header[-1] == "chosen"
    assert rows[2][-1] == "learning_rate 0.1 (4), 0.01 (1)"


class Page(HTMLParser):
    """Collects a page's tags, ids and outside references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "path", "use", "rect", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(tmp_path: Path) -> None:
    report = write_report(*made_up(), tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(reference[1:] in page.ids for reference in page.references if reference.startswith("#"))
    # nothing is fetched: what is not in the page's own text is spelt out in it
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in page.references)
    assert report.study.question in page.text
    assert "<depth>" not in text
    assert all(judgement.claim.text in page.text for judgement in report.judgements)
    assert text.count("<svg") == 4
    for name in ("results", "heat_map", "curves", "layers"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000


def test_arms_whose_names_look_like_a_formula(tmp_path: Path) -> None:
    arms = {r"$\frac{$": {}, "$x$": {"model.activation": "tanh"}}
    for name, vary in (("arms", None), ("grid", {"model.depth": [1, 6]})):
        content = {"question": "?", "arms": arms, **({"vary": vary} if vary else {})}
        study = parse_study(name, content)
        write_report(study, [made_up_run(study, arm, s, 0.5 + s / 10) for arm in study.arms for s in (0, 1)], tmp_path)
    for figure in ("results", "curves", "layers", "heat_map"):
        assert (tmp_path / f"{figure}.png").is_file()


def test_the_same_runs_make_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_report(*made_up(), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_markdown_and_csv_say_the_same(tmp_path: Path) -> None:
    report = make_report(*made_up())
    markdown = to_markdown(report, ["figure.png"], "python scripts/study.py s.yaml")
    question = report.study.question.replace("<d", "&lt;d")
    assert markdown.startswith(f"# {question}\n\n**{headline(report)}")
    assert report.study.content["lesson"] in markdown
    assert all(f"`{one.claim.text}` | {sentence(report.study, one)}" in markdown for one in report.judgements)
    assert "![figure](figure.png)" in markdown
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(rows) == 20
    assert rows[5] | {"arm": "relu,depth=6", "seed": "0", "model.depth": "6", "test/accuracy": "0.871"} == rows[5]


def test_a_published_lesson_and_the_index(tmp_path: Path) -> None:
    report = make_report(*made_up())
    publish(report, tmp_path, "python scripts/study.py configs/studies/depths.yaml")
    assert sorted(path.name for path in (tmp_path / "depths").iterdir()) == ["README.md", "figure.png", "results.csv"]
    assert (tmp_path / "depths" / "figure.png").stat().st_size < 150_000
    index = to_index([report, report])
    assert index.count("(depths/README.md)") == 2
    assert index.count("| ✘ | `relu,depth=1 < tanh,depth=6` |") == 2
    assert "| N8 | 20, 1.0 min | ✔ |" in index


def test_a_study_of_few_arms_without_curves_or_claims_is_reported_too(tmp_path: Path) -> None:
    study = parse_study("two", {"question": "?", "vary": {"model.activation": ["relu", "tanh"]}})
    records = [RunRecord(arm, s, metrics={"test/accuracy": 0.5 + 0.1 * s}) for s in range(2) for arm in study.arms]
    report = write_report(study, records, tmp_path)
    assert not report.judgements
    assert not (tmp_path / "layers.png").exists()
    one_seed = make_report(study, records[:2])
    assert one_seed.arms[0].result.n == 1
    console = Console(record=True, width=100, file=io.StringIO())
    print_report(one_seed, console)
    assert "50.00 %" in console.export_text()


def test_single_runs_are_compared_by_what_their_settings_differ_in(small_run: list[str], tmp_path: Path) -> None:
    folders = []
    for width, seed in ((8, 0), (8, 1), (16, 0), (16, 1)):
        flags = [f"--model.width={width}", f"--seed_everything={seed}", "--diagnostics.enabled=false"]
        run = build_run(parse_settings([*small_run, *flags]))
        train(run)
        assert run.folder is not None
        folders.append(run.folder)
    study, records = compare_runs(folders, "test/accuracy")
    assert list(study.arms) == ["width=8", "width=16"]
    assert study.seeds == (0, 1)
    assert [len(record.history) for record in records] == [2] * 4
    report = write_report(study, records, tmp_path / "report")
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    assert report.values["width=8"][0] == metrics["test/accuracy"]
    alone, pair = compare_runs(folders[1:3], "test/accuracy")
    assert list(alone.arms) == [folder.name for folder in folders[1:3]]
    assert [record.seed for record in pair] == [1, 0]
    for row in make_report(alone, pair).arms:
        assert row.result.n == 1
        assert not row.result.bounded
    for wrong in ([folders[0], folders[0]], folders[:1]):
        with pytest.raises(InputError):
            compare_runs(wrong, "test/accuracy")
