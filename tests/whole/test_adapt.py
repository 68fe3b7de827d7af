"""docs/adapt.md, applied to a copy of the tree: its files are written, its commands run, their results checked."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.extensions import TABLES

PAGE = (ROOT / "docs" / "adapt.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
MAX_LINES = 60
"""Lines of a network, a data source and a loss of one's own together, blank lines and comments included."""
SHORT = [
    "--data.num_validation=40",
    "--data.batch_size=32",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=2",
    "--run_name=NAME",
]


def blocks(text: str) -> dict[str, str]:
    """The files of a text: a block of Python or YAML whose first line names it."""
    found = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    return {name: f"# {name}\n{content}" for name, content in found}


def commands(text: str) -> list[str]:
    found = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line for block in found for line in block.splitlines()]


def copy_tree(folder: Path) -> Path:
    """What git knows of, as it is here, and what it does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [Path(name) for name in names if name and (ROOT / name).is_file()]
    assert len(paths) > 300
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def execute(tree: Path, *words: str, **environment: str) -> str:
    """Run a command in the copy, and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLP_")}
    # ruff and Python are those of this environment
    inherited["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
    inherited |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
    result = subprocess.run(words, cwd=tree, env=inherited, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{shlex.join(words)}\n{result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def run_command(tree: Path, command: str, root: Path, idx_folder: Path) -> str:
    """Run a command of the page with little data and few epochs; its runs go below `root`."""
    words = [word.replace("runs/fashion_mnist", str(root / "idx")) for word in shlex.split(command)]
    assert words[0] == "python"
    if words[1] == "scripts/train.py":
        words += [*SHORT, f"--run_root={root}"]
    if words[1] == "scripts/diagnose.py":
        words += [f"--figure={root / 'diagnosis.png'}", "--data.batch_size=32"]
    if words[1] in ("scripts/train.py", "scripts/diagnose.py") and "bars" not in words:
        words += ["--data.dataset=idx", f"--data.root={idx_folder}"]
    return execute(tree, sys.executable, *words[1:])


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with all files of one's own in it."""
    folder = copy_tree(tmp_path_factory.mktemp("tree"))
    for name, content in blocks(PAGE).items():
        if not (folder / name).exists():
            (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def own_run(tree: Path, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one's own network, data and loss."""
    (command,) = (line for line in commands(SECTIONS["A loss"]) if "my_conv.py" in line)
    root = tmp_path_factory.mktemp("runs")
    run_command(tree, command, root, idx_folder)
    return root / "bars" / "NAME"


def test_the_page_has_what_it_promises() -> None:
    for table, module in TABLES.items():
        file = module.replace(".", "/")
        said = place(table)
        assert said.file in (f"{file}.py", f"{file}/__init__.py")
        assert re.search(rf"^{table}\b", (ROOT / said.file).read_text(encoding="utf-8"), re.MULTILINE)
        assert table in (ROOT / said.tests).read_text(encoding="utf-8"), f"{said.tests} does not go through {table}"
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in SECTIONS}
    linked = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert linked <= anchors
    assert len(linked) >= 11
    files = blocks(PAGE)
    lines = [len(files[name].splitlines()) for name in ("my_conv.py", "my_data.py", "my_loss.py")]
    assert sum(lines) <= MAX_LINES
    assert f"three files, {sum(lines)} lines in all" in SECTIONS["A loss"].replace("\n", " ")


def test_own_network_data_and_loss(own_run: Path, tree: Path) -> None:
    recorded = read(own_run / "provenance.json")["extensions"]
    assert sorted(recorded) == ["my_conv.py", "my_data.py", "my_loss.py"]
    metrics = read(own_run / "metrics.json")
    assert metrics["status"] == "completed"
    assert metrics["test/accuracy"] > 0.9
    table = (own_run / "model.txt").read_text(encoding="utf-8")
    for name, parameters in {
        "hidden 1 conv2d": 27 * 16 + 16,  # 3 × 3 places of 3 colours
        "hidden 2 conv2d": 9 * 16 * 16 + 16,
        "output linear": 16 * 3 * 3 * 2 + 2,  # 12 × 12 pixels, halved twice
    }.items():
        assert re.search(rf"^{name} .* {parameters:,} ", table, re.MULTILINE), table
    hidden = read(own_run / "evidence.json")["last"]["hidden"]
    assert [(layer["n_in"], layer["n_out"]) for layer in hidden] == [(27, 16), (144, 16)]


def test_tensorboard_shows_the_own_network(own_run: Path) -> None:
    shown = events(own_run)
    tags = shown.Tags()
    assert {"pictures/first_layer_weights", "pictures/sample_batch"} <= set(tags["images"])
    assert {"layer_weights/hidden_01", "layer_activations/hidden_02", "layer_gradients/output"} <= set(
        tags["histograms"]
    )
    assert {"layer_gradient_norm_log10/hidden_02", "layer_update_ratio_log10/hidden_01"} <= set(tags["scalars"])
    # 16 kernels of 3 × 3 pixels in 4 rows, each with a frame of one pixel, which neighbours share
    kernels = shown.Images("pictures/first_layer_weights")[0]
    assert (kernels.width, kernels.height) == (17, 17)
    shapes = {
        node.name: [size.size for size in node.attr["_output_shapes"].list.shape[0].dim]
        for node in shown.Graph().node
        if node.op in ("Conv2d", "BatchNorm2d", "ReLU", "Linear")
    }
    assert shapes["hidden_01/linear/Conv2d"] == [-1, 16, -1, -1]
    assert shapes["hidden_02/activation/ReLU"] == [-1, 16, -1, -1]
    assert shapes["output/linear/Linear"] == [-1, 2]


INSIDE = """
import json, random, sys
from pathlib import Path
import numpy as np
import onnxruntime, torch
from torch.nn import functional as f
from project.extensions import load_extension
for file in ("my_conv.py", "my_data.py", "my_loss.py"):
    load_extension(Path(file))
from project import load_run
from project.serving.demo.app import Drawing, load_contenders
from project.serving.demo.attribution import evidence, pixel_attribution
from project.serving.demo.page import answer_page

run = load_run(sys.argv[1])
pictures = run.datamodule.data.test.images[:50]
module = run.module.eval()
with torch.no_grad():
    # the same network by hand, from pictures whose channels stand first
    x = module.normalization(pictures).view(50, 12, 12, 3).permute(0, 3, 1, 2)
    for conv, norm, _, _ in module.network.blocks:
        x = f.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        x = f.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    logits = x.flatten(1) @ module.network.output.weight.T + module.network.output.bias
    by_hand = (logits - module(pictures)).abs().max().item()
session = onnxruntime.InferenceSession(sys.argv[2])
(exported,) = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})
of_file = np.abs(exported - run.predict(pictures).numpy()).max().item()
shares = pixel_attribution(module, pictures, 1)
black = torch.zeros_like(pictures)
with torch.no_grad():
    difference = evidence(module, pictures.float(), 1) - evidence(module, black.float(), 1)
gap = ((shares.sum((1, 2)) - difference).abs().max() / difference.abs().max()).item()
(contender,) = load_contenders([Path(sys.argv[1])])
image, truth = contender.example(random.Random(0))
import io
from PIL import Image
file = io.BytesIO()
Image.fromarray(image.numpy()).save(file, "PNG")
drawing = Drawing(image[..., 0], "example", "black", truth, file.getvalue())
answer = contender.answer(drawing, False, "integrated_gradients")
page = answer_page([answer], truth, 0.1)
print(json.dumps([by_hand, of_file, gap, [list(layer.shape) for layer in answer.hidden], truth in page]))
"""


def test_the_own_network_is_exported_attributed_and_drawn(own_run: Path, tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("captum")
    flags = [word for name in ("my_conv.py", "my_data.py", "my_loss.py") for word in ("--extensions", name)]
    execute(tree, sys.executable, "scripts/export.py", *flags, str(own_run), "--to=onnx", f"--output={tmp_path}")
    said = execute(tree, sys.executable, "-c", INSIDE, str(own_run), str(tmp_path / "model.onnx"))
    by_hand, of_file, gap, hidden, has_answer = json.loads(said.splitlines()[-1])
    assert by_hand < 1e-4
    assert of_file < 1e-5
    assert gap < 0.05  # the shares add up to the difference from a black picture, up to the integral's 24 points
    assert hidden == [[16], [16]]  # each channel's mean
    assert has_answer


SECTION = SECTIONS["A row in the tree"]
WITHOUT_AN_EXAMPLE = (
    """
from project.network.initializers import INITIALIZERS

INITIALIZERS["narrow"] = lambda init, weight, _: init.normal_(weight, std=0.03)
""",
    """
from project.network.norms import NORMS, Norm

NORMS["group"] = Norm(build=lambda nn, units: nn.GroupNorm(1, units), title="group norm", over="units")
""",
)
"""A row for each table of which the page shows none."""
ASKED_FOR = {
    "CLOSED_FORMS": re.findall(r"""`("snake": .*)`""", SECTION)[0],
    "OTHER_PARAMETER": '"snake": 0.5',
    "REFERENCES": '"adamax": lambda p, decay: torch.optim.Adamax(p, LR, BETAS, weight_decay=decay)',
    "TORCH_SCHEDULES": '"square_root": lambda o, n, _: lr_scheduler.LambdaLR(o, lambda k: 1 - math.sqrt(k / n))',
    "NORMAL_SD": '"narrow": 0.03',
    "NORM_MODULES": '"group": lambda units: nn.GroupNorm(1, units)',
}
"""What the tables' tests ask for, by the dictionary into which it goes."""


class Place(NamedTuple):
    """What the page says of a table: its file, its tests, and the dictionaries in which these ask for something."""

    file: str
    tests: str
    asked_for: list[str]


def place(table: str) -> Place:
    row = rf"^\| `{table}` \| `(\S+)` \| `(\S+)` \| (.*)\|$"
    ((file, tests, asked_for),) = re.findall(row, SECTION, re.MULTILINE)
    return Place(file, tests, re.findall(r"(?<!or )`(\w+)`", asked_for))  # of two that either do, the first


def append(path: Path, text: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{text}\n", encoding="utf-8")


def bound_names(statements: list[ast.stmt]) -> set[str]:
    """The names that imports, classes and functions make."""
    imported = {alias.name for s in statements if isinstance(s, ast.Import | ast.ImportFrom) for alias in s.names}
    return imported | {s.name for s in statements if isinstance(s, ast.ClassDef | ast.FunctionDef)}


def move_into_the_tree(tree: Path, content: str) -> tuple[str, str] | None:
    """Put an extension's row after those of its table, as the page says, and give the table's name and the row's.

    What needs torch goes into a file beside the table's, and a function that imports it takes its place in the row.
    """
    body = ast.parse(content).body
    rows = [s for s in body if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Subscript)]
    if not rows:
        return None
    (row,) = rows
    target = cast(ast.Subscript, row.targets[0])
    table, name = ast.unparse(target.value), str(ast.literal_eval(target.slice))
    file = place(table).file
    own = [s for s in body if s is not row and not (isinstance(s, ast.ImportFrom) and s.module == TABLES[table])]
    functions = []
    if own:
        path, names = Path(file).parent / f"{name}.py", bound_names(own)
        (tree / path).write_text(ast.unparse(ast.Module(own, [])), encoding="utf-8")
        module = ".".join(path.with_suffix("").parts)

        def imported_late(value: ast.expr) -> ast.expr:
            used = sorted({n.id for n in ast.walk(value) if isinstance(n, ast.Name)} & names)
            if not used:
                return value
            late = f"    from {module} import {', '.join(used)}\n    return ({ast.unparse(value)})(*given)\n"
            functions.append(f"def _{name}(*given):\n{late}")
            return ast.Name(f"_{name}")

        call = cast(ast.Call, row.value)
        call.args = [imported_late(value) for value in call.args]
        for keyword in call.keywords:
            keyword.value = imported_late(keyword.value)
        assert len(functions) == 1
    shown = blocks(SECTION).get(file)  # the page shows some rows as they are in the tree
    append(tree / file, shown or "\n\n".join([*functions, ast.unparse(row)]))
    return table, name


@pytest.fixture(scope="module")
def own_rows() -> dict[str, str]:
    """The name of each table's own row, which `tree_with_rows` fills in."""
    return {}


@pytest.fixture(scope="module")
def tree_with_rows(own_rows: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with a row of one's own in each table, and what the tests ask for."""
    folder = copy_tree(tmp_path_factory.mktemp("tree_with_rows"))
    extensions = [content for name, content in blocks(PAGE).items() if re.fullmatch(r"my_\w+\.py", name)]
    own_rows.update(filter(None, (move_into_the_tree(folder, text) for text in (*extensions, *WITHOUT_AN_EXAMPLE))))
    assert set(own_rows) == set(TABLES)
    for table in TABLES:
        _, tests, asked_for = place(table)
        for name in asked_for:
            path = folder / tests
            before, head, after = re.split(rf"^({name}\b.*\{{)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            path.write_text(f"{before}{head}\n    {ASKED_FOR[name]},{after}", encoding="utf-8")
    return folder


OTHERS = [
    (title, command, False)
    for title in SECTIONS
    if title not in ("A row in the tree", "Another name for the package")
    for command in commands(SECTIONS[title])
    if "runs/" not in command and command.count("--extensions") == 1
]
IN_THE_TREE = [
    (title, re.sub(r"--extensions \S+", "", command), True)
    for title, command, _ in OTHERS
    if "train.py" in command and any(f"{table}[" in SECTIONS[title] for table in TABLES)
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("title", "command", "in_the_tree"), [*OTHERS, *IN_THE_TREE])
def test_each_command(
    title: str, command: str, in_the_tree: bool, request: pytest.FixtureRequest, idx_folder: Path, tmp_path: Path
) -> None:
    said = run_command(
        request.getfixturevalue("tree_with_rows" if in_the_tree else "tree"), command, tmp_path, idx_folder
    )
    words = shlex.split(command)
    extensions = [] if in_the_tree else [words[words.index("--extensions") + 1]]
    if words[1] == "scripts/diagnose.py":
        assert "2,000" in said or "1,800" in said if "--data" in words else "(B, 16, …)" in said
        return
    folder = tmp_path / ("bars" if "bars" in words else "idx") / "NAME"
    assert list(read(folder / "provenance.json")["extensions"]) == extensions
    assert read(folder / "metrics.json")["test/accuracy"] > 0.5
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    for flag, value in pairwise(words):
        if re.match(r"--model\.\w+$", flag) and value.isidentifier():
            assert f"{flag.removeprefix('--model.')}: {value}\n" in config
    if title == "A logger":
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        assert any("validation/loss" in row for row in rows)
        return
    shown = events(folder)
    scalars, images = shown.Tags()["scalars"], shown.Tags()["images"]
    if title == "A schedule":
        rates = [event.value for event in shown.Scalars("curves/optimizer/learning_rate")]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] > 2 * rates[-1]
    if title == "A diagnostic":
        assert {"layer_negative_fraction/hidden_01", "layer_negative_fraction/hidden_02"} <= set(scalars)
        assert 0 < read(folder / "evidence.json")["last"]["hidden"][0]["own"]["negative_fraction"] < 1
    if title == "A callback":
        assert len(shown.Scalars("train/weight_norm")) == 2  # one for each epoch
    if title == "A picture in TensorBoard":
        assert "pictures/output_weights" in images


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_of_the_own_network_is_used(tree: Path, idx_folder: Path, tmp_path: Path) -> None:
    train, _, export, demo = commands(SECTIONS["A network"])
    run_command(tree, train, tmp_path, idx_folder)
    run_command(tree, export, tmp_path, idx_folder)
    assert (tmp_path / "idx" / "NAME" / "export" / "model.onnx").is_file()
    assert demo.startswith("python scripts/demo.py --extensions my_conv.py ")  # its page: see above


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_muon_trains_the_own_network(tree: Path, idx_folder: Path, tmp_path: Path) -> None:
    train, *_ = commands(SECTIONS["A network"])
    run_command(tree, f"{train} --model.optimizer muon --model.init lecun_normal", tmp_path, idx_folder)
    assert read(tmp_path / "idx" / "NAME" / "metrics.json")["test/accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tables_tests_check_rows_in_the_tree(tree_with_rows: Path, own_rows: dict[str, str]) -> None:
    imports = "tests/whole/test_imports.py::test_"
    nodes = [f"{imports}the_network_is_plain_torch", f"{imports}help_and_refusals_come_before_torch_is_loaded[train]"]
    files = sorted({place(table).tests for table in TABLES})
    words = ("-m", "pytest", "-vv", "-p", "no:cacheprovider", *files, *nodes)
    said = execute(tree_with_rows, sys.executable, *words)
    for table, name in own_rows.items():
        assert re.search(rf"^{place(table).tests}::\S*\[\S*{name}\S*\] PASSED", said, re.MULTILINE), table


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_commands_for_a_row_in_the_tree(tree_with_rows: Path, idx_folder: Path, tmp_path: Path) -> None:
    check, train, everything = commands(SECTION)
    said = execute(tree_with_rows, sys.executable, *shlex.split(check)[1:], "-p", "no:cacheprovider")
    assert int(re.search(r"(\d+) passed", said)[1]) >= 12
    run_command(tree_with_rows, train, tmp_path, idx_folder)
    assert read(tmp_path / "idx" / "NAME" / "provenance.json")["extensions"] == {}
    assert everything == "make check"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("perl") is None, reason="the page's commands need Perl")
def test_another_name(idx_folder: Path, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=a copy")):
        execute(tree, "git", *identity, *words)
    rename, after = re.findall(r"```bash\n(.*?)```", SECTIONS["Another name for the package"], re.DOTALL)
    execute(tree, "bash", "-euo", "pipefail", "-c", rename)
    assert not (tree / "project").exists()
    traces = []
    for path in sorted(path for path in tree.rglob("*") if path.suffix in (".py", ".cfg", ".toml", ".md", ".yaml")):
        if ".git" in path.parts or path == tree / "docs" / "adapt.md":
            continue
        text = path.read_text(encoding="utf-8")
        patterns = [r"\bproject\.[a-z_]\w*", r"\bproject/", r"\b(?:import|from) project\b(?!')"]
        if path.suffix in (".py", ".toml") and "benchmarks" not in path.parts:
            patterns.append(r"[\"']project[\"'.](?! *:)")
        traces += [f"{path.relative_to(tree)}: {found}" for one in patterns for found in re.findall(one, text)]
    assert not traces
    assert "name = my-lab" in (tree / "setup.cfg").read_text(encoding="utf-8")
    execute(tree, "ruff", "check", ".")
    execute(tree, "ruff", "format", "--check", ".")
    said = execute(tree, sys.executable, "-c", "import sys, my_lab.runs.train; print(*sys.modules)")
    assert "project" not in said.split()
    install, check, train = after.splitlines()
    assert install.startswith("pip install ")
    execute(tree, sys.executable, *shlex.split(check)[1:], "-p", "no:cacheprovider")
    run_command(tree, train, tmp_path / "runs", idx_folder)
    assert read(tmp_path / "runs" / "idx" / "NAME" / "metrics.json")["status"] == "completed"
