"""Pictures to begin with: some of a run's test set, and those in which its network is most confidently wrong."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from project.data.augmentation import rotate
from project.data.loaders import EVALUATION_BATCH, EvaluationLoader, spread, spread_examples
from project.errors import InputError
from project.serving.demo.page import png_url
from project.serving.restore import RestoredRun
from project.task import target_name

NUM_PICTURES = 10
"""How many pictures there are of each kind, at most."""
MAX_SCORED = 10_000
"""The maximum number of test pictures, evenly spread, among which the mistakes are looked for."""


def load_test(run: RestoredRun) -> EvaluationLoader:
    """A run's test set.

    Raises:
        InputError: If the data are no longer where they were; they are not fetched.
    """
    datamodule = run.datamodule
    datamodule.settings = replace(datamodule.settings, download=False)
    return datamodule.evaluation_loader("test")


def picture_at(run: RestoredRun, position: int) -> tuple[Tensor, str]:
    """A picture of the test set, uint8 (height, width) or (height, width, channels), and what it shows.

    Raises:
        InputError: If the data are no longer where they were.
    """
    loader = load_test(run)
    image = loader.images[loader.indices[position]]
    if loader.degrees is not None:
        image = rotate(image[None], loader.degrees[position : position + 1])[0].round().to(torch.uint8)
    return image, target_name(loader.targets[position], run.class_names)


def gallery(run: RestoredRun, name: str = "") -> list[dict[str, Any]]:
    """Groups of pictures as the page's canvas takes them; without the data there are none.

    Each has a title, and pictures with picture (a data URL), truth and caption.

    Args:
        run: The run whose test set and whose mistakes are shown.
        name: What its network is called, if there are others beside it.
    """
    try:
        loader = load_test(run)
    except InputError:
        return []
    groups = [("Test pictures", [(position, "") for position in _one_of_each(run, loader.targets)])]
    if mistakes := _mistakes(run, loader):
        groups.append((f"Worst mistakes of {name}" if name else "Its worst mistakes", mistakes))
    return [
        {"title": title, "pictures": [_shown(run, position, answer) for position, answer in chosen]}
        for title, chosen in groups
    ]


def _shown(run: RestoredRun, position: int, answer: str) -> dict[str, str]:
    image, truth = picture_at(run, position)
    caption = f"{truth}, called {answer}" if answer else truth
    return {"picture": png_url(image.numpy()), "truth": truth, "caption": caption}


def _one_of_each(run: RestoredRun, targets: Tensor) -> list[int]:
    """The first picture of each class; of a regression, pictures with evenly spread targets."""
    if not run.class_names:
        ranks = torch.linspace(0, len(targets) - 1, min(NUM_PICTURES, len(targets))).long()
        return [int(position) for position in targets.argsort()[ranks]]
    places = [torch.nonzero(targets == index).flatten() for index in range(len(run.class_names))]
    return [int(place[0]) for place in places if len(place)][:NUM_PICTURES]


def _mistakes(run: RestoredRun, loader: EvaluationLoader) -> list[tuple[int, str]]:
    """The wrong answers of highest probability, or of largest error: each picture's position, and the answer."""
    chosen, part = spread(len(loader.indices), MAX_SCORED), spread_examples(loader, MAX_SCORED)
    answers = torch.cat([run.predict(images) for images in torch.split(part.images, EVALUATION_BATCH)])
    if not run.class_names:
        wrongness, said = (answers - part.targets).abs(), [f"{answer:.1f}" for answer in answers.tolist()]
    else:
        shares, decided = answers.max(1)
        wrongness = torch.where(decided == part.targets, 0.0, shares)
        said = [run.class_names[index] for index in decided.tolist()]
    worst = wrongness.nan_to_num(0.0).topk(min(NUM_PICTURES, len(chosen)))
    return [
        (int(chosen[place]), said[place])
        for place, size in zip(worst.indices.tolist(), worst.values.tolist(), strict=True)
        if size > 0
    ]
