"""Runs one contestant of classifiers.py, in a process of its own. Imports only what this contestant needs.

    python classifier_fits.py fit CONTESTANT FOLDER THREADS EFFORT      # seconds of one fit, and how far it got
    python classifier_fits.py search CONTESTANT FOLDER THREADS -        # the smallest EFFORT that comes within 1e-6
    python classifier_fits.py epochs CONTESTANT FOLDER THREADS -        # examples per second in minibatches of 256
    python classifier_fits.py floor - FOLDER THREADS -                  # what the machine and one pass can do
    python classifier_fits.py data NAME FOLDER - optimum                # writes x.npy, y.npy and optimum.json there

FOLDER/x.npy [N, D] and FOLDER/y.npy [N] are the problem. The objective is scikit-learn's over N, C = 1, intercept free:
mean log-loss + ||w||² / 2N. EFFORT is when the contestant stops: the number of iterations, or for rlgrad on large data
the exponent of its tolerance.
"""

import functools
import itertools
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

task, name, where, threads, effort = sys.argv[1:]
if threads != "-":  # set before any import that reads them
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = threads

import numpy as np  # noqa: E402

FOLDER = Path(where)
BATCH, EPOCHS, RATE = 256, 3, 0.1
CLOSE = 1e-6
FURTHEST = 2000  # iterations after which a solver is stopped
warnings.filterwarnings("ignore")


def synthetic(examples: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns of about unit variance (condition number of the covariance about 40) in single precision;
    labels from a logistic model whose best mean log-loss is near 0.19."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((examples, features), dtype=np.float32)
    factors = rng.standard_normal((examples, 5), dtype=np.float32)
    x = (x + factors @ rng.standard_normal((5, features), dtype=np.float32)) / np.float32(6**0.5)
    w = rng.standard_normal(features) * 6.0 / features**0.5
    p = 1 / (1 + np.exp(-(x @ w - 0.5)))
    return np.ascontiguousarray(x, dtype=np.float32), (rng.random(examples) < p).astype(np.int64)


def load(problem: str) -> tuple[np.ndarray, np.ndarray]:
    """digits (pixels 0 to 1), breast_cancer (standardised), or NxD for synthetic data; float32."""
    if "x" in problem:
        return synthetic(*(int(number) for number in problem.split("x")))
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{problem}")(return_X_y=True)
    x = x / 16 if problem == "digits" else (x - x.mean(0)) / x.std(0)
    return np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64)


def objective(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, chunk: int = 100_000) -> float:
    """The objective at weights [K, D] and intercepts [K], in double precision. K = 1 for two classes."""
    w, b, total = np.asarray(w, np.float64), np.asarray(b, np.float64), 0.0
    for i in range(0, len(x), chunk):
        z, labels = x[i : i + chunk].astype(np.float64) @ w.T + b, y[i : i + chunk]
        if len(w) == 1:
            total += np.logaddexp(0, z[:, 0]).sum() - z[labels == 1, 0].sum()
        else:
            top = z.max(1)
            total += (top + np.log(np.exp(z - top[:, None]).sum(1)) - z[np.arange(len(z)), labels]).sum()
    return float(total + 0.5 * (w**2).sum()) / len(x)


def optimum(x: np.ndarray, y: np.ndarray) -> float:
    """The lowest objective that scikit-learn's solvers reach in double precision, run until they converge."""
    from sklearn.linear_model import LogisticRegression

    x = x.astype(np.float64)
    fits = [LogisticRegression(solver=s, tol=1e-12, max_iter=5000).fit(x, y) for s in ("newton-cholesky", "newton-cg")]
    return min(objective(x, y, fit.coef_, fit.intercept_) for fit in fits)


Fit = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def fit_sklearn(solver: str, x: np.ndarray, y: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    import sklearn
    from sklearn.linear_model import LogisticRegression

    with sklearn.config_context(assume_finite=True):
        fit = LogisticRegression(solver=solver, tol=1e-12, max_iter=iterations, random_state=0).fit(x, y)
    return fit.coef_, fit.intercept_


def fit_torch(x: np.ndarray, y: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """torch.optim.LBFGS on nn.Linear, in the usual way."""
    import torch

    linear, loss_of, inputs, labels = torch_parts(x, y)
    optimizer = torch.optim.LBFGS(
        linear.parameters(), max_iter=iterations, max_eval=10 * iterations, history_size=10,
        line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip

    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(linear(inputs), labels) + linear.weight.square().sum() / (2 * len(x))
        loss.backward()
        return loss

    optimizer.step(closure)
    return linear.weight.detach().numpy(), linear.bias.detach().numpy()


def torch_parts(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """A linear model that starts at zero, its loss, and the data."""
    import torch
    from torch import nn

    binary = y.max() == 1
    linear = nn.Linear(x.shape[1], 1 if binary else int(y.max()) + 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    labels = torch.from_numpy(y).float()[:, None] if binary else torch.from_numpy(y)
    return linear, nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss(), torch.from_numpy(x), labels


def problem_of(x: np.ndarray, y: np.ndarray, **settings: Any) -> Any:
    """rlgrad's problem, on data that is in memory already."""
    import torch

    from rlgrad.problems.logistic import Logistic, Settings
    from rlgrad.supervised.data import Dataset

    classes = int(y.max()) + 1
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    labels = labels.float() if classes == 2 else labels
    given = Settings(data="memory.csv", optimizer={"name": "SGD"}, updates=1, **settings)
    return Logistic(given, Dataset(inputs, labels, inputs[:100], labels[:100], classes))


# A fit of large data begins with few examples, uses some of them for the curvature, and ends at a tolerance.
LARGE = {"batch_size": 8192, "batch_growth": 25.0, "curvature_examples": 25_000}
SMALL_RATE = 1.1  # for two classes: far from the optimum Newton's steps are too short


def fit_rlgrad(x: np.ndarray, y: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray]:
    """effort: iterations; on large data the exponent of the tolerance."""
    from rlgrad import make_optimizer, updates

    large = len(x) > 50_000
    problem = problem_of(x, y, l2=1 / len(x), **(LARGE if large else {}))
    until = {"tolerance": 10.0**-effort} if large else {"max_iter": effort, "tolerance": 0.0}
    way = {"solver": "cg"} if y.max() > 1 else {"solver": "direct", "lr": 1.0 if large else SMALL_RATE}
    optimizer = make_optimizer(problem, "Newton", **way, **until)
    for update in updates(problem, optimizer):
        if not large or update.metrics["batch/examples"][0] == len(x):
            break
    linear = problem.model.linear
    return linear.weight[0].detach().numpy().T, linear.bias[0, 0].detach().numpy()


FITS: dict[str, Fit] = {
    "rlgrad": fit_rlgrad,
    "torch-lbfgs": fit_torch,
    **{solver: functools.partial(fit_sklearn, solver) for solver in ("newton-cholesky", "newton-cg", "lbfgs")},
}


def prepared() -> tuple[Fit, np.ndarray, np.ndarray, float]:
    """The contestant, warmed up by a fit on a small part of the data; the problem; and its optimum."""
    x, y = np.load(FOLDER / "x.npy"), np.load(FOLDER / "y.npy")
    fit = FITS[name]
    if name in ("rlgrad", "torch-lbfgs"):
        import torch

        torch.set_num_threads(int(threads))
    fit(x[:2000], y[:2000], 2)
    return fit, x, y, json.loads((FOLDER / "optimum.json").read_text())


def search() -> dict[str, float]:
    """The smallest effort that brings a contestant within 1e-6 of the optimum, by bisection; 0 if none does."""
    fit, x, y, best = prepared()

    def enough(effort: int) -> bool:
        return objective(x, y, *fit(x, y, effort)) / best - 1 <= CLOSE

    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
        if high > (16 if name == "rlgrad" else FURTHEST):
            return {"effort": 0}
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return {"effort": high}


def measure_fit() -> dict[str, float]:
    """The seconds of one fit from scratch; for small problems, the median of several fits."""
    fit, x, y, best = prepared()
    seconds = []
    for _ in range(20 if len(x) < 10_000 else 1):
        began = time.perf_counter()
        w, b = fit(x, y, int(effort))
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "gap": objective(x, y, w, b) / best - 1, "effort": int(effort)}


def epochs_rlgrad(x: np.ndarray, y: np.ndarray, replicas: int) -> Iterator[int]:
    """Yield the number of examples seen after each epoch."""
    from rlgrad import make_optimizer, updates

    problem = problem_of(x, y, batch_size=BATCH, replicas=replicas)
    stream = updates(problem, make_optimizer(problem, "SGD", lr=RATE))
    while True:
        for _ in itertools.islice(stream, -(-len(x) // BATCH)):
            pass
        yield len(x) * replicas


def epochs_torch(x: np.ndarray, y: np.ndarray, feed: str) -> Iterator[int]:
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    linear, loss_of, inputs, labels = torch_parts(x, y)
    optimizer = torch.optim.SGD(linear.parameters(), lr=RATE)
    data = TensorDataset(inputs, labels)

    def indexed() -> Iterator[tuple[Any, Any]]:
        for rows in torch.randperm(len(x)).split(BATCH):
            yield inputs[rows], labels[rows]

    while True:
        if feed == "loader":
            batches: Any = DataLoader(data, batch_size=BATCH, shuffle=True)
        elif feed == "sampler":
            batches = DataLoader(data, sampler=BatchSampler(RandomSampler(data), BATCH, False), batch_size=None)
        else:
            batches = indexed()
        for inputs_now, labels_now in batches:
            optimizer.zero_grad()
            loss_of(linear(inputs_now), labels_now).backward()
            optimizer.step()
        yield len(x)


def measure_skorch(x: np.ndarray, y: np.ndarray) -> list[float]:
    """The seconds of each epoch, by skorch's own clock."""
    from skorch import NeuralNetBinaryClassifier
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(x.shape[1], 1)

        def forward(self, inputs: Any) -> Any:
            return self.linear(inputs).squeeze(-1)

    net = NeuralNetBinaryClassifier(
        Net, max_epochs=EPOCHS, lr=RATE, batch_size=BATCH, train_split=None, iterator_train__shuffle=True, verbose=0
    )
    net.fit(x, y.astype(np.float32))
    return list(net.history[:, "dur"])


def measure_lightning(x: np.ndarray, y: np.ndarray) -> list[float]:
    """The seconds of each epoch, between Lightning's hooks."""
    import logging

    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    linear, loss_of, inputs, labels = torch_parts(x, y)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.seconds = linear, []

        def on_train_epoch_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            self.seconds.append(time.perf_counter() - self.began)

        def training_step(self, batch: Any, number: int) -> Any:
            return loss_of(self.linear(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=RATE)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(inputs, labels), batch_size=BATCH, shuffle=True))
    return module.seconds


def measure_epochs() -> dict[str, float]:
    import torch

    torch.set_num_threads(int(threads))
    x, y = np.load(FOLDER / "x.npy"), np.load(FOLDER / "y.npy")
    if name in ("skorch", "lightning"):
        seconds = {"skorch": measure_skorch, "lightning": measure_lightning}[name](x, y)
        return {"rate": len(x) / statistics.median(seconds)}
    who, _, variant = name.partition(":")
    stream = epochs_rlgrad(x, y, int(variant)) if who == "rlgrad" else epochs_torch(x, y, variant)
    rates = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        rates.append(next(stream) / (time.perf_counter() - began))
    return {"rate": statistics.median(rates)}


def measure_floor() -> dict[str, float]:
    """The seconds to read x once (to sum it), the seconds of one objective with its gradient, and the bytes of each."""
    import torch

    torch.set_num_threads(int(threads))
    x, y = np.load(FOLDER / "x.npy"), np.load(FOLDER / "y.npy")
    problem = problem_of(x, y, l2=1 / len(x))
    inputs, batch = torch.from_numpy(x), problem.sample(0)

    def best(call: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(9):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    return {"read": best(inputs.sum), "gradient": best(lambda: problem.objective(batch)), "bytes": x.nbytes}


def write_data() -> dict[str, float]:
    x, y = load(name)
    np.save(FOLDER / "x.npy", x)
    np.save(FOLDER / "y.npy", y)
    if effort == "optimum":
        (FOLDER / "optimum.json").write_text(json.dumps(optimum(x, y)))
    return {"examples": len(x)}


if __name__ == "__main__":
    measures = {
        "search": search,
        "fit": measure_fit,
        "epochs": measure_epochs,
        "floor": measure_floor,
        "data": write_data,
    }
    print(json.dumps(measures[task]()))
