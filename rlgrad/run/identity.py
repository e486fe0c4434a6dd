"""The identity of a run: its checkpoint holds the settings and the data, so that neither can change unnoticed."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rlgrad import distributed, ranks
from rlgrad.config import valid
from rlgrad.errors import SettingError, UsageError
from rlgrad.run import directory
from rlgrad.run.directory import dotted, dump
from rlgrad.run.following import Following
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable
from rlgrad.written import parse

MOVABLE = frozenset({"device", "workers"})  # a run may continue on another device, or with other workers
MOVED = MOVABLE | {"imports_from"}  # and a config file may be moved
# These settings may be changed in the config.yaml of a run: they change no update. docs/resume.md has this list too.
FREE = MOVED | {"checkpoint", "log_every_updates", "diagnose_every_updates", "update_seconds_limit"}
SHOWN = 10  # differences in one message, at most


def identity(run: Following) -> dict[str, Any]:
    """What a checkpoint holds of a run's identity: its settings as YAML, and what identifies its data."""
    return {"config": dump(run.settings), "data": dict(run.problem.identity())}


def trained_with(path: Path, saved: Mapping[str, Any], settings: FollowSettings) -> FollowSettings:
    """The settings with which a run reached its checkpoint. settings: those in its config now; they are returned if the
    checkpoint is of an old version without settings. Raises UsageError if the two differ in more than the length of the
    run and the settings in FREE."""
    text = saved.get("config")
    if text is None:
        return settings
    try:
        before = valid(type(settings), parse(str(text), path / "checkpoint.pt")[0])
    except SettingError as error:
        raise UsageError(f"{path}: its checkpoint has an invalid setting: {'.'.join(error.path)}: {error}") from error
    if changed := differences(before, settings, FREE, length=True):
        raise UsageError(f"{path}: its config.yaml is not what it was trained with: {changed}; restore it first")
    return before


def check_data(path: Path, saved: Mapping[str, Any] | None, problem: Trainable) -> None:
    """Raises UsageError if a problem's data is not the data of the checkpoint."""
    before, now = (saved or {}).get("data"), dict(problem.identity())
    if isinstance(before, dict) and (changed := listed({str(key): str(value) for key, value in before.items()}, now)):
        raise UsageError(f"{path}: its data is not what it was trained on: {changed}; restore it, or train again")


def check_alike(settings: FollowSettings, problem: Trainable) -> None:
    """Let all processes of a run begin with the parameters of the first. Raises UsageError if they would not train the
    same, or if the work cannot be shared."""
    if ranks.here.size == 1:
        return
    found = directory.environment(settings, problem)
    ours = {"config": settings.model_dump(), "packages": found["packages"], "arithmetic": found["arithmetic"]}
    ours |= {"python": found["python"], "data": dict(problem.identity())}
    distributed.check(problem.shares, dotted(ours), listed)
    distributed.begin_alike(problem.model)


def differences(old: FollowSettings, new: FollowSettings, free: Collection[str], length: bool) -> str:
    """The differences between two settings objects, as text. free: the names of settings that may differ. length:
    whether the run's length may differ, provided that no other setting depends on it."""
    a, b = (dotted(each.model_dump(exclude=set(free))) for each in (old, new))
    if length and not new.bound_to_updates():
        del a[new.counts], b[new.counts]
    return listed(a, b)


def listed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The differences as text: 'seed: 0 -> 1, optimizer.lr: 0.05 -> 1'; empty if all values and types are equal."""
    changed = [key for key in {**old, **new} if text(old.get(key)) != text(new.get(key))]
    shown = ", ".join(f"{key}: {change(old.get(key), new.get(key))}" for key in changed[:SHOWN])
    return shown + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")


def text(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)  # as JSON a tuple equals a list, and nan equals nan


def change(old: Any, new: Any) -> str:
    """'0 -> 1'; long values are shown from a little before their first difference."""
    a, b = (str(old), str(new)) if str(old) != str(new) else (text(old), text(new))
    part = next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, part - 20)
    return " -> ".join(("…" if start else "") + each[start : start + 60] for each in (a, b))
