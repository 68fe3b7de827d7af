"""Exact and near copies, within and across the splits, and copies with different labels."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from project.data.channels import gray
from project.data.settings import SplitName
from project.diagnosis.data_examination.features.alignment import described, usual_distances
from project.diagnosis.data_examination.features.pictures import (
    SPLITS,
    ExaminedData,
    Example,
    Illustrated,
    chunks,
    is_blank,
)
from project.diagnosis.judgement.findings import Finding, Severity

NEAR = 0.25
"""Near copies are closer than this share of the usual distance to a neighbour. Such ratios tell a match from a
coincidence (Lowe 2004, "Distinctive image features", section 7.1, takes 0.8 for single features): independent pictures
in m dimensions come that close with probability proportional to 0.25^m. MNIST, which has no copies, has 4 such pairs
among its 70,000 pictures."""
MAX_DISTANCE = 0.1
"""Beyond this distance no near copy is looked for: that many pictures are alike without being copies."""
BLOCK, NEIGHBOURS = 256, 8
HARMLESS_EXACT, HARMLESS = 0.002, 0.02
"""Copies are worth a warning above these shares of a split, the first for equal pictures, which are no coincidence, the
second for near ones too. Copies in the test set move the accuracy by at most their share; the 95 % interval of an
accuracy of 90 % on 10,000 pictures is ±0.6 %. Two classes of FashionMNIST have up to 0.5 % near copies,
and darkened to half 1.3 %."""
MIN_COPIES = 5
SEVERE_LEAK = 0.2
"""Above this share of copies the score of a split is no estimate for new pictures any more."""


@dataclass(frozen=True, eq=False)
class Copies:
    """All pairs of copies among the pictures of all splits, one split after the other.

    Attributes:
        pairs: Indices, the smaller first, int64 (pairs, 2).
        exact: Whether the two are equal in every pixel, bool (pairs,).
        group: Pictures that are copies of each other, also by a chain, have the same number, int64 (n,).
    """

    pairs: Tensor
    exact: Tensor
    group: Tensor


def find_copies(images: Tensor) -> Copies:
    """Find copies: equal, or alike after a shift, a little noise, brightness, contrast or compression.

    Args:
        images: uint8 (n, height, width), or (n, height, width, channels), whose near copies are looked for among their
            gray levels. Pictures of one flat colour are no copies of each other.
    """
    num, flat = len(images), images.flatten(1)
    blank = is_blank(images)
    keys = np.random.default_rng(0).integers(1, 1 << 62, flat.shape[1], dtype=np.int64)
    hashes = np.concatenate([part.numpy().astype(np.int64) @ keys for part in chunks(flat)])  # wraps around
    order = np.argsort(hashes, kind="stable")
    starts = np.concatenate([[True], np.diff(hashes[order]) != 0])
    first = np.empty(num, dtype=np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]  # the smallest index with the same hash
    copies = torch.from_numpy(np.flatnonzero((first != np.arange(num)) & ~blank.numpy()))
    equal = torch.stack([torch.from_numpy(first)[copies], copies], 1)
    kept = ~blank
    kept[copies] = False
    near = _near_pairs(gray(images), kept.nonzero().flatten())
    pairs = torch.cat([equal, near])
    exact = torch.arange(len(pairs)) < len(equal)
    graph = coo_matrix((np.ones(len(pairs)), pairs.T.numpy()), shape=(num, num))
    group = connected_components(graph, directed=False)[1]
    return Copies(pairs, exact, torch.from_numpy(group).long())


def _near_pairs(images: Tensor, chosen: Tensor) -> Tensor:
    """Pairs of near copies among the chosen pictures, as indices of all, (pairs, 2)."""
    if len(chosen) < 64:  # too few to know what is usual
        return torch.empty(0, 2, dtype=torch.int64)
    vectors = described(images[chosen])
    # strips by the first direction, within each sorted by the second: whoever is near is in the same or the next strip
    strip = (vectors[:, 0] / MAX_DISTANCE).floor().long()
    order = torch.from_numpy(np.lexsort((vectors[:, 1].numpy(), strip.numpy())))
    vectors, strip = vectors[order], strip[order].contiguous()
    limit = (NEAR * usual_distances(vectors)).clamp(max=MAX_DISTANCE).square()
    key, squares = vectors[:, 1].contiguous(), vectors.square().sum(1)
    found = [torch.empty(0, 2, dtype=torch.int64)]

    def compare(start: int, stop: int, first: int, end: int) -> None:
        squared = torch.addmm(squares[first:end], vectors[start:stop], vectors[first:end].T, alpha=-2)
        squared += squares[start:stop, None]
        if first == start:  # the block with itself: each pair once, and no picture with itself
            squared[:, : stop - start].masked_fill_(torch.ones(stop - start, stop - start).tril().bool(), torch.inf)
        rows = (squared.amin(1) < limit[start:stop]).nonzero().flatten()
        nearest = squared[rows].topk(min(NEIGHBOURS, end - first), dim=1, largest=False)
        left, column = (nearest.values < limit[start + rows, None]).nonzero(as_tuple=True)
        one, other = start + rows[left], first + nearest.indices[left, column]
        found.append(torch.stack([one, other], 1)[nearest.values[left, column] < limit[other]])

    for number in torch.unique_consecutive(strip).tolist():
        own_start, own_end, next_end = torch.searchsorted(
            strip, torch.tensor([number, number + 1, number + 2])
        ).tolist()
        for start in range(own_start, own_end, BLOCK):
            stop = min(start + BLOCK, own_end)
            low, high = key[start] - MAX_DISTANCE, key[stop - 1] + MAX_DISTANCE
            compare(start, stop, start, own_start + int(torch.searchsorted(key[own_start:own_end], high)))
            first, end = (own_end + int(torch.searchsorted(key[own_end:next_end], edge)) for edge in (low, high))
            if end > first:
                compare(start, stop, first, end)
    pairs = chosen[order[torch.cat(found)]]
    return pairs.sort(dim=1).values


def _different(indices: Tensor) -> int:
    return len(torch.bincount(indices.flatten()).nonzero())


def judge_copies(data: ExaminedData, copies: Copies) -> list[Illustrated]:
    """Judge the copies of `find_copies` by where they are and how they are labelled."""
    names = [name for name in SPLITS if name in data.splits]
    where = torch.repeat_interleave(torch.tensor([len(data.splits[name].labels) for name in names]))
    images = torch.cat([data.splits[name].images for name in names])
    labels = torch.cat([data.splits[name].labels for name in names])
    pairs, found = copies.pairs, []
    left, right = where[pairs].unbind(1)

    def shown(chosen: Tensor) -> list[Example]:
        examples = []
        for pair in pairs[chosen][:2]:
            for index in pair.tolist():
                caption = f"{names[int(where[index])]}\n{data.name_of(labels[index])}"
                examples.append(Example(images[index], caption))
        return examples

    def counted(chosen: Tensor) -> str:
        return f"{int((chosen & copies.exact).sum()):,} exact and {int((chosen & ~copies.exact).sum()):,} near"

    def harmful(chosen: Tensor, name: SplitName) -> bool:
        num = len(data.splits[name].labels)
        exact, either = _different(pairs[chosen & copies.exact, 1]), _different(pairs[chosen, 1])
        return either >= MIN_COPIES and (exact > HARMLESS_EXACT * num or either > HARMLESS * num)

    for number, name in enumerate(names[1:], 1):
        across = (right == number) & (left < number)
        copied = _different(pairs[across, 1])
        if copied:
            share = copied / len(data.splits[name].labels)
            others = "training" if number == 1 else "training or validation"
            sentence = (
                f"{copied:,} pictures of {name} ({share:.2%}) are copies of pictures of {others}, or as alike as "
                f"copies ({counted(across)} pairs): {name}'s score is too good by up to that share. Remove them "
                "from one of the two."
            )
            severity: Severity = "severe" if share > SEVERE_LEAK else "warning" if harmful(across, name) else "note"
            found.append(Illustrated(Finding("copies_across_splits", severity, sentence), shown(across)))
    for number, name in enumerate(names):
        within = (left == number) & (right == number)
        share = _different(pairs[within, 1]) / len(data.splits[name].labels)
        if share > 0:
            sentence = (
                f"{share:.2%} of {name} are copies of its other pictures, or as alike ({counted(within)} pairs), "
                "so it has fewer different examples than its size says."
            )
            severity = "warning" if harmful(within, name) else "note"
            found.append(Illustrated(Finding("copies", severity, sentence), shown(within)))
    conflict = labels[pairs[:, 0]] != labels[pairs[:, 1]]
    if data.class_names and conflict.any():
        share = _different(pairs[conflict]) / len(labels)
        sentence = (
            f"{int(conflict.sum()):,} pairs of copies have different labels ({counted(conflict)}, {share:.2%} of all "
            "pictures): at least one label of each pair is wrong."
        )
        severity = "warning" if share > HARMLESS_EXACT and conflict.sum() >= MIN_COPIES else "note"
        found.append(Illustrated(Finding("conflicting_labels", severity, sentence), shown(conflict)))
    return found
