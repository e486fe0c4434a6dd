"""How fast agents learn and play, compared with other libraries.

    python benchmarks/peers.py sb3 tianshou jax     # once: installs each into its own environment
    python benchmarks/agents.py [--rounds 3] [--only solved throughput environments replicas] [--write]

Each contestant runs in a process of its own, and they take turns (see harness.py). One that is not installed is skipped
and named. Prints Markdown; --write replaces the tables of docs/performance.md.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import harness
from harness import Contestant, Measured, Spread, alternate, column, ratios, run, say, spread, table
from peers import python_of

FOLDER = Path(__file__).resolve().parent / "contestants"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # small networks are faster with one thread
RLGRAD = "rlgrad"


def ours(name: str, *arguments: str) -> Contestant:
    return Contestant(name, [str(FOLDER / "ours.py"), *arguments], environment={"PYTHONPATH": str(harness.ROOT)})


def sb3(name: str, *arguments: str) -> Contestant:
    needs = ["stable-baselines3", "gymnasium", "torch"]
    return Contestant(name, [str(FOLDER / "sb3.py"), *arguments], python_of("sb3"), needs, ONE_THREAD)


def rejax(name: str, *arguments: str) -> Contestant:
    script = [str(FOLDER / "rejax_ppo.py"), *arguments]
    return Contestant(name, script, python_of("jax"), ["rejax", "gymnax", "jax"], {"JAX_PLATFORMS": "cpu"})


def tianshou(name: str, *arguments: str) -> Contestant:
    script = [str(FOLDER / "tianshou_reinforce.py"), *arguments]
    return Contestant(name, script, python_of("tianshou"), ["tianshou", "gymnasium", "torch"], ONE_THREAD)


def solved(rounds: int) -> str:
    """The time from the start of the process to a policy that solves CartPole from then on; each round is a seed."""
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(rounds):
            files = {name: str(Path(folder) / f"{number}-{seed}.npz") for number, name in enumerate(SOLVERS)}
            entered = [make(name, seed, files[name]) for name, make in SOLVERS.items()]
            turn = seed % len(entered)
            for name, [result] in alternate(entered[turn:] + entered[:turn], 1, timeout=1800).items():
                play = Contestant(name, [str(FOLDER / "play.py"), files[name], str(seed)])
                measured.setdefault(name, []).append({**result, **known(run(play, timeout=1800), result)})
                shown = "  ".join(f"{key} {value:.4g}" for key, value in measured[name][-1].items())
                say(f"seed {seed}  {name}: {shown}")
    rows = []
    for name in (name for name in SOLVERS if name in measured):
        of = [len(measured[name]), sum(math.isfinite(each) for each in column(measured, name, "stays_seconds"))]
        rows.append([
            name,
            in_words(measured, name, "stays_seconds", "{:.1f}"),
            beside(measured, name, RLGRAD, "stays_seconds"),
            f"{of[1]} of {of[0]}",
            in_words(measured, name, "stays_steps", "{:,.0f}"),
            in_words(measured, name, "first_seconds", "{:.1f}"),
            in_words(measured, name, "end_seconds", "{:.1f}"),
        ])  # fmt: skip
    head = ["", "solved for good: s", "times rlgrad's", "seeds", "env steps until then", "solved first: s"]
    return table([*head, "whole training: s"], rows) + below(measured, SOLVERS)


SOLVERS: Mapping[str, Callable[[str, int, str], Contestant]] = {
    RLGRAD: lambda name, seed, file: ours(name, "solved", str(seed), file),
    "Stable-Baselines3 PPO": lambda name, seed, file: sb3(name, "solved", "ppo", str(seed), file),
    "Stable-Baselines3 A2C": lambda name, seed, file: sb3(name, "solved", "a2c", str(seed), file),
    "Tianshou Reinforce": lambda name, seed, file: tianshou(name, "solved", str(seed), file),
    "Rejax PPO": lambda name, seed, file: rejax(name, "solved", str(seed), file),
}


def known(played: Mapping[str, float | None], trained: Mapping[str, float]) -> dict[str, float]:
    """The results of playing a contestant's snapshots, with infinity for never."""
    found = {key: math.inf if value is None else value for key, value in played.items()}
    return found | {key: trained[key] for key in ("process_seconds", "others")}


def throughput(rounds: int) -> str:
    """Environment steps per second on CartPole, including collection and update."""
    settings = ("--episodes", "64", "--updates", "24")
    entered = [
        ours(f"{RLGRAD}, {replicas} replica{'s' * (replicas > 1)}", "throughput", "cartpole", "--replicas",
             str(replicas), *settings)
        for replicas in (1, 8, 32)
    ]  # fmt: skip
    entered += [
        sb3("Stable-Baselines3 PPO", "throughput", "CartPole-v1"),
        rejax("Rejax PPO, 5 copies", "throughput", "5"),
        rejax("Rejax PPO, 64 copies", "throughput", "64"),
    ]
    measured = alternate(entered, rounds, timeout=1800)
    one = f"{RLGRAD}, 1 replica"
    rows = [
        [
            name,
            in_words(measured, name, "steps_per_second", "{:,.0f}"),
            in_words(measured, name, "with_log_per_second", "{:,.0f}") if name.startswith(RLGRAD) else "",
            in_words(measured, name, "length", "{:.0f}") if name.startswith(RLGRAD) else "",
            "" if name == one else beside(measured, one, name, "steps_per_second"),
        ]
        for name in measured
    ]
    head = ["", "steps a second", "log included", "steps an episode", f"{one} is so many times as fast"]
    return table(head, rows) + below(measured, [one.name for one in entered])


ENVIRONMENTS = ("Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0")


def environments(rounds: int) -> str:
    """Environment steps per second on three more environments."""
    rows, everything, names = [], {}, []
    for environment in ENVIRONMENTS:
        settings = ("--environment", environment, "--replicas", "1", "--episodes", "64", "--updates", "24")
        own, other = f"{RLGRAD} {environment}", f"Stable-Baselines3 PPO {environment}"
        entered = [ours(own, "throughput", "cartpole", *settings), sb3(other, "throughput", environment)]
        measured = alternate(entered, rounds, timeout=1800)
        everything |= measured
        names += [own, other]
        if len(measured) == len(entered):
            cells = [in_words(measured, name, "steps_per_second", "{:,.0f}") for name in (own, other)]
            length = in_words(measured, own, "length", "{:.0f}")
            rows.append([environment, *cells, beside(measured, own, other, "steps_per_second"), length])
    head = ["", "rlgrad: steps a second", "Stable-Baselines3 PPO's", "times as fast", "rlgrad's steps an episode"]
    return table(head, rows) + below(everything, names)


REPLICAS = {"1 replica": 1, "8 replicas": 8, "32 replicas": 32, "32 replicas, 2 threads": 32, "128 replicas": 128}


def replicas(rounds: int) -> str:
    """The seconds of the whole command until one agent, or several replicas, solve CartPole; and of importing torch."""
    torch = "import torch"
    entered = [Contestant(torch, ["-c", "import torch; print('{}')"])]
    for name, count in REPLICAS.items():
        entered.append(ours(name, "train", "--replicas", str(count), "--threads", "2" if "threads" in name else "1"))
    run(entered[1])  # so that the files are cached and compiled
    measured = alternate(entered, rounds, timeout=1800)
    imported = column(measured, torch, "process_seconds")
    rows = [[f"`{torch}`", in_words(measured, torch, "process_seconds", "{:.1f}"), "", "", "", ""]]
    for name in REPLICAS:
        until = column(measured, name, "solved_seconds")
        rows.append([
            name,
            in_words(measured, name, "process_seconds", "{:.1f}"),
            beside(measured, name, "1 replica", "process_seconds"),
            in_words(measured, name, "solved_seconds", "{:.1f}"),
            shown(spread(a / b for a, b in zip(until, imported, strict=True)), "{:.2f}"),
            in_words(measured, name, "megabytes", "{:,.0f}"),
        ])  # fmt: skip
    counts = list(REPLICAS.values())
    memory = [statistics.median(column(measured, name, "megabytes")) for name in REPLICAS]
    line = statistics.linear_regression(counts, memory)
    off = max(abs(line.intercept + line.slope * x - y) / y for x, y in zip(counts, memory, strict=True))
    says = (
        f"\n\nPeak memory is {line.intercept:.0f} MB and {line.slope:.1f} MB for each replica: no figure is further "
        f"than {off:.0%} from that line."
    )
    head = ["", "whole process: s", "times one replica's", "first solved: s", f"times `{torch}`", "peak memory: MB"]
    return table(head, rows) + says + below(measured, [one.name for one in entered])


def in_words(measured: Measured, name: str, key: str, unit: str) -> str:
    return shown(spread(column(measured, name, key)), unit)


def shown(found: Spread, unit: str) -> str:
    """The median as text, with the range if there are several rounds; infinity is shown as never."""

    def text(value: float) -> str:
        return unit.format(value) if value < math.inf else "never"

    return text(found.median) if found.low == found.high else found.text(text)


def beside(measured: Measured, above: str, below: str, key: str) -> str:
    """The ratio above / below, if both were measured in the same rounds."""
    if above == below or not {above, below} <= set(measured) or len(measured[above]) != len(measured[below]):
        return ""
    found = ratios(measured, above, below, key)
    return shown(found, "{:,.0f}" if found.median >= 20 else "{:.3g}")


def below(measured: Measured, entered: Iterable[str]) -> str:
    """The note under a table: missing contestants, rounds, machine, versions, and the machine's other load."""
    missing = [name for name in entered if name not in measured]
    rounds = max((len(results) for results in measured.values()), default=0)
    others = spread(result["others"] for results in measured.values() for result in results).text("{:.1f}".format)
    return (
        (f"\n\nLeft out, as absent or failed: {', '.join(missing)}." if missing else "")
        + f"\n\nMedian (lowest to highest) of {rounds} round{'s' * (rounds > 1)}; ratios within a round. "
        + f"{harness.machine()}; rlgrad {harness.own_version()}; {versions()}. "
        + f"Other processes kept {others} cores busy meanwhile."
    )


def versions() -> str:
    found = harness.versions(Path(sys.executable), ["torch", "gymnasium", "numpy"])
    for peer, names in (
        ("sb3", ["stable-baselines3"]),
        ("tianshou", ["tianshou"]),
        ("jax", ["jax", "rejax", "gymnax"]),
    ):
        found |= harness.versions(python_of(peer), names)
    return harness.version_line(found)


SECTIONS: Mapping[str, Callable[[int], str]] = {
    "solved": solved, "throughput": throughput, "environments": environments, "replicas": replicas
}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    given = parser.parse_args()
    for section in given.only:
        text = SECTIONS[section](given.rounds)
        print(f"### {section}\n\n{text}\n", flush=True)
        if given.write:
            harness.write(f"agents.py {section}", text)
