"""Files of weights: the tensors [R, ...] of a model, and the description needed to use it. Nothing is executed.

The format is safetensors. Its metadata holds JSON with the description and the digest of the tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from rlgrad import files
from rlgrad.errors import UsageError, short, text_of
from rlgrad.run.directory import dotted
from rlgrad.trainable import Trainable

LATER = ("preprocessing.decimal",)  # parts of a description that older versions did not save
NAME, INITIAL, KEPT, BEST = "model.safetensors", "initial.safetensors", "kept", "best"
WORDS = "rlgrad"  # the only key of the metadata, because safetensors does not keep the order of several


class Weights(NamedTuple):
    """The content of a file of weights."""

    path: Path
    tensors: dict[str, Tensor]  # [R, ...] each, by the names in the model
    description: dict[str, Any] | None  # what is needed to use them; None: a file of version 0.1, which has none
    update: int | list[int] | None  # the number of updates before; a list [R] if replicas differ


def save(path: Path, problem: Trainable, update: int | list[int], tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write the weights of the problem's model. tensors: other values to write instead, by name. Raises OSError."""
    from safetensors.torch import save

    found = {name: t.cpu().contiguous() for name, t in (tensors or problem.model.state_dict()).items()}
    words = {"update": update, "sha256": digest(found), "description": problem.description()}
    files.write(path, save(found, {WORDS: json.dumps(words, sort_keys=True)}))


def read(path: Path) -> Weights:
    """Read a file of weights. Raises UsageError if there is none, or if it was changed after it was written."""
    from safetensors import safe_open

    if not path.is_file():
        raise UsageError(f"{path}: there are no weights yet; a run has some after its first checkpoint")
    try:
        with safe_open(path, "pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        words = json.loads(metadata.get(WORDS, "{}"))
        description, update = words.get("description"), words.get("update")
        changed = description is not None and words["sha256"] != digest(tensors)
    except Exception as error:  # a damaged file can make safetensors raise anything
        raise UsageError(f"{path}: these are not weights of a run: {text_of(error)}") from error
    if changed:
        raise UsageError(f"{path}: it is damaged, or was changed after it was written: its checksum does not match")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UsageError(f"{path}: {name} is not finite: such a model cannot be used")
    return Weights(path, tensors, description, update)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors with their names, types and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def where(run: Path, update: int | str | None = None) -> Path:
    """The file with the last weights of a run, or with those of an earlier update. Raises UsageError."""
    if update is None:
        return run / NAME
    if (path := run / KEPT / f"{update}.safetensors").is_file():
        return path
    there = sorted((path.stem for path in (run / KEPT).glob("*.safetensors")), key=lambda name: (len(name), name))
    what = "the best evaluation" if update == BEST else f"update {update}"
    those = f"those of {', '.join(there)}, and the last" if there else "the last"
    raise UsageError(f"{run}: there are no weights of {what}, only {those}; the setting `keep` keeps more of a new run")


def fill(problem: Trainable, weights: Weights) -> None:
    """Load the weights of a run into its problem, built again from its config. Raises UsageError if they do not match:
    then the weights, the config, or what the config names has changed."""
    now = problem.description()
    check(weights, weights.description or now, now)
    try:
        problem.model.load_state_dict(weights.tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).partition(":")[2].split())[:200]
        raise UsageError(f"{weights.path} does not belong to the config beside it: {reason}") from error


def check(weights: Weights, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UsageError if the description of a model when it was saved differs from its description now."""
    if found := difference(then, now):
        raise UsageError(f"{weights.path}: the config, or what it names, was changed since these were written: {found}")


def begin_from(problem: Trainable, source: str | Path | None) -> None:
    """Begin with the weights of another run: a run directory, or a file of weights. If it has one replica, all replicas
    begin with it. None: change nothing. Raises UsageError if the weights do not fit."""
    if source is None:
        return
    if not Path(source).exists():
        raise UsageError(f"initial: {source}: there is no such run or file of weights")
    path = Path(source) if Path(source).is_file() else Path(source) / NAME
    own, described = problem.model.state_dict(), problem.description()
    try:
        found = read(path)
        tensors, description = found.tensors, found.description or described
        there, here = form(tensors, description), form(own, described)
        if there["categories"] is None:  # the file does not say which they were
            here["categories"] = None
        if differs := difference(there, here):
            raise ValueError(differs)
        if (count := replicas(tensors)) not in (1, replicas(own)):
            raise ValueError(f"it has {count} replicas, and must have {replicas(own)}, as here, or one")
        problem.begin_from({name: tensors[name].expand_as(own[name]).clone() for name in own}, description)
    except ValueError as error:
        raise UsageError(f"initial: {path} does not fit: {error}") from error
    except UsageError as error:
        raise UsageError(f"initial: {error}") from error


def replicas(tensors: Mapping[str, Tensor]) -> int:
    """The number of replicas of a model, from its tensors."""
    return max(len(tensor) for tensor in tensors.values() if tensor.ndim)


def form(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal in two runs so that the weights of one can be used in the other."""
    shapes = {name: list(tensor.shape[1:]) for name, tensor in tensors.items()}
    categories = description.get("preprocessing", {}).get("categories")
    return {**description.get("form", {}), "categories": categories, **shapes}


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first difference between two descriptions, as text; None if what both have is equal."""
    a, b = dotted(there), dotted(json.loads(json.dumps(here)))
    for key in [*b, *a]:
        if a.get(key) != b.get(key) and (key in a or key not in LATER):
            one, other = (short(json.dumps(each.get(key))) for each in (a, b))
            return f"{key} is {one} there, and {other} here"
    return None
