"""Every TensorBoard tab holds what it should, read back from the files; pictures against hand calculations."""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from conftest import ROOT, make_idx_folder
from inspected import Run, build
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util import tensor_util
from torch.utils.tensorboard import SummaryWriter

from project.data.augmentation import Batch
from project.diagnosis.tensorboard import pictures, tabs


@pytest.fixture(scope="module")
def run(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build(idx_folder, tmp_path_factory.mktemp("runs") / "run").fit().test()


@pytest.fixture(scope="module")
def events(run: Run) -> EventAccumulator:
    return run.events()


def text_of(events: EventAccumulator, tag: str) -> str:
    return str(tensor_util.make_ndarray(events.Tensors(f"{tag}/text_summary")[-1].tensor_proto)[0].decode())


def contrast_of(events: EventAccumulator, picture: str) -> float:
    """Standard deviation of a picture's values: a blank one has none."""
    encoded = events.Images(f"pictures/{picture}")[-1].encoded_image_string
    return float(np.asarray(Image.open(BytesIO(encoded)).convert("RGB")).std())


def hparams_of(events: EventAccumulator) -> dict[str, Any]:
    """The settings by name."""
    content = {tag: data.plugin_data.content for tag, data in events.summary_metadata.items()}
    assert hparams.EXPERIMENT_TAG not in content  # so TensorBoard itself sees what differs between runs
    start = hparams.parse_session_start_info_plugin_data(content[hparams.SESSION_START_INFO_TAG]).hparams
    return {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.items()}


def test_scalars_are_in_tidy_groups(events: EventAccumulator) -> None:
    groups = {tag.split("/")[0] for tag in events.Tags()["scalars"]}
    rest = {group for group in groups if not group.startswith("layer_")}
    assert rest == {"curves", "test", "diagnostics"}
    by_layer = {tag for tag in events.Tags()["scalars"] if tag.startswith("layer_gradient_norm_log10/")}
    assert by_layer == {f"layer_gradient_norm_log10/{name}" for name in ("hidden_01", "hidden_02", "output")}


def test_the_curves_are_the_group_that_tensorboard_opens(events: EventAccumulator) -> None:
    """Its pages open the first two groups of all that they show, in the order of their names."""
    tags = events.Tags()
    first, *_ = sorted(tag.split("/")[0] for kind in ("scalars", "images", "histograms") for tag in tags[kind])
    assert first == "curves"
    curves = [tag for tag in sorted(tags["scalars"]) if tag.startswith("curves/")]
    assert curves == [
        "curves/accuracy/train",
        "curves/accuracy/validation",
        "curves/loss/train",
        "curves/loss/train_step",
        "curves/loss/validation",
        "curves/optimizer/learning_rate",
    ]


def test_every_chart_of_the_layout_finds_its_scalars(events: EventAccumulator) -> None:
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    assert [category.title for category in layout.category] == ["1 Training", "2 Layer by layer"]
    tags = events.Tags()["scalars"]
    found: dict[str, list[str]] = {}
    for category in layout.category:
        for chart in category.chart:
            # the page takes the patterns as regular expressions that match from the beginning
            found[chart.title] = [tag for pattern in chart.multiline.tag for tag in tags if re.match(pattern, tag)]
    without = {title for title, matching in found.items() if not matching}
    assert not without
    assert found["loss"] == ["curves/loss/train", "curves/loss/validation"]
    assert len(found["activation sd"]) == 2
    assert len(found["log10 of gradient norm (pre-activations)"]) == 3
    assert "saturated outputs" not in found  # relu does not saturate


def test_histograms_hold_every_value(run: Run, events: EventAccumulator) -> None:
    for name, linear in zip(
        ("hidden_01", "hidden_02", "output"), [layer.linear for layer in run.module.network.layers()], strict=True
    ):
        for kind in ("weights", "gradients"):
            found = events.Histograms(f"layer_{kind}/{name}")
            assert [event.step for event in found] == [5, 11]
            assert found[-1].histogram_value.num == sum(found[-1].histogram_value.bucket) == linear.weight.numel()
        weights = events.Histograms(f"layer_weights/{name}")[-1].histogram_value
        assert weights.min == pytest.approx(float(linear.weight.min().detach()))
        assert weights.sum_squares == pytest.approx(float(linear.weight.detach().square().sum()), rel=1e-5)
        activations = events.Histograms(f"layer_activations/{name}")[-1].histogram_value
        assert activations.num == 40 * linear.out_features  # of all 40 validation examples


def test_histogram_counts_as_numpy_does(tmp_path: Path) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    with SummaryWriter(str(tmp_path)) as writer:
        tabs.add_histogram(writer, "normal", values, 0)
        tabs.add_histogram(writer, "constant", torch.full((7,), 2.5), 0)
        tabs.add_histogram(writer, "few", torch.arange(10.0), 0)
        tabs.add_histogram(writer, "broken", torch.tensor([1.0, float("nan")]), 0)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["histograms"]) == {"normal", "constant", "few"}
    found = events.Histograms("normal")[0].histogram_value
    counts, edges = np.histogram(values.numpy(), bins=30)
    # rounding may put a value that lies on an edge on either side
    assert np.abs(np.array(found.bucket) - counts).sum() <= 4
    assert found.bucket_limit == pytest.approx(edges[1:], abs=1e-5)
    assert list(events.Histograms("few")[0].histogram_value.bucket) == [3.0, 3.0, 4.0]  # of 9/3 each
    constant = events.Histograms("constant")[0].histogram_value
    assert (list(constant.bucket), list(constant.bucket_limit)) == ([7.0], [2.5])


def test_graph_is_whole_and_holds_every_parameter(run: Run, events: EventAccumulator) -> None:
    graph: GraphDef = events.Graph()
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    assert all(set(node.input) <= nodes.keys() for node in graph.node)
    shapes = [node.attr["_output_shapes"].list.shape[0].dim for node in graph.node if node.op == "Parameter"]
    sizes = [np.prod([dimension.size for dimension in shape]) for shape in shapes]
    assert sum(sizes) == sum(parameter.numel() for parameter in run.module.network.parameters())
    # every node but the inputs can be reached from the loss
    reached, open_nodes = set(), ["loss"]
    while open_nodes:
        name = open_nodes.pop()
        reached.add(name)
        open_nodes += nodes[name].input
    assert reached == nodes.keys()
    assert nodes["hidden_01/dropout/Dropout"].input == ["hidden_01/activation/ReLU"]
    assert nodes["hidden_01/activation/ReLU"].input == ["hidden_01/norm/BatchNorm1d"]


def test_text_shows_network_settings_and_findings(run: Run, events: EventAccumulator) -> None:
    total = sum(parameter.numel() for parameter in run.module.network.parameters())
    assert f"| total | | {total:,} |" in text_of(events, "2_network")
    assert "model.depth: 2" in text_of(events, "3_settings")
    assert text_of(events, "1_judgement") == tabs.judgement_markdown(run.diagnostics.findings)


def test_provenance_is_shown_without_the_whole_change() -> None:
    text = tabs.provenance_markdown({"git_commit": "abc", "git_diff": "one\ntwo\n", "seeds": {"split_seed": 3}})
    for shown in ("git_commit: abc", "split_seed: 3", "uncommitted_change: 2 lines"):
        assert shown in text
    assert "one" not in text
    assert all(line.startswith("    ") for line in text.splitlines())  # code, in Markdown


def test_settings_without_a_value_are_left_out() -> None:
    text = tabs.settings_markdown({"model.width": [3, 4], "data.num_train": None})
    assert text == "    model.width: [3, 4]"


def test_hparams_are_the_settings(run: Run, events: EventAccumulator) -> None:
    values = hparams_of(events)
    expected = {"model.depth": 2, "model.width": "16", "model.activation": "relu", "seed_everything": 1}
    assert expected.items() <= values.items()
    assert "data.root" not in values
    assert events.Scalars("test/accuracy")[-1].value == pytest.approx(run.module.metrics()["accuracy"])
    assert "hp_metric" not in events.Tags()["scalars"]


def test_hparams_begin_with_what_differs_between_runs(idx_folder: Path, tmp_path: Path) -> None:
    """As TensorBoard's own server answers its page."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    for name, model in {"one": {}, "two": {"activation": "tanh", "dropout": 0.5}}.items():
        build(idx_folder, tmp_path / name, model=model, max_epochs=1).fit().test()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    request = RequestContext()
    found = context.experiment_from_metadata(request, "", True, context.hparams_metadata(request, ""), [])
    assert [info.name for info in found.hparam_infos[:2]] == ["model.activation", "model.dropout"]
    assert [info.differs for info in found.hparam_infos[:3]] == [True, True, False]
    # its table has columns of the first five metrics
    curves = ["accuracy/train", "accuracy/validation", "loss/train", "loss/train_step", "loss/validation"]
    assert [info.name.tag for info in found.metric_infos[:5]] == [f"curves/{name}" for name in curves]


def test_precision_and_recall_of_every_class(run: Run, events: EventAccumulator) -> None:
    assert run.module.evaluated is not None
    outputs, targets = run.module.evaluated
    for index, name in enumerate(run.module.spec.class_names):
        (event,) = events.Tensors(f"precision_recall/{name}")
        # rows: true positives, false positives, true negatives, false negatives, precision, recall, by threshold
        table = tensor_util.make_ndarray(event.tensor_proto)
        assert table[0, 0] + table[3, 0] == (targets == index).sum()
        shares = outputs.softmax(1)[:, index]
        threshold = np.linspace(0, 1, table.shape[1])[60]
        assert table[0, 60] == ((shares >= threshold) & (targets == index)).sum()


def test_projector_files(run: Run) -> None:
    from google.protobuf import text_format

    config = text_format.Parse((run.folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    embedding, as_points = config.embeddings
    assert embedding.tensor_name < as_points.tensor_name  # the projector shows the first name first
    assert (embedding.tensor_path, embedding.metadata_path) == (as_points.tensor_path, as_points.metadata_path)
    assert not as_points.sprite.image_path
    points = np.loadtxt(run.folder / embedding.tensor_path, delimiter="\t")
    header, *rows = (run.folder / embedding.metadata_path).read_text().splitlines()
    assert points.shape == (57, 16)  # all test pictures; 16 units are fewer than 50 components
    assert header == "true\tdecided\tright"
    assert run.module.evaluated is not None
    outputs, targets = run.module.evaluated
    names = run.module.spec.class_names
    assert [row.split("\t")[:2] for row in rows] == [
        [names[int(t)], names[int(d)]] for t, d in zip(targets, outputs.argmax(1), strict=True)
    ]
    # principal components keep distances: those of the representation itself
    run.module.eval()
    with torch.no_grad():
        images = run.datamodule.data.test.images
        signal = run.module.network.representation(run.module.normalization(images))
    assert np.allclose(np.linalg.norm(points[3] - points[40]), float((signal[3] - signal[40]).norm()), rtol=1e-3)
    # the sheet's second row starts with picture number `columns`
    sheet = np.asarray(Image.open(run.folder / embedding.sprite.image_path))
    width, height = embedding.sprite.single_image_dim
    assert (width, height) == (9, 8)
    columns = sheet.shape[1] // width
    tile, picture = sheet[height : 2 * height, :width], images[columns].numpy()
    assert (tile[picture == 255] == 255).all()
    colour = matplotlib.colormaps["tab10"](int(targets[columns]))[:3]
    expected = picture[..., None] / 255 * (1 - np.array(colour)) + colour
    np.testing.assert_allclose(tile, 255 * expected, atol=1)


def test_principal_components_are_those_of_the_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    found = tabs.principal_components(points, 3)
    assert found.shape == (200, 3)
    eigenvalues = np.linalg.eigvalsh(np.cov(points.numpy().T))[::-1]
    assert np.allclose(found.var(0).numpy(), eigenvalues[:3], rtol=1e-3)
    assert torch.equal(found, tabs.principal_components(points, 3))


def test_pictures_are_there_once_for_each_epoch_or_run(events: EventAccumulator) -> None:
    steps = {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert steps == {
        "pictures/sample_batch": [0],
        "pictures/first_layer_weights": [5, 11],
        "pictures/gradients_by_layer_and_step": [12],
        "pictures/confusion_matrix": [12],
        "pictures/most_confident_mistakes": [12],
    }
    for tag in steps:
        assert contrast_of(events, tag.removeprefix("pictures/")) > 1, f"{tag} is blank"


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts if text.get_text()]


def test_confusion_matrix_names_classes_and_counts() -> None:
    names = ("Coat", "Shirt", "Bag")
    figure = pictures.confusion_figure(torch.tensor([[5, 1, 0], [2, 3, 0], [0, 0, 1_000]]), names)
    axis = figure.axes[0]
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(names)
    assert texts(figure) == ["5", "1", "2", "3", "1,000"]
    assert f"{1008 / 1011:.2%}" in axis.get_title()
    assert axis.images[0].get_array()[1, 0] == pytest.approx(2 / 5)


def test_mistakes_are_sorted_by_confidence_and_named() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.99, 0.01]])
    images = torch.arange(4)[:, None, None] * torch.ones(4, 2, 3)
    figure = pictures.mistakes_figure(images, shares, torch.tensor([1, 0, 0, 0]), ("Coat", "Bag"))
    assert [caption.split("\n")[0] for caption in texts(figure)[1:]] == ["Bag", "Coat", "Coat"]
    assert [int(image.get_array()[0, 0]) for image in figure.axes[0].images] == [0, 2, 1]


def test_sample_batch_shows_normalized_pictures_and_shares_of_mixed_ones(run: Run) -> None:
    images = run.datamodule.data.train.images[:4]
    batch = Batch(images.float(), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2]), torch.tensor(0.7))
    figure = pictures.sample_batch_figure(batch, run.module)
    title, *captions = texts(figure)
    assert captions == ["70% 0\n30% 1", "70% 1\n30% 1", "70% 2\n30% 0", "70% 0\n30% 2"]
    normalized = run.module.normalization(images)
    assert np.allclose(figure.axes[0].images[2].get_array(), normalized[2].view(8, 9))
    assert f"sd {normalized.std():.2f}" in title


def test_gradient_heat_map() -> None:
    norms = [[1e-6, 1e-3, 1.0], [0.0, 1e-2, float("nan")]]
    figure = pictures.gradient_figure([0, 10], norms)
    values = figure.axes[0].collections[0].get_array()  # (layers, probes)
    assert np.allclose(values.compressed(), [-6, -3, -2, 0])
    assert values.mask.tolist() == [[False, True], [False, False], [False, True]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["hidden 1", "hidden 2", "output"]
    single = pictures.gradient_figure([0], [[0.5, 0.5]])
    low, high = single.axes[0].collections[0].get_clim()
    assert high - low == pytest.approx(2)
    assert pictures.to_picture(pictures.gradient_figure([0], [[0.0]])).std() > 1


def test_first_layer_tiles_are_red_for_positive_and_blue_for_negative(run: Run) -> None:
    weight = run.module.network.hidden[0].linear.weight.detach()
    tiles = pictures.first_layer_tiles(run.module)
    assert tiles.shape == (4 * (8 + 1) + 1, 4 * (9 + 1) + 1, 3)
    tile = tiles[1:9, 1:10].astype(int)  # of the first unit, inside its frame
    positive = (weight[0] > 0.05 * weight.abs().max()).view(8, 9).numpy()
    negative = (weight[0] < -0.05 * weight.abs().max()).view(8, 9).numpy()
    assert (tile[..., 0] > tile[..., 2])[positive].all()
    assert (tile[..., 2] > tile[..., 0])[negative].all()
    darkest = tiles.astype(int).reshape(-1, 3)[:, 1].min()
    assert darkest == 0  # the largest weight has the full colour


@pytest.mark.parametrize("channels", [2, 3])
def test_pictures_of_several_channels(channels: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, num in (("train", 240), ("test", 57)):
        arrays |= {f"x_{part}": generator.integers(0, 256, (num, 8, 9, channels), dtype=np.uint8)}
        arrays |= {f"y_{part}": np.arange(num) % 3}
    np.savez(tmp_path / "a.npz", **arrays)
    data = {"dataset": "arrays", "augmentation": ["shift", "mixup"]}
    run = build(tmp_path / "a.npz", tmp_path / "runs" / "run", data=data).fit().test()
    events = run.events()
    for picture in ("sample_batch", "most_confident_mistakes", "first_layer_weights"):
        assert contrast_of(events, picture) > 1
    sprite = np.asarray(Image.open(run.folder / "projector" / "sprite.png"))
    assert sprite.shape == (8 * 8, 8 * 9, 3)
    tiles = pictures.first_layer_tiles(run.module)
    assert tiles.shape == (4 * (8 + 1) + 1, 4 * (9 + 1) + 1, 3)
    weight = run.module.network.hidden[0].linear.weight.detach()
    if channels == 3:  # the weights of red, green and blue, around a middle gray
        expected = 127.5 * (1 + weight[0] / weight.abs().max()).view(8, 9, 3).numpy()
        np.testing.assert_allclose(tiles[1:9, 1:10], expected, atol=1)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"task": "binary"}, {"classes": [0, 2]}),
        ({"task": "regression"}, {}),
        ({"task": "regression"}, {"target": "rotation", "augmentation": None}),
        ({"depth": 0, "norm": "none"}, {}),
        ({"init": "zeros", "norm": "none"}, {"augmentation": "cutmix"}),
    ],
    ids=["binary", "regression", "rotation", "softmax regression", "zeros"],
)
def test_other_tasks_fill_their_tabs(
    idx_folder: Path, tmp_path: Path, model: dict[str, Any], data: dict[str, Any]
) -> None:
    run = build(idx_folder, tmp_path / "run", model=model, data=data, max_epochs=1).fit().test()
    events = run.events()
    first = "predicted_against_true" if model.get("task") == "regression" else "confusion_matrix"
    for name in ("sample_batch", "most_confident_mistakes", first):
        assert contrast_of(events, name) > 1
    curves = [tag for tag in events.Tags()["tensors"] if tag.startswith("precision_recall/")]
    assert len(curves) == len(run.module.spec.class_names)
    assert hparams_of(events)["model.task"] == model.get("task", "multiclass")
    score = "test/rmse" if model.get("task") == "regression" else "test/accuracy"
    assert score in events.Tags()["scalars"]
    assert (run.folder / "projector" / "metadata.tsv").read_text().count("\n") >= 38


def test_a_test_cut_short_shows_what_was_scored(idx_folder: Path, tmp_path: Path) -> None:
    run = build(idx_folder, tmp_path / "run", max_epochs=1, limit_test_batches=2).fit().test()
    assert contrast_of(run.events(), "most_confident_mistakes") > 1


def test_pictures_that_are_higher_than_wide(tmp_path: Path) -> None:
    """torch's own sprite sheet cannot hold these."""
    folder = make_idx_folder(tmp_path / "data", side=12)
    run = build(folder, tmp_path / "run", data={"augmentation": None}, max_epochs=1).fit().test()
    assert np.asarray(Image.open(run.folder / "projector" / "sprite.png")).shape == (8 * 12, 8 * 13, 3)


def test_a_name_is_drawn_as_it_is_written() -> None:
    """Also where it looks like a formula, which matplotlib would refuse."""
    names = ("$\\frac{$", "b")
    pictures.to_picture(pictures.confusion_figure(torch.eye(2, dtype=torch.long), names))
    images, shares = torch.zeros(2, 4, 4, dtype=torch.uint8), torch.tensor([[0.4, 0.6], [0.7, 0.3]])
    pictures.to_picture(pictures.mistakes_figure(images, shares, torch.tensor([0, 1]), names))


def test_drawing_opens_no_window() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    assert pictures.to_picture(pictures.confusion_figure(torch.eye(2, dtype=torch.long), ("a", "b"))).std() > 1
    assert plt.get_fignums() == before


def test_the_guides_name_every_chart_tab_and_picture(events: EventAccumulator) -> None:
    folder = ROOT / "docs"
    diagnostics, tensorboard = ((folder / f"{name}.md").read_text() for name in ("diagnostics", "tensorboard"))
    for title, quantity in tabs.LAYER_CHARTS.items():
        assert f"| {title} | `layer_{quantity}` |" in diagnostics
    for tag in events.Tags()["images"]:
        assert f"**{tag.removeprefix('pictures/')}**" in tensorboard
    for text in ("1_judgement", "2_network", "3_settings", "4_provenance"):
        assert f"`{text}`" in tensorboard
    for page in (diagnostics, tensorboard):
        for target in re.findall(r"\]\((images/[^)]+)\)", page):
            assert (folder / target).stat().st_size < 300_000
