"""Several processes that train one model together, started by torchrun: ranks, each with its share of the work.

Every rank draws the same random numbers as if it were alone, and takes its share: episodes, or the rows of a batch. The
results are summed, so that all ranks have the gradient of one process, take the same step, and have the same parameters
after it. The loop and the optimizers do not notice. With one process, none of this costs anything.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rlgrad.errors import OneLine, RunError, UsageError, printable
from rlgrad.ranks import here, own, share

SILENCE = 300.0  # the longest that a rank waits for another that is there and does not answer, in seconds
SIGNALS = 65
RESTARTS = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))  # how often torchrun has restarted these processes

Answer = TypeVar("Answer")


def summed(*parts: Tensor) -> list[Tensor]:
    """Return the sum over all ranks, part by part; for booleans, whether any rank has True."""
    if here.size == 1:
        return list(parts)
    result = list(parts)
    for kind in sorted({part.dtype for part in parts}, key=str):
        which = [number for number, part in enumerate(parts) if part.dtype == kind]
        flat = torch.cat([parts[number].detach().reshape(-1) for number in which])
        flat = flat.to(torch.uint8) if kind == torch.bool else flat
        with answering():
            torch.distributed.all_reduce(flat)
        values = flat.to(kind).split_with_sizes([parts[number].numel() for number in which])
        for number, sums in zip(which, values, strict=True):
            result[number] = sums.reshape(parts[number].shape)
    return result


def placed(part: Tensor, count: int, axis: int) -> Tensor:
    """Return this rank's part of `count` replicas or episodes, with zeros for the others: the sum over ranks is all."""
    result = part.new_zeros([*part.shape[:axis], count, *part.shape[axis + 1 :]])
    result.narrow(axis, share(count).start, part.shape[axis]).copy_(part)
    return result


def put_together(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return an array with the copies [N] on an axis: of each copy, the values of the rank that plays with it."""
    if here.size == 1:
        return array
    mine = own(array.shape[axis]).reshape(-1, *[1] * (array.ndim - axis - 1))
    return np.asarray(summed(torch.from_numpy(np.where(mine, array, np.zeros((), array.dtype))))[0].numpy())


def whole(parts: Sequence[Tensor | None], join: Callable[..., list[Tensor]] = summed) -> list[Tensor | None]:
    """Join the parts of all ranks, such as a gradient, by default to their sums; None stays None."""
    there = iter(join(*(part for part in parts if part is not None)))
    return [None if part is None else next(there) for part in parts]


def differentiated(value: Tensor, parameters: Iterable[nn.Parameter]) -> tuple[Tensor, list[Tensor | None] | None]:
    """Return an objective [R], of which each rank has a part, and its gradient. The gradient is None for
    one process, or without a graph."""
    if here.size == 1 or not value.requires_grad:
        return summed(value)[0], None
    of = list(parameters)
    trained = [parameter for parameter in of if parameter.requires_grad]
    found = dict(zip(trained, torch.autograd.grad(value.sum(), trained, allow_unused=True), strict=True))
    sum_of_all, *gradient = whole([value, *(found.get(parameter) for parameter in of)])
    assert sum_of_all is not None
    return sum_of_all.detach(), gradient


def averaged(means: dict[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
    """Return means [R] over the steps or examples of all ranks. means: of this rank. counted: [R] their number here."""
    if here.size == 1:
        return means
    looked = counted > 0
    count, *sums = summed(counted, *(torch.where(looked, mean * counted, 0.0) for mean in means.values()))
    return {name: each / count for name, each in zip(means, sums, strict=True)}


def anyone(signals: list[int]) -> list[int]:
    """Return the signals that any rank has received: then all ranks end after the same update."""
    if here.size == 1:
        return signals
    which = torch.tensor(signals, dtype=torch.int64, device="cpu")
    (sent,) = summed(torch.zeros(SIGNALS, device="cpu").index_fill(0, which, 1.0))
    return sent.nonzero().flatten().tolist()


def gathered(content: Any) -> list[Any]:
    """Return the content that each rank gives, in the order of the ranks."""
    if here.size == 1:
        return [content]
    result: list[Any] = [None] * here.size
    with answering():
        torch.distributed.all_gather_object(result, content)
    return result


def from_first(call: Callable[[], Answer]) -> Answer:
    """Return what `call` returns in the first rank, for all ranks. If it raises UsageError, all ranks raise it."""
    if here.size == 1:
        return call()
    answer, fault = None, None
    try:
        answer = call() if here.first else None
    except UsageError as error:
        fault = str(error)
    answer, fault = gathered((answer, fault))[0]
    if fault:
        raise UsageError(fault)
    found: Answer = answer
    return found


def check(shares: int, said: Mapping[str, str], listed: Callable[[Mapping[str, str], Mapping[str, str]], str]) -> None:
    """Raises UsageError if there is too little work to share, or if the ranks are not alike.

    said: what has to be the same in all ranks. listed: returns in words where two of these differ.
    """
    if here.size == 1:
        return
    first, *others = gathered(dict(said))
    for number, other in enumerate(others, 1):
        if changed := listed(first, other):
            raise UsageError(f"process {number} of {here.size} would train something else than the first: {changed}")
    if shares < here.size:
        what = f"of {shares} episodes or rows in an update" if shares else "of a problem that cannot be divided"
        raise UsageError(f"{here.size} processes cannot each have a share {what}: start fewer")


def begin_alike(model: nn.Module) -> None:
    """Give all ranks the parameters and buffers of the first."""
    if here.size > 1:
        for tensor in model.state_dict().values():
            with answering():
                torch.distributed.broadcast(tensor, 0)


@contextmanager
def answering() -> Iterator[None]:
    """Raises RunError if another rank does not answer in the body: with the error that it has left, if there is one."""
    try:
        yield
    except RuntimeError as error:
        what = "has ended, or hangs"
        with suppress(RuntimeError):
            what = f"has failed: {here.store.get('words').decode()}" if here.store.check(["words"]) else what
        raise RunError(f"another of the {here.size} processes {what}") from error


def place(wanted: str) -> torch.device:
    """Return the device of this rank. wanted: cpu, cuda:N, or cuda: one GPU for each rank, as far as there are enough.
    Raises UsageError if the GPU is missing."""
    if wanted == "cpu":
        return torch.device(wanted)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(wanted.partition(":")[2] or int(os.environ.get("LOCAL_RANK", "0")) % max(1, count))
    if number >= count:
        seen = f"GPUs up to cuda:{count - 1}" if count else "no GPU"
        raise UsageError(f"device: {wanted} is not available: torch {torch.__version__} sees {seen}; use --device cpu")
    return torch.device("cuda", number)


def backend(wanted: str) -> str:
    """Return what the ranks talk by: nccl for tensors on GPUs if each rank has its own GPU, and gloo for all others."""
    own = wanted == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if own and torch.distributed.is_nccl_available() else "gloo"


@contextmanager
def together(seconds: float | None, wanted: str = "cpu") -> Iterator[None]:
    """Join the ranks that torchrun has started, if it has. A rank that raises UsageError or RunError leaves its message
    for the others, and only the first rank that does so prints it (`OneLine.said`).

    seconds: how long a rank waits for another; SILENCE at most. wanted: the device, as for `place`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or here.size > 1:
        yield
        return
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, _ = next(rendezvous("env://"))
    here.groups += 1
    here.store = PrefixStore(f"rlgrad {RESTARTS} {here.groups}", store)
    limit = timedelta(seconds=min(seconds or SILENCE, SILENCE))
    distributed.init_process_group(backend(wanted), store=here.store, rank=rank, world_size=size, timeout=limit)
    here.rank, here.size, here.first = rank, size, rank == 0
    try:
        yield
    except OneLine as error:
        with suppress(RuntimeError):
            error.said = here.store.add("spoken", 1) > 1
            if not error.said:
                here.store.set("words", printable(str(error)))
        raise
    finally:
        here.rank, here.size, here.first = 0, 1, True
        distributed.destroy_process_group()
