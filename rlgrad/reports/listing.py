"""Lists of runs, configs and environments, a line for each, without torch."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlgrad.errors import UsageError
from rlgrad.files import read_json
from rlgrad.usage import SHIPPED, shipped

ENDED = {"completed", "failed", "interrupted"}


def runs(folder: Path) -> Iterator[str]:
    """Yield the lines of a table of the runs in a folder, the newest first: status, result with its interval, age."""
    found = [path.parent for path in folder.glob("*/config.yaml")]
    if not found:
        raise UsageError(f"{folder}: there are no runs here; rlgrad train --config cartpole makes one")
    found.sort(key=lambda path: (path / "config.yaml").stat().st_mtime, reverse=True)
    rows = [("run", "status", "updates", "result", "age")]
    for path in found:
        summary = read_json(path / "summary.json")
        age = time.time() - (path / "config.yaml").stat().st_mtime
        status = summary.get("status") if summary.get("status") in ENDED else "not ended"
        rows.append((path.name, str(status), str(summary.get("updates", "")), result(summary), ago(age)))
    yield from aligned(rows)


def configs() -> Iterator[str]:
    """Yield a line for each config that comes with the package, with the first sentence of its comment."""
    rows = []
    for name in shipped():
        lines = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        comment = " ".join(line[2:] for line in lines if line.startswith("# ") and "$schema" not in line)
        rows.append((name, re.split(r"(?<=[.?]) ", comment)[0]))
    yield from aligned([("config", ""), *rows])


def environments() -> Iterator[str]:
    """Yield a line for each environment registered in Gymnasium, in its newest version."""
    import gymnasium as gym

    newest: dict[str, tuple[int, str]] = {}
    for id, spec in gym.registry.items():
        version = spec.version or 0
        newest[spec.name] = max(newest.get(spec.name, (-1, "")), (version, id))
    rows: list[tuple[str, ...]] = [("environment", "solved from", "episodes end after")]
    for _, id in sorted(newest.values(), key=lambda each: each[1]):
        spec = gym.registry[id]
        cells = (spec.reward_threshold, spec.max_episode_steps)
        rows.append((id, *("" if cell is None else f"{cell:g}" for cell in cells)))
    yield from aligned(rows)


def result(summary: Mapping[str, Any]) -> str:
    """The first metric of the evaluation as text: `return 499.9 (499.6 to 500)`; of a sweep its range."""
    key = next((key for key in summary if key.startswith("evaluation.")), "objective")
    found, name = summary.get(key), key.rpartition(".")[2].replace("_", " ")
    if not isinstance(found, dict) or not isinstance(found.get("mean"), int | float):
        return ""
    if swept := [mean for cell in summary.get("sweep", ()) if (mean := (cell.get(key) or {}).get("mean")) is not None]:
        return f"{name} {min(swept):.4g} to {max(swept):.4g} with {len(swept)} settings"
    low, high = found.get("ci95") or (None, None)
    interval = f" ({low:.4g} to {high:.4g})" if isinstance(low, int | float) and isinstance(high, int | float) else ""
    return f"{name} {found['mean']:.4g}{interval}"


def ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "just now" if seconds < 2 else f"{seconds:.0f} seconds"


def aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
