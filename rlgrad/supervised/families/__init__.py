"""The distributions of labels, one file each: what a linear model's scores say of them."""

from rlgrad.supervised.families.family import Family
from rlgrad.supervised.families.gaussian import Gaussian
from rlgrad.supervised.families.logistic import Bernoulli
from rlgrad.supervised.families.multinomial import Categorical
from rlgrad.supervised.families.poisson import Poisson

__all__ = ["NUMERIC", "Family", "family_of"]

NUMERIC: dict[str, Family] = {"poisson": Poisson(), "gaussian": Gaussian()}  # whose labels are numbers
BINARY, MULTINOMIAL = Bernoulli(), Categorical()


def family_of(name: str, classes: int) -> Family:
    """The family that the setting names: logistic is Bernoulli's of two classes, and categorical of more."""
    return NUMERIC.get(name) or (BINARY if classes == 2 else MULTINOMIAL)
