"""Data sets for classifiers, as tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

BUNDLED = ("breast_cancer", "digits", "iris", "wine")  # scikit-learn carries these; nothing is downloaded


class Dataset(NamedTuple):
    """Training and held-out part of a data set."""

    x: Tensor  # [N, D] to learn from
    y: Tensor  # [N] class numbers 0 … K-1, as floats where K = 2 and as integers otherwise
    test_x: Tensor  # [M, D]
    test_y: Tensor  # [M]
    classes: int  # K


def load(name: str, *, test_fraction: float, split_seed: int, standardise: bool) -> Dataset:
    """One of the bundled data sets, split at random with every class in its proportion.

    standardise: mean 0 and deviation 1 in every feature, both measured on the training part alone.
    """
    import sklearn.datasets  # more than a second, so only where it is needed
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    features, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        features, labels, test_size=test_fraction, random_state=split_seed, stratify=labels
    )
    if standardise:
        scaler = StandardScaler().fit(x)
        x, test_x = scaler.transform(x), scaler.transform(test_x)
    classes = int(labels.max()) + 1
    numbers, kind = torch.get_default_dtype(), torch.get_default_dtype() if classes == 2 else torch.long
    return Dataset(
        torch.as_tensor(x, dtype=numbers),
        torch.as_tensor(y, dtype=kind),
        torch.as_tensor(test_x, dtype=numbers),
        torch.as_tensor(test_y, dtype=kind),
        classes,
    )
