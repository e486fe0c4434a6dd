"""What all benchmarks share: runs contestants in processes of their own, in turns, and makes Markdown tables.

A contestant is a command that prints one JSON object as its last line: names and measured numbers. Contestants take
turns round by round, so that a machine that becomes slower affects all of them, and a ratio is taken within a round.
This file needs only Python's standard library, so it runs in any environment.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contestant:
    """A command, and what it needs. It is left out, and named, if a distribution is missing."""

    name: str
    arguments: Sequence[str]  # for the Python that runs it
    python: Path = Path(sys.executable)
    needs: Sequence[str] = ()  # distributions; the table names their versions
    environment: Mapping[str, str] = field(default_factory=dict)  # variables added to those of this process


Measured = dict[str, list[dict[str, float]]]  # contestant -> what it measured in each round


def alternate(contestants: Sequence[Contestant], rounds: int, timeout: float = 600) -> Measured:
    """Run every contestant once in each round. Each round begins with another one. Progress goes to stderr.

    A contestant that is absent, fails or takes too long is named and left out from then on.
    """
    found: Measured = {}
    running = [contestant for contestant in contestants if is_present(contestant)]
    for turn in range(rounds):
        start = turn % max(1, len(running))
        for contestant in running[start:] + running[:start]:
            try:
                result = run(contestant, timeout)
            except (subprocess.SubprocessError, ValueError, IndexError) as error:
                say(f"{contestant.name}: left out: {reason(error)}")
                found.pop(contestant.name, None)
                running = [other for other in running if other is not contestant]
                continue
            found.setdefault(contestant.name, []).append(result)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
            say(f"round {turn + 1}/{rounds}  {contestant.name:32} {shown}")
    return {contestant.name: found[contestant.name] for contestant in running}


def run(contestant: Contestant, timeout: float = 600) -> dict[str, float]:
    """The numbers that a contestant prints; `process_seconds`, the time of its whole process; and `others`, the number
    of cores that the rest of the machine used meanwhile (NaN if the system does not say)."""
    environment = {**os.environ, **contestant.environment}
    with elapsed() as took:
        done = subprocess.run(
            [str(contestant.python), *contestant.arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
        )
    result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "process_seconds": took["seconds"], "others": took["others"]}


@contextlib.contextmanager
def elapsed() -> Iterator[dict[str, float]]:
    """The seconds of a `with` block, and the number of cores that other processes used in it."""
    took = {"seconds": 0.0, "others": float("nan")}
    began, busy, own = time.perf_counter(), busy_seconds(), own_seconds()
    yield took
    took["seconds"] = time.perf_counter() - began
    took["others"] = max(0.0, busy_seconds() - busy - (own_seconds() - own)) / took["seconds"]


def busy_seconds() -> float:
    """The core seconds that the whole machine has worked; NaN if there is no /proc/stat."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return float("nan")
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")  # all states but idle and waiting


def own_seconds() -> float:
    """The core seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def reason(error: Exception) -> str:
    """The reason why a contestant failed: the last line that it wrote, if any."""
    written = (getattr(error, "stderr", None) or "").strip().splitlines()
    return written[-1][:200] if written else " ".join(str(error).split())[:200]


def is_present(contestant: Contestant) -> bool:
    """Whether a contestant's Python and distributions are installed. Prints a line if they are not."""
    found = versions(contestant.python, contestant.needs)
    missing = [name for name in contestant.needs if name not in found]
    if missing:
        say(f"{contestant.name}: skipped, as {' and '.join(missing)} is not installed for {contestant.python}")
    return not missing


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of the distributions that are installed for a Python."""
    if not names:
        return {}
    if not Path(python).exists():
        return {}
    script = (
        "import importlib.metadata as m, json, sys; "
        "plain = lambda name: name.lower().replace('_', '-'); "  # the same distribution, however it is written
        "have = {plain(d.metadata['Name']): d.version for d in m.distributions()}; "
        "print(json.dumps({n: have[plain(n)] for n in sys.argv[1:] if plain(n) in have}))"
    )
    done = subprocess.run([str(python), "-c", script, *names], capture_output=True, text=True)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def say(line: str) -> None:
    """Print to stderr, so that stdout has only the tables."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Spread:
    """The median over rounds, and the lowest and highest value."""

    median: float
    low: float
    high: float

    def text(self, unit: Callable[[float], str] = "{:.3g}".format) -> str:
        return f"{unit(self.median)} ({unit(self.low)} to {unit(self.high)})"


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def column(measured: Measured, name: str, key: str) -> list[float]:
    """One number of one contestant in each round."""
    return [result[key] for result in measured[name]]


def ratios(measured: Measured, above: str, below: str, key: str) -> Spread:
    """The spread of the ratios above / below, taken within rounds."""
    return spread(a / b for a, b in zip(column(measured, above, key), column(measured, below, key), strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


PAGE = ROOT / "docs" / "performance.md"
WRITES = f"into {PAGE.relative_to(ROOT)}"


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Replace the text between the marks of this name on the page."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    old = page.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        sys.exit(f"{page} has no marks {begin.strip()} and {end.strip()}")
    page.write_text(old[: old.index(begin) + len(begin)] + text + old[old.index(end) :], encoding="utf-8")


def machine() -> str:
    """The machine of the measurements, in one line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def version_line(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def own_version() -> str:
    """The version and commit of rlgrad; 'dirty' if code or configs have uncommitted changes."""
    git = ["git", "-C", str(ROOT)]
    done = subprocess.run([*git, "describe", "--always"], capture_output=True, text=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "rlgrad", "benchmarks", "configs"]).returncode
    try:
        version = importlib.metadata.version("rlgrad")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version} ({done.stdout.strip()}{'-dirty' * changed})" if done.returncode == 0 else version
