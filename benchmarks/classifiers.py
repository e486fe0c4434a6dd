"""How fast classifiers reach the optimum, compared with scikit-learn, plain PyTorch, skorch and Lightning.

    python benchmarks/peers.py classifiers      # once: installs them into one environment
    python benchmarks/classifiers.py [--rounds 5] [--only digits breast_cancer 200000x100 1000000x50 minibatches]
        [--write]

Each contestant fits in a process of its own, and they take turns (see harness.py). A bisection first finds the effort
that each needs for 1e-6 (iterations, or the exponent of the tolerance); this is not timed. Then that fit is timed, from
arrays in memory to weights. On large data each may use one core or all, whichever is faster for it. Prints Markdown;
--write replaces the tables of docs/performance.md.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import harness
from harness import Contestant, Measured, alternate, column, ratios, run, say, spread, table
from peers import python_of

WORK = str(Path(__file__).with_name("classifier_fits.py"))
PEERS = python_of("classifiers")
OWN = Path(sys.executable)
SOLVERS = ("rlgrad", "newton-cholesky", "newton-cg", "lbfgs", "torch-lbfgs")  # liblinear has another objective
PROBLEMS = ("digits", "breast_cancer", "200000x100", "1000000x50")
LOOPS = {
    "rlgrad:1": "rlgrad, 1 replica",
    "rlgrad:8": "rlgrad, 8 replicas together",
    "torch:loader": "PyTorch, DataLoader",
    "torch:sampler": "PyTorch, DataLoader with BatchSampler",
    "torch:indexed": "PyTorch, indexing a permutation by hand",
    "skorch": "skorch",
    "lightning": "Lightning",
}


def python_for(name: str) -> tuple[Path, list[str]]:
    """The Python that runs a contestant, and the distributions that it needs."""
    needs = {"rlgrad": ["torch", "numpy"], "torch": ["torch"], "skorch": ["skorch"], "lightning": ["lightning"]}
    kind = name.split(":")[0].removesuffix("-lbfgs")
    peers = PEERS if PEERS.exists() or kind in ("skorch", "lightning") else OWN
    return OWN if kind == "rlgrad" else peers, needs.get(kind, ["scikit-learn"])


def contestant(task: str, name: str, folder: str, threads: int, effort: object = "-") -> Contestant:
    python, needs = python_for(name)
    environment = {"PYTHONPATH": str(Path(WORK).parent.parent)} if python == OWN else {}
    shown = f"{name}, {threads} thread{'s' * (threads > 1)}"
    return Contestant(shown, [WORK, task, name, folder, str(threads), str(effort)], python, needs, environment)


def fits(problem: str, folder: str, rounds: int) -> str:
    """The table of one problem."""
    run(Contestant(problem, [WORK, "data", problem, folder, "-", "optimum"]), 1200)
    cores = sorted({1, os.cpu_count() or 1}) if "x" in problem else [1]
    entered = []
    for name in SOLVERS:
        effort = int(run(contestant("search", name, folder, cores[-1]), 1200)["effort"])
        say(f"{problem}: {name} " + (f"is to go to {effort}" if effort else "does not come within 1e-6"))
        if effort:
            entered += [contestant("fit", name, folder, threads, effort) for threads in cores]
    measured = alternate(entered, rounds)
    best = fastest(measured)
    own = next(name for name in best if name.startswith("rlgrad"))
    rows = []
    for name in sorted(best, key=lambda name: spread(column(measured, name, "seconds")).median):
        seconds = spread(column(measured, name, "seconds")).text(lambda value: f"{value * 1e3:.3g}")
        beside = "" if name == own else ratios(measured, name, own, "seconds").text("{:.2f}".format)
        effort, gap = measured[name][0]["effort"], max(column(measured, name, "gap"))
        far = f"tolerance 1e-{effort:.0f}" if name == own and "x" in problem else f"{effort:.0f} iterations"
        rows.append([name, far, f"{gap:.1e}", seconds, beside])
    return table(["", "told to go", "gap", "milliseconds: median (range)", "times rlgrad's"], rows)


def fastest(measured: Measured) -> list[str]:
    """The fastest number of threads for each contestant."""
    best: dict[str, str] = {}
    for name in measured:
        kind = name.split(",")[0]
        if kind not in best or middle(measured, name) < middle(measured, best[kind]):
            best[kind] = name
    return list(best.values())


def middle(measured: Measured, name: str) -> float:
    return spread(column(measured, name, "seconds")).median


def minibatches(folder: str, rounds: int) -> str:
    """The table of epochs in minibatches of 256."""
    measured = alternate([contestant("epochs", name, folder, 1) for name in LOOPS], rounds)
    loader = "torch:loader, 1 thread"
    rows = []
    for name in measured:
        rate = spread(column(measured, name, "rate")).text(lambda value: f"{value:,.0f}")
        beside = "" if name == loader else ratios(measured, name, loader, "rate").text("{:.1f}".format)
        rows.append([LOOPS[name.split(",")[0]], rate, beside])
    return table(["", "examples a second: median (range)", "times DataLoader's"], rows)


def floor(folder: str) -> str:
    """The time of one pass compared with reading the data, in a sentence for each number of threads."""
    lines = []
    for threads in sorted({1, os.cpu_count() or 1}):
        found = run(contestant("floor", "rlgrad", folder, threads))
        lines.append(
            f"- {threads} thread{'s' * (threads > 1)}: reading the {found['bytes'] / 1e6:.0f} MB once takes "
            f"{found['read'] * 1e3:.1f} ms ({found['bytes'] / found['read'] / 1e9:.0f} GB/s); objective and gradient "
            f"{found['gradient'] * 1e3:.1f} ms, {found['gradient'] / found['read']:.1f} times that."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*PROBLEMS, "minibatches"], default=[*PROBLEMS, "minibatches"])
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    given = parser.parse_args()
    known = harness.versions(
        PEERS if PEERS.exists() else OWN, ["torch", "scikit-learn", "skorch", "lightning", "numpy"]
    )
    below = (
        f"Medians (lowest to highest) of {given.rounds} rounds. {harness.machine()}; rlgrad {harness.own_version()}; "
        f"peers: {harness.version_line(known)}."
    )
    for problem in given.only:
        with tempfile.TemporaryDirectory() as folder:
            if problem == "minibatches":
                run(Contestant("data", [WORK, "data", "200000x100", folder, "-", "-"]), 1200)
                text = minibatches(folder, given.rounds)
            else:
                text = fits(problem, folder, given.rounds)
                if "x" in problem:
                    text += f"\n\n{floor(folder)}"
        text += f"\n\n{below}"
        print(f"### {problem}\n\n{text}\n", flush=True)
        if given.write:
            harness.write(f"classifiers.py {problem}", text)
