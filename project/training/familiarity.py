"""How far a picture is from all that a network was trained on, as its last hidden layer represents it.

    familiarity = fit_familiarity(module, datamodule)
    unlike = familiarity.distances(module, images) > familiarity.limit

A network names one of its classes for every picture. The distance says whether it has any reason to: Mahalanobis'
distance to the nearest mean (Lee et al. 2018, arXiv:1807.03888) between representations of length 1 (Mueller & Hein
2025, arXiv:2505.18032), with several means for each class, by k-means, because a class has several forms. Of the
distances of the literature that were tried, with networks of MNIST and of FashionMNIST, it alone found noise, letters
and faces alike; and it needs no training pictures later, as a nearest neighbour does (Sun et al. 2022,
arXiv:2204.06507).
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.datamodule import ImageDataModule
from project.data.loaders import EVALUATION_BATCH, spread_examples
from project.data.settings import SplitName
from project.training.module import ImageModule

UNLIKE_FRACTION = 0.05
"""The share of pictures like the validation set's that is called unlike them all the same: 1 in 20."""
MAX_EXAMPLES = 10_000
"""The maximum number of pictures of a split, evenly spread over it, that decide means and covariance, or the limit."""
MAX_MEANS = 10
"""The maximum number of means of a class."""
EXAMPLES_PER_MEAN = 20
"""A class has one mean for this many training pictures."""
MAX_UNITS = 1024
"""The maximum number of the representation's units, evenly spread, so that what is saved stays small."""


@dataclass(frozen=True)
class Familiarity:
    """What training pictures look like in the last hidden layer.

    Args:
        means: The means after whitening, float32 (means, units).
        whitening: What makes the common covariance around the means the identity, float32 (units, units).
        limit: The distance that 1 in 20 pictures like those of the validation set exceeds.
    """

    means: Tensor
    whitening: Tensor
    limit: float

    def distances(self, module: ImageModule, images: Tensor) -> Tensor:
        """Each picture's distance to the nearest mean, float32 (n,), on the CPU.

        Args:
            module: The network that this was fitted for, in evaluation mode.
            images: Levels 0–255, uint8 or float, (n, height, width) or (n, height, width, channels).
        """
        return torch.cdist(represent(module, images).float() @ self.whitening, self.means).amin(1)


def num_units(module: ImageModule) -> int:
    """How many units of a network's representation are looked at."""
    return min(module.network.output.in_features, MAX_UNITS)


@torch.no_grad()
def represent(module: ImageModule, images: Tensor) -> Tensor:
    """What the output layer sees of pictures, scaled to length 1: float64 (n, units) on the CPU."""
    seen = module.network.representation(module.normalization(images.to(module.device))).flatten(1).cpu().double()
    units = torch.linspace(0, seen.shape[1] - 1, num_units(module)).round().long()
    return F.normalize(seen[:, units])


def fit_familiarity(module: ImageModule, datamodule: ImageDataModule) -> Familiarity | None:
    """Fit means and covariance on training pictures, and the limit on the validation split.

    The limit is the quantile that holds for the next picture too (split conformal prediction, Papadopoulos et al.
    2002): with fewer than 19 validation pictures none is high enough.

    Args:
        module: The trained network.
        datamodule: The data that it was trained on.

    Returns:
        None if there are too few validation pictures, or if the network represents all training pictures alike.
    """
    num_held = min(len(datamodule.splits["validation"]), MAX_EXAMPLES)
    rank = math.ceil((num_held + 1) * (1 - UNLIKE_FRACTION))
    if rank > num_held:
        return None
    module.eval()
    seen, targets = _represent_split(module, datamodule, "train")
    groups = _clusters(seen, torch.zeros_like(targets) if module.task == "regression" else targets)
    means = torch.stack([seen[groups == group].mean(0) for group in range(int(groups.max()) + 1)])
    covariance = shrunk_covariance(seen - means[groups])
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        return None
    whitening = torch.linalg.inv(factor).T
    fitted = Familiarity((means @ whitening).float(), whitening.float(), math.inf)
    seen, _ = _represent_split(module, datamodule, "validation")
    distances = torch.cdist(seen.float() @ fitted.whitening, fitted.means).amin(1)
    return Familiarity(fitted.means, fitted.whitening, float(distances.sort().values[rank - 1]))


def _clusters(seen: Tensor, classes: Tensor) -> Tensor:
    """Clusters within each class, int64 (n,), numbered from 0; a regression's pictures are one class."""
    from scipy.cluster.vq import kmeans2  # late: the training needs no scipy

    found = torch.zeros(len(seen), dtype=torch.int64)
    for name in classes.unique():  # type: ignore[no-untyped-call]
        own = torch.nonzero(classes == name).flatten()
        num = min(max(len(own) // EXAMPLES_PER_MEAN, 1), MAX_MEANS)
        with warnings.catch_warnings():  # pictures that are alike: a cluster without any is no cluster
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            _, clusters = kmeans2(seen[own].numpy(), num, minit="++", seed=0)
        found[own] = torch.from_numpy(clusters).long() + MAX_MEANS * int(found.max() // MAX_MEANS + 1)
    groups: Tensor = torch.unique(found, return_inverse=True)[1]
    return groups


def shrunk_covariance(residuals: Tensor) -> Tensor:
    """The covariance of residuals, (n, units), drawn towards a multiple of the identity as far as their number advises.

    Source: oracle approximating shrinkage, Chen et al. 2010, arXiv:0907.4698, equation 23.
    """
    num, units = residuals.shape
    covariance = residuals.T @ residuals / num
    mean_square, mean_trace = covariance.square().mean(), covariance.trace() / units
    # numerator and denominator of the paper's, both divided by the square of the number of units
    above = mean_square + mean_trace.square()
    below = (num + 1) * (mean_square - mean_trace.square() / units)
    share = 1.0 if below == 0 else float((above / below).clamp(max=1))
    return (1 - share) * covariance + share * mean_trace * torch.eye(units, dtype=covariance.dtype)


def _represent_split(module: ImageModule, datamodule: ImageDataModule, split: SplitName) -> tuple[Tensor, Tensor]:
    """Representations (n, units) and targets (n,) of evenly spread pictures of a split, on the CPU."""
    batch = spread_examples(datamodule.evaluation_loader(split), MAX_EXAMPLES)
    seen = [represent(module, images) for images in torch.split(batch.images, EVALUATION_BATCH)]
    return torch.cat(seen), batch.targets.cpu()
