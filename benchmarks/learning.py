"""How well agents learn, over many seeds that were not used for tuning: docs/results.md.

    python benchmarks/learning.py [TASK ...] [--column reinforce natural ppo] [--seeds 20] [--tune] [--write]

Trains the tasks in benchmarks/learning/tasks.yaml, `--together` seeds side by side in one run. An interrupted run is
continued, and a completed one is not trained again: to train it again, delete its folder below runs/learning. If
several of these commands run at once, give each a core of its own, as `taskset -c 0` does: the numbers are the same.
The greedy policy is evaluated ten times during training and at each budget, in episodes whose seeds training does not
use. The policy at the end counts, never the best one before. The numbers are kept in
benchmarks/learning/results/TASK-COLUMN.json; --write makes the page of all results.

--tune trains the settings listed in benchmarks/learning/tuning.yaml instead, on seeds that the results do not use.
"""

import argparse
import functools
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from beside import THRESHOLDS, peers_table
from harness import ROOT, machine, own_version, table
from scipy import stats

FOLDER = Path(__file__).resolve().parent / "learning"
RESULTS, TUNING, PAGE = FOLDER / "results", FOLDER / "tuning", ROOT / "docs" / "results.md"
FIRST_SEED, FIRST_TUNING_SEED = 10_000, 500
COLUMNS = {"reinforce": "REINFORCE, no critic", "natural": "natural gradient", "ppo": "PPO"}
EPISODES = 20


@functools.cache
def asked() -> Mapping[str, Any]:
    return dict(yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8")))


def settings_of(task: str, column: str) -> dict[str, Any]:
    """The config of a task and a column (a way to learn)."""
    everything = asked()
    told = everything["tasks"][task]
    settings = everything["families"][told["family"]][column] | told.get("otherwise", {}).get(column, {})
    steps = told["budgets"][-1]
    filled = json.loads(json.dumps(settings).replace('"{steps}"', str(steps)))
    apart = {"environment": task, "steps": steps, "diagnose_every_updates": 10**6}
    return filled | apart | {"evaluation": {"episodes": EPISODES, "every_steps": steps // 10}}


def train(settings: Mapping[str, Any], name: str, first_seed: int, seeds: int, together: int) -> list[Path]:
    """Train the runs that are missing, and return all of them."""
    import torch

    import rlgrad

    torch.set_num_threads(1)
    runs = []
    for first in range(0, seeds, together):
        out = ROOT / "runs" / "learning" / f"{name}-{first}"
        own = {**settings, "seed": first_seed + first, "replicas": min(together, seeds - first)}
        if not (out / "config.yaml").exists():
            rlgrad.train(own, out=out)
        elif status(out) != "completed":
            rlgrad.resume(out, config=own)  # it refuses a run with other settings
        if status(out) != "completed":
            sys.exit(f"{out} was {status(out)}: the same command goes on with it")
        runs.append(out)
    return runs


def measure(task: str, column: str, seeds: int, together: int) -> None:
    """Train one line of the table, and save its numbers."""
    settings, name = settings_of(task, column), f"{task.replace('/', '-')}-{column}"
    found = numbers(train(settings, name, FIRST_SEED, seeds, together))
    about = {"task": task, "column": column, "first_seed": FIRST_SEED}
    measured = {"measured": f"{machine()}; rlgrad {own_version()}", "settings": settings}
    write_json(RESULTS / f"{name}.json", about | found | measured)


def tune(task: str, column: str, seeds: int, together: int) -> None:
    """Train the settings that tuning.yaml lists for this task, and save the returns of each."""
    tried = yaml.safe_load((FOLDER / "tuning.yaml").read_text(encoding="utf-8")).get(task, {}).get(column, [])
    name, found = f"{task.replace('/', '-')}-{column}", []
    for others in tried:
        settings = replaced(settings_of(task, column), others)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        runs = train(settings, f"tuning-{name}-{digest}", FIRST_TUNING_SEED, seeds, together)
        found.append({"tried": others} | numbers(runs))
        print(others, *np.mean(found[-1]["returns"], 0).round(1).tolist(), flush=True)
    if found:
        write_json(TUNING / f"{name}.json", found)


def replaced(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with other values for some dotted names."""
    result: dict[str, Any] = json.loads(json.dumps(settings))
    for name, value in others.items():
        *sections, last = name.split(".")
        functools.reduce(lambda inner, key: inner.setdefault(key, {}), sections, result)[last] = value
    return result


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content) + "\n")


def summary(run: Path) -> Mapping[str, Any]:
    file = run / "summary.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def status(run: Path) -> str:
    return str(summary(run).get("status", "cut off"))


def numbers(runs: Sequence[Path]) -> dict[str, Any]:
    """The numbers that are saved: the return of each seed at each evaluation."""
    curves, steps, seconds = [], [], 0.0
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found = [line for line in lines if "evaluation/return" in line]
        steps.append([line["step"] for line in found])
        curves += np.array([line["evaluation/return"] for line in found]).T.round(4).tolist()
        seconds += summary(run)["wall_seconds"]
    count = min(map(len, curves))
    mean = np.mean([each[:count] for each in steps], 0).round().astype(int)
    return {"steps": mean.tolist(), "returns": [curve[:count] for curve in curves], "seconds": round(seconds, 1)}


def number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(values: np.ndarray, of: Any) -> str:
    """The mean and its 95% interval as text, 'mean [low, high]', by resampling seeds (percentiles; Efron 1979)."""
    if np.ptp(values) == 0:
        return number(values[0])
    drawn = stats.bootstrap((values,), of, n_resamples=5000, method="percentile", rng=np.random.default_rng(0))
    low, high = drawn.confidence_interval
    return f"{number(of(values))} [{number(low)}, {number(high)}]"


def mean_interval(values: np.ndarray) -> str:
    """The mean and Student's interval of it."""
    if np.ptp(values) == 0:
        return number(values[0])
    low, high = reach(values)
    return f"{number(values.mean())} [{number(low)}, {number(high)}]"


def reach(values: np.ndarray) -> tuple[Any, Any]:
    """Both ends of Student's 95% interval of the mean over the first axis."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return values.mean(0) - half, values.mean(0) + half


def iqm(values: np.ndarray, axis: int = -1) -> Any:
    return stats.trim_mean(values, 0.25, axis=axis)


Found = Mapping[tuple[str, str], Mapping[str, Any]]  # results, by task and column


def rows_of(results: Found) -> Iterator[list[str]]:
    first = dict(reversed(results))
    for (task, column), found in results.items():
        told, name = asked()["tasks"][task], COLUMNS[column]
        steps, returns = np.array(found["steps"]), np.array(found["returns"])
        for budget in told["budgets"]:
            k = min(int(np.searchsorted(steps, budget)), len(steps) - 1)
            at = returns[:, k]
            last = budget == told["budgets"][-1]
            above = returns >= told["threshold"]
            stays = np.logical_and.accumulate(above[:, ::-1], 1)[:, ::-1]  # from here to the end
            solved = stays.any(1)
            when = np.median([steps[row.argmax()] for row in stays[solved]]) if solved.any() else None
            aim = told.get("aims", {}).get(budget)
            yield [
                task if column == first[task] and budget == told["budgets"][0] else "",
                name if budget == told["budgets"][0] else "",
                f"{budget:,}",
                mean_interval(at),
                interval(at, iqm),
                f"{number(at.min())} to {number(at.max())}",
                "" if aim is None else f"{number(aim)}: {'reached' if at.mean() >= aim else 'missed'}",
                f"{solved.sum()} of {len(solved)}" if last else "",
                (f"{when:,.0f}" if when is not None else "") if last else "",
                f"{found['seconds'] / len(returns):.1f}" if last else "",
            ]


def beside(found: Found) -> Iterator[list[str]]:
    """Yield published results of these tasks, and our results after at most as many steps."""
    from rlgrad.reports.published import published

    for task in dict.fromkeys(task for task, _ in found):
        for who, value, steps, source in published(task):
            cells = []
            for column in COLUMNS:
                ours = found.get((task, column), {"steps": [], "returns": []})
                count = int(np.searchsorted(ours["steps"], steps * 1.01, side="right"))  # an update may end a bit later
                at = np.array(ours["returns"])[:, count - 1] if count else np.array([])
                text = f"{mean_interval(at)} at {ours['steps'][count - 1]:,}" if count else ""
                cells.append(f"**{text}**" if count and at.mean() >= value else text)
            yield [task, f"[{who}]({source})", f"{value:,} at {steps:,}", *cells]


def results() -> Found:
    """The saved results, by task and column, in the order of tasks.yaml."""
    found = [json.loads(file.read_text()) for file in RESULTS.glob("*.json")]
    by_name = {(each["task"], each["column"]): each for each in found}
    if old := [" ".join(key) for key, each in by_name.items() if each["settings"] != settings_of(*key)]:
        sys.exit(f"tasks.yaml has other settings now than these were trained with: {', '.join(old)}")
    return {key: by_name[key] for key in itertools.product(asked()["tasks"], COLUMNS) if key in by_name}


def picture(found: Found) -> str:
    """The curves as SVG: the mean over seeds and its interval, for each task."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    from rlgrad.pages.drawing import FAINT, style, svg_file
    from rlgrad.reports.figures import COLOURS

    tasks = list(dict.fromkeys(task for task, _ in found))
    with style():
        figure = Figure(figsize=(9.6, 2.7 * -(-len(tasks) // 3)), layout="constrained")
        for number, task in enumerate(tasks, 1):
            axes = figure.add_subplot(-(-len(tasks) // 3), 3, number, title=task)
            axes.axhline(asked()["tasks"][task]["threshold"], color=FAINT, linewidth=1, linestyle="--")
            for column, colour in zip(COLUMNS, COLOURS, strict=False):
                if (task, column) in found:
                    returns = np.array(found[task, column]["returns"])
                    axes.plot(steps := found[task, column]["steps"], returns.mean(0), color=colour)
                    axes.fill_between(steps, *reach(returns), color=colour, alpha=0.2, linewidth=0)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(4))
        lines = [figure.axes[0].plot([], [], color=colour)[0] for colour in COLOURS[: len(COLUMNS)]]
        figure.supxlabel("environment steps", fontsize=10)
        figure.supylabel("return of the greedy policy", fontsize=10)
        figure.legend(lines, COLUMNS.values(), loc="outside upper center", ncols=len(COLUMNS))
    return svg_file(figure)


def page(found: Found) -> str:
    """The text of docs/results.md."""
    everything = asked()
    head = [
        "task",
        "",
        "steps",
        "mean [95%]",
        "IQM [95%]",
        "seeds",
        "aim",
        "solved and stays",
        "since step",
        "seconds a seed",
    ]
    text = (FOLDER / "page.md").read_text(encoding="utf-8")
    thresholds = ", ".join(f"{told['threshold']} on {task}" for task, told in everything["tasks"].items())
    on: dict[str, list[str]] = {}  # machine -> versions
    for where, version in sorted({tuple(each["measured"].rsplit("; ", 1)) for each in found.values()}):
        on.setdefault(where, []).append(version)
    measured = [f"{where}: {', '.join(versions)}" for where, versions in on.items()]
    others = table(["task", "who", "published", *COLUMNS.values()], list(beside(found)))
    filled = {"table": table(head, list(rows_of(found))), "thresholds": thresholds, "measured": "; ".join(measured)}
    limits = ", ".join(f"{threshold:,} on {task}" for task, threshold in THRESHOLDS.items())
    filled |= {"published": others, "limits": limits, "peers": peers_table()}
    for name, value in filled.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="as tasks.yaml has them; all of them by default")
    parser.add_argument("--column", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--together", type=int, default=10, help="seeds of one run")
    parser.add_argument("--tune", action="store_true", help="train the settings in tuning.yaml instead")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    tasks = list(asked()["tasks"])
    if unknown := set(given.tasks) - set(tasks):
        sys.exit(f"no task {', '.join(sorted(unknown))}; there are {', '.join(tasks)}")
    for task in given.tasks or ([] if given.write else tasks):
        for column in given.column:
            (tune if given.tune else measure)(task, column, given.seeds, given.together)
            print(task, column, "is there", flush=True)
    if given.write:
        found = results()
        PAGE.write_text(page(found), encoding="utf-8")
        PAGE.with_suffix(".svg").write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
