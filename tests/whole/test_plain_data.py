"""YAML and JSON of any shape: read as plain data, or refused at once, with the line."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from finished import call, finish, small_flags

from project.errors import InputError
from project.plain_data import MAX_DEPTH, MAX_DIGITS, MAX_NODES, DataError, ValueLoader, parse_json, parse_yaml
from project.runs.parser import parse_settings, settings_of

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BOMB, 6),
        (f"first: 1\n{BOMB}", 7),
        ("a: &a [*a]", 1),
        ("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n", 5),
        ("a: 1\n'a': 2\n", 2),
        ("[" * 10_000, 1),
        ("a:\n" + "".join(f"{' ' * n}- \n" for n in range(60)), 51),
        (f"a: 1\nb: {'9' * (MAX_DIGITS + 1)}", 2),
        (f"a: !!int '{'9' * 5000}'", 1),
        ("a: !!int 1:30", 1),
        ("a: 1\nb: !!python/name:os.system\n", 2),
        ("a: !!timestamp 2001-01-01", 1),
        ("a: !mine 3", 1),
        ("a: [1\nb: 2", 2),
        ("a: 1\n--- \nb: 2", 2),
    ],
)
def test_yaml_that_is_refused(text: str, line: int) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match=rf"lines? (?:\d+ and )?{line}\b"):
        parse_yaml(text)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("text", ["!!int x", "!!float x", "!!bool x", "? [a]\n: 1", "a: \0", "*a", "&a a: *b"])
def test_what_is_no_yaml(text: str) -> None:
    with pytest.raises(DataError):
        parse_yaml(text)


def test_yaml_that_is_read() -> None:
    found = parse_yaml("a: 1:30\nb: 2001-01-01\nc: 1e-4\nd: 1.0e-4\n1: yes\nno: ~\ne: &e {f: [1, 2]}\ng: *e\n")
    assert found == {
        "a": "1:30", "b": "2001-01-01", "c": "1e-4", "d": 1e-4, "1": True, "no": None,
        "e": {"f": [1, 2]}, "g": {"f": [1, 2]},
    }  # fmt: skip
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, b: 2}") == {"a": {"b": 1}, "c": {"b": 2}}  # no name comes twice
    assert parse_yaml(yaml.safe_dump({"x": 10**29, "deep": [[[[1]]]], "text": "a: b\n# c"})) is not None
    assert yaml.load("[1:30, 1e-4, 3]", Loader=ValueLoader) == ["1:30", 1e-4, 3]  # noqa: S506 - it is a safe one
    many = "\n".join(f"- {number}" for number in range(MAX_NODES - 1))
    started = time.monotonic()
    assert len(parse_yaml(many)) == MAX_NODES - 1
    assert time.monotonic() - started < 10
    with pytest.raises(DataError):
        parse_yaml(f"{many}\n- 0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', r"'a' twice, see lines 1, 2, 3"),
        ("[" * 100_000, f"more than {MAX_DEPTH} deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        ('{"a":' * 500 + "1" + "}" * 500, f"more than {MAX_DEPTH} deep"),
        ("9" * 5000, "5,000 digits"),
        ('{\n"a": }', "line 2"),
        ("[" + "1," * 3_000_000 + "1]", "values"),
        ("x" * 20_000_000, "MiB"),
        ("", "line 1"),
    ],
)
def test_json_that_is_refused(text: str, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match=words):
        parse_json(text)
    assert time.monotonic() - started < 1


def test_json_that_is_read() -> None:
    content = {"a": [1, 2.5, None, True, "\x1b é"], "b": {"a": {}}, "c": 10**29}
    assert parse_json(json.dumps(content)) == content
    assert parse_json("[NaN, -Infinity]")[1] == float("-inf")  # a diverged training's


@pytest.fixture(scope="module")
def run(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bombed")
    return finish(*small_flags(idx_folder, root), "--trainer.max_epochs=1", "--model.width=4", "--run_name=x")


def test_a_bomb_is_refused_everywhere_within_a_second(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a run's config.yaml, a file for --config or for --data, and a study; with less than 200 MB."""
    (tmp_path / "bomb.yaml").write_text(BOMB)
    (run / "config.yaml").write_text(BOMB)
    lines = [
        ("evaluate", run, "--accelerator=cpu"),
        ("export", run, "--to", "torch_export"),
        ("train", "--resume", run),
        ("diagnose", run),
        ("report", run, run),
        ("train", "--config", tmp_path / "bomb.yaml"),
        ("train", "--data", tmp_path / "bomb.yaml"),
        ("study", tmp_path / "bomb.yaml", "--root", tmp_path),
    ]
    call(capsys, *lines[0])  # what is imported takes time once
    call(capsys, *lines[-1])
    for line in lines:
        tracemalloc.start()
        started = time.process_time()
        said = call(capsys, *line)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (said.status, len(said.err.splitlines())) == (2, 2), said.err
        assert time.process_time() - started < 5  # with the parser, while memory is traced
        assert peak < 200_000_000


def test_a_time_is_no_number() -> None:
    with pytest.raises(InputError):
        parse_settings(["--model.depth=1:30"])
    with pytest.raises(InputError):
        settings_of({"seed_everything": "1:30"}, with_trainer=False)
    assert parse_settings(["--model.learning_rate=1e-4", "--trainer.max_epochs=2"]).model.learning_rate == 1e-4
    assert str(parse_settings(["--trainer.max_time=00:01:30:00"]).trainer["max_time"]) == "00:01:30:00"
