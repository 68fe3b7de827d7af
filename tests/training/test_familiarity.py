"""What is unlike the training pictures: the distance against its definition, the limit, and the file in a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from finished import finish, small_flags
from sklearn.covariance import oas

from project.data.datamodule import ImageDataModule
from project.errors import InputError
from project.runs.saving.checkpointing import load_familiarity
from project.serving.restore import RestoredRun, restore
from project.training.familiarity import Familiarity, fit_familiarity, num_units, represent, shrunk_covariance

TASKS = {
    "multiclass": ["--model.depth=1"],
    "softmax": ["--model.depth=0", "--model.width=[]", "--model.norm=none"],
    "residual": ["--model.network=residual_mlp", "--model.activation=tanh", "--model.norm=layer"],
    "binary": ["--model.task=binary", "--data.classes=[2, 0]"],
    "rotation": ["--model.task=regression", "--data.target=rotation"],
}


@pytest.fixture(scope="module", params=TASKS)
def run(request: pytest.FixtureRequest, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RestoredRun:
    flags = [*small_flags(idx_folder, tmp_path_factory.mktemp("familiar")), *TASKS[request.param]]
    return restore(finish(*flags, "--model.dropout=0"))


def familiarity_of(run: RestoredRun) -> Familiarity:
    assert run.familiarity is not None
    return run.familiarity


def test_at_most_one_in_twenty_validation_pictures_is_unlike(run: RestoredRun) -> None:
    batches = [batch.images for batch, _ in run.datamodule.evaluation_loader("validation") if len(batch.images)]
    unlike = run.unlike(torch.cat(batches))
    assert unlike is not None
    assert unlike.sum() == len(unlike) - np.ceil((len(unlike) + 1) * 0.95)


def test_what_is_saved_is_what_is_fitted(run: RestoredRun) -> None:
    saved, fitted = familiarity_of(run), fit_familiarity(run.module, run.datamodule)
    assert fitted is not None
    assert saved.limit == pytest.approx(fitted.limit, rel=1e-4)
    images = torch.randint(256, (5, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    distances = fitted.distances(run.module, images)
    assert torch.allclose(saved.distances(run.module, images), distances, rtol=1e-3)
    assert saved.whitening.shape == (num_units(run.module),) * 2


def test_the_distance_is_mahalanobis(run: RestoredRun) -> None:
    """Against the inverse covariance, which the saved whitening stands for, and its nearest mean."""
    saved = familiarity_of(run)
    images = run.datamodule.source("test").images[:20]
    seen = represent(run.module, images).numpy()
    assert np.allclose(np.linalg.norm(seen, axis=1), 1)
    root = saved.whitening.double().numpy()
    precision, means = root @ root.T, saved.means.double().numpy() @ np.linalg.inv(root)
    squares = [[(row - mean) @ precision @ (row - mean) for mean in means] for row in seen]
    expected = np.sqrt(np.min(squares, axis=1))
    assert saved.distances(run.module, images).numpy() == pytest.approx(expected, rel=1e-2)


def test_shrinkage_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for num, units in ((30, 50), (500, 8)):
        residuals = generator.normal(size=(num, units)) * np.linspace(0.1, 2, units)
        expected, _ = oas(residuals, assume_centered=True)
        assert np.allclose(shrunk_covariance(torch.from_numpy(residuals)).numpy(), expected)


def test_pictures_without_any_form_of_the_training_set_are_unlike(idx_folder: Path, tmp_path: Path) -> None:
    run = restore(finish(*small_flags(idx_folder, tmp_path), "--trainer.max_epochs=8"))
    checker = (255 * (np.indices((8, 9)).sum(0) % 2)).astype(np.uint8)
    unlike = run.unlike(torch.from_numpy(np.stack([checker, 255 - checker])))
    assert unlike is not None
    assert unlike.all()


def test_too_few_pictures_to_say(idx_folder: Path) -> None:
    from project.training.module import ImageModule

    for num, known in ((0, False), (18, False), (19, True)):
        data = ImageDataModule(dataset="idx", root=str(idx_folder), num_validation=num, batch_size=16)
        module = ImageModule(data.spec, data.normalization, width=8, depth=1)
        assert (fit_familiarity(module, data) is not None) == known


def test_only_the_checkpoint_that_was_scored_has_one(run: RestoredRun) -> None:
    last = restore(run.folder / "checkpoints" / "last.ckpt")
    assert last.familiarity is None
    assert last.unlike(torch.zeros(1, 8, 9, dtype=torch.uint8)) is None


def test_a_damaged_file_is_refused(run: RestoredRun, tmp_path: Path) -> None:
    saved = familiarity_of(run)
    good = {"means": saved.means, "whitening": saved.whitening, "limit": saved.limit}
    units = num_units(run.module)
    wrong = [
        good | {"means": saved.means[:, :-1]},
        good | {"whitening": saved.whitening.double()},
        good | {"means": torch.zeros(1).expand(1_000_000, units)},
        good | {"limit": float("nan")},
        good | {"limit": "far"},
        {"means": saved.means},
        [good],
    ]
    for content in wrong:
        torch.save(content, tmp_path / "familiarity.pt")
        with pytest.raises(InputError, match=r"familiarity\.pt"):
            load_familiarity(tmp_path, units)
    torch.save(good, tmp_path / "familiarity.pt")
    assert load_familiarity(tmp_path, units) is not None
