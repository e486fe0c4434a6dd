"""The distributions of labels, given the scores of a linear model: one file for each."""

from rlgrad.supervised.families.family import Family
from rlgrad.supervised.families.gaussian import Gaussian
from rlgrad.supervised.families.logistic import Bernoulli
from rlgrad.supervised.families.multinomial import Categorical
from rlgrad.supervised.families.poisson import Poisson

__all__ = ["NUMERIC", "Family", "family_of"]

NUMERIC: dict[str, Family] = {"poisson": Poisson(), "gaussian": Gaussian()}  # families whose labels are numbers
BINARY, MULTINOMIAL = Bernoulli(), Categorical()


def family_of(name: str, classes: int) -> Family:
    """The family of that name: logistic is Bernoulli for two classes, and categorical for more."""
    return NUMERIC.get(name) or (BINARY if classes == 2 else MULTINOMIAL)
