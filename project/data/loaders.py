"""Batches of images that already lie on the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from project.data.augmentation import Batch, rotate

EVALUATION_BATCH = 2048
"""The maximum number of examples in one forward pass of an evaluation."""
EVALUATION_SHARDS = 8
"""The minimum number of chunks of an evaluation, so that up to 8 processes score exactly the same chunks as one."""


def mix_seed(*parts: int) -> int:
    """One 63-bit seed out of several whole numbers, by the rounds of splitmix64 (Steele et al. 2014)."""
    mask, value = (1 << 64) - 1, 0
    for part in parts:
        value = (value + part + 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        value ^= value >> 31
    return value >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """Reseed the default generators that this device's operations draw from, which torch.manual_seed does slowly."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


@dataclass(eq=False)
class TrainLoader:
    """Batches of the training split, in an order that is a function of (seed, epoch) alone.

    Iterating yields `Batch`es on the device. Every batch of every epoch is full: the examples that are left over at
    an epoch's end wait for the next epoch's order. Before each batch the default generators are seeded from (seed,
    rank, epoch, batch), so that augmentation and dropout do not depend on what ran before.

    Args:
        images: The images on the device, uint8 (n, height, width) or (n, height, width, channels).
        targets: Their targets on the device, (n,).
        indices: The training split, int64 (m,).
        batch_size: The examples in one optimizer step, over all processes and accumulated parts.
        seed: It decides order, dropout and augmentation.
        rank: The number of this process among `world_size`.
        world_size: The number of processes that share each batch.
        accumulate: The number of parts into which each process cuts its share, one per backward pass.
        transform: The function that changes each batch, if any.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    transform: Callable[[Batch], Batch] | None = None

    def __post_init__(self) -> None:
        self.epoch = 0
        self.position = 0  # batches of the epoch that were yielded
        self._first = 0  # the batch with which the next iteration starts
        self.sampler = self  # Lightning sets the epoch of `loader.sampler` only

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Backward passes in an epoch."""
        return len(self.indices) // self.batch_size * self.accumulate

    def epoch_order(self) -> Tensor:
        """The training split in this epoch's order, int64 (m,)."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, self.epoch))
        return self.indices[torch.randperm(len(self.indices), generator=generator)]

    def __iter__(self) -> Iterator[Batch]:
        order = self.epoch_order().to(self.targets.device)
        part = self.batch_size // (self.world_size * self.accumulate)
        first, self._first = self._first, 0
        for number in range(first, len(self)):
            # wraps to 0 at the epoch's end, or a resumed run would find an epoch without batches
            self.position = (number + 1) % len(self)
            start = (number * self.world_size + self.rank) * part
            chosen = order[start : start + part]
            seed_generators(mix_seed(self.seed, self.rank, self.epoch, number), self.targets.device)
            batch = Batch(self.images.index_select(0, chosen), self.targets.index_select(0, chosen))
            yield self.transform(batch) if self.transform else batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = self._first = state["position"]


@dataclass(eq=False)
class EvaluationLoader:
    """A split in its own order, cut into chunks that do not depend on the number of processes.

    Rank r scores the chunks r, r + world_size, …: no example is scored twice, and none is left out.

    Args:
        images: The images on the device, uint8 (n, height, width) or (n, height, width, channels).
        targets: One target on the device for each of `indices`, (m,).
        indices: The split, int64 (m,).
        rank: The number of this process among `world_size`.
        world_size: The number of processes.
        degrees: The angle by which each picture is turned, (m,), or None.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    rank: int = 0
    world_size: int = 1
    degrees: Tensor | None = None

    def __post_init__(self) -> None:
        num_chunks = max(EVALUATION_SHARDS, self.world_size, -(-len(self.indices) // EVALUATION_BATCH))
        self.positions = list(torch.arange(len(self.indices)).tensor_split(num_chunks))[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each chunk with the positions of its examples within the split."""
        for positions in self.positions:
            chosen = positions.to(self.indices.device)
            images = self.images.index_select(0, self.indices[chosen].to(self.images.device))
            if self.degrees is not None:
                images = rotate(images, self.degrees[chosen].to(images.device))
            yield Batch(images, self.targets[chosen]), positions


def spread(num: int, maximum: int) -> Tensor:
    """At most `maximum` positions spread evenly over `num`, int64: a split may be sorted by class."""
    chosen = min(num, maximum)
    return torch.arange(chosen) * num // max(chosen, 1)


def spread_examples(loader: EvaluationLoader, maximum: int) -> Batch:
    """At most `maximum` examples spread evenly over a split."""
    positions = spread(len(loader.indices), maximum)
    images = loader.images[loader.indices[positions].to(loader.images.device)]
    if loader.degrees is not None:
        images = rotate(images, loader.degrees[positions].to(images.device))
    return Batch(images, loader.targets[positions.to(loader.targets.device)])
