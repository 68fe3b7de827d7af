"""How drawn and photographed digits are answered, and what is called unlike: python -m benchmarks.pictures RUN

300 digits of the run's test set are thinned to their middle line, drawn again with other pens on other papers in uneven
light, and compared with the answer to the original; 300 pictures are no digits. What was chosen by looking at results
was chosen on --half development, whose digits, letters, fonts, noise and faces are others. Takes a minute.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.picture_cases.paper import as_read, middle_line, photograph
from benchmarks.picture_cases.strange import KINDS, Half
from project.data.sources.load import load_dataset
from project.serving.evaluation import accuracy_interval
from project.serving.predict.image_files import fit_image, is_prepared
from project.serving.restore import RestoredRun, restore

SEEDS: dict[Half, int] = {"development": 0, "report": 1}


def drawn_digits(half: Half, data_root: Path, num: int) -> tuple[Tensor, list[Tensor]]:
    """Digits of MNIST's training set (development) or test set (report), and photographs of them drawn again.

    Every sixth is drawn as on the demo's canvas: without paper, light and noise.
    """
    random = np.random.default_rng(SEEDS[half])
    data = load_dataset("mnist", data_root, download=False)
    images = (data.train if half == "development" else data.test).images
    originals = images[torch.from_numpy(random.choice(len(images), num, replace=False))]
    drawn = [
        as_read(photograph(middle_line(image.numpy()), random, clean=number % 6 == 5))
        for number, image in enumerate(originals)
    ]
    return originals, drawn


def seen_by(run: RestoredRun, pictures: list[Tensor], prepare: bool = True) -> Tensor:
    """Pictures as predict and the demo give them to the network."""
    spec, preparation = run.module.spec, run.preparation if prepare else "never"
    fitted = [
        fit_image(one, spec.height, spec.width, run.polarity, is_prepared(one, spec.shape, preparation))[0]
        for one in pictures
    ]
    return torch.stack(fitted)


def share(hits: Tensor) -> str:
    low, high = accuracy_interval(int(hits.sum()), len(hits))
    return f"{hits.float().mean():6.1%} of {len(hits):,} ({low:.1%} to {high:.1%})"


def unlike(run: RestoredRun, pictures: Tensor) -> Tensor:
    found = run.unlike(pictures)
    assert found is not None, "the run has no familiarity.pt: train it anew"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, of MNIST or of FashionMNIST")
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--half", choices=list(SEEDS), default="report")
    parser.add_argument("--number", type=int, default=300, help="of digits, and of pictures that are none")
    arguments = parser.parse_args()
    half: Half = arguments.half
    run = restore(arguments.run, arguments.data_root)
    is_digits = run.datamodule.settings.dataset == "mnist"
    test = run.datamodule.source("test").images
    originals, drawn = drawn_digits(half, arguments.data_root, arguments.number)
    if is_digits:
        expected = run.predict(originals).argmax(1)
        for name, prepare in (("prepared", True), ("as they are", False)):
            answered = run.predict(seen_by(run, drawn, prepare)).argmax(1)
            print(f"drawn digits answered as the originals, {name}: {share(answered == expected)}")
    print("called unlike anything it was trained on:")
    print(f"  test set{'':16} {share(unlike(run, test))}")
    print(f"  drawn digits{'':12} {share(unlike(run, seen_by(run, drawn)))}")
    random, found = np.random.default_rng(10 + SEEDS[half]), []
    for name, make in KINDS.items():
        pictures = [as_read(make(half, random)) for _ in range(math.ceil(arguments.number / len(KINDS)))]
        found.append(unlike(run, seen_by(run, pictures)))
        print(f"  {name:24} {share(found[-1])}")
    print(f"  {'all these kinds':24} {share(torch.cat(found))}")
    other = load_dataset("fashion_mnist" if is_digits else "mnist", arguments.data_root, download=False).test.images
    print(f"  {'the other set of MNIST’s':24} {share(unlike(run, other))}")


if __name__ == "__main__":
    main()
