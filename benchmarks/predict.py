"""Predict picture files one by one, as a usual loop does, and with project.serving: python -m benchmarks.predict RUN

Writes the run's test pictures as PNG files first. Contenders take turns; the predictions must be the same.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from project.serving.predict.picture_reader import PictureReader
from project.serving.predict.predict import predict_files
from project.serving.restore import RestoredRun, restore


def one_by_one(run: RestoredRun, files: list[str]) -> list[int]:
    """Open each picture, make a tensor of it and call the network with a batch of one."""
    decided = []
    with torch.inference_mode():
        for file in files:
            with Image.open(file) as image:
                logits = run.model(pil_to_tensor(image))  # (1, height, width): its channel is the batch
            decided.append(int(logits.softmax(1).argmax()))
    return decided


def together(run: RestoredRun, files: list[str], num_threads: int | None) -> list[int]:
    """Predict as scripts/predict.py does."""
    reader = PictureReader(
        run.module.spec.height, run.module.spec.width, run.polarity, channels=run.module.spec.channels
    )
    answered = predict_files(run, files, reader, num_threads=num_threads)
    return [prediction.top[0].index for predictions, _ in answered for prediction in predictions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--data_root", type=Path, default=None, help="where the run's data are, if they have moved")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    run = restore(arguments.run, arguments.data_root)
    contenders: dict[str, Callable[[list[str]], list[int]]] = {"one by one": lambda files: one_by_one(run, files)}
    contenders["together"] = lambda files: together(run, files, None)
    contenders["together, a thread per core"] = lambda files: together(run, files, os.cpu_count())
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, image in enumerate(run.datamodule.source("test").images[: arguments.files]):
            files.append(str(Path(folder) / f"{number:05d}.png"))
            Image.fromarray(image.numpy()).save(files[-1])
        for _ in range(arguments.rounds):
            decided = []
            for name, contender in contenders.items():
                started = time.perf_counter()
                decided.append(contender(files))
                taken[name].append(time.perf_counter() - started)
            assert all(classes == decided[0] for classes in decided), "the contenders disagree"
    for name, seconds in taken.items():
        ratios = [slow / fast for slow, fast in zip(taken["one by one"], seconds, strict=True)]
        print(
            f"{name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}) for "
            f"{len(files):,} files, {statistics.median(ratios):.1f} times as fast as one by one "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
