"""Wrong configs, as a user might write them: each must train, or be refused in one line without leaving a file.

    python checks/mutated.py [COUNT [SEED]]

Each is a shipped config with one to three changes: keys, values and their types, the text of the file, overrides. Most
are built in this process, and every hundredth is trained by a process of its own, for two updates. It prints each fault
with the seed and number that reproduce it, and its progress every 250 configs. Ctrl-C ends it after the present config,
with the same last line.
"""

import contextlib
import copy
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from rlgrad.cli import main
from rlgrad.errors import warn
from rlgrad.run import directory
from rlgrad.usage import SHIPPED

SECONDS = 60  # a config that takes longer counts as hanging
ALONE = 100  # every hundredth config is trained by a process of its own
SAID = 250  # configs between lines of progress
FILES = sorted(SHIPPED.glob("*.yaml"))
WORDS = """
~ true false yes no on 0 1 -1 2 3 010 0o10 0x10 1e-3 1e5 1e308 1e400 .inf -.inf .nan 1_000 9:30 2020-01-01 0.5 -0.0
10000000000 9223372036854775807 9223372036854775808 '99999999999999999999' '' "\\0" "\\x1b[31m" '[/b]' [] [1] [1,2] [-1]
[[1]] [a,b] {} {1:2} << - &a *a @a %d CartPole-v1 CartPole-v9 Adam adam LBFGS Newton Muon SparseAdam StepLR x**2 none
2**9**9**9 ../x.csv ~nobody/x.csv openml: cartpole critic a:b os:system "\\ud800" é 'null' learned whole [.nan] 3d
"""
VALUES = WORDS.split()
VALUES += ["a # b", "a: b", "{a: 1}", "{name: Adam}", "{name: 3}", "{lr: .nan}", "{1: 2}", "!!binary aGk=", "!!set {a}"]
VALUES += ["!!timestamp 2020-01-01", "!!int x", "x" * 5000, "[" * 3000, "9" * 5000, "{a: " * 30 + "1" + "}" * 30]
SETTINGS = """
replicas seed updates environment_options schedule box policy threads critic baseline discount returns segment imports
optimizer.lr optimizer.name optimizer.betas optimizer.momentum optimizer.amsgrad schedule.name schedule.gamma problem
schedule.step_size schedule.T_max schedule.max_lr policy.hidden policy.activation critic.learning_rate data label start
checkpoint.every_seconds entropy_bonus.coefficient environment test_fraction split_seed evaluation.episodes given order
on_divergence direction function observers simulator batch_size batch_growth l2 positive columns dtype max_gradient_norm
"""
KEYS = SETTINGS.split()
BITS = [*"{}[]\t\n\0#'\"%\xff\ufeff\u2028", "&a ", "*a", "- ", "!!python/object:os.system ", "<<: ", ": ", "---\n"]


class Begun(Exception):
    """Raised when the config is valid and built, instead of making the run directory."""


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested mappings and lists."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in inner for found in ((*path, key), *places(value, (*path, key)))]


def mutated(rng: random.Random) -> tuple[str, list[str]]:
    """The text of a changed config, and its overrides."""
    text = rng.choice(FILES).read_text(encoding="utf-8")
    data, marks, words = yaml.safe_load(text), {}, []
    where = rng.choice(["data", "data", "text", "words"])
    for number in range(rng.choice([1, 1, 2, 3])):
        if where == "words":
            words += rng.choice(
                [[f"--{rng.choice(KEYS)}", rng.choice(VALUES)], [f"--{rng.choice(KEYS)}={rng.choice(VALUES)}"]]
            )
        elif where == "text":
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice([*BITS, *VALUES]) + text[at + rng.choice([0, 1, 5, 10**4]) :]
        elif found := places(data):
            *path, last = rng.choice(found)
            holder = data
            for key in path:
                holder = holder[key]
            mark = f"mutated{number}"
            marks[mark] = rng.choice(VALUES)
            match rng.choice(["delete", "rename", "replace", "replace", "nest", "add"]):
                case "delete":
                    del holder[last]
                case "rename" if isinstance(holder, dict):
                    holder[rng.choice([f"{last}s", mark])] = holder.pop(last)
                case "nest":
                    holder[last] = copy.deepcopy(rng.choice([{"name": holder[last]}, [holder[last]]]))
                case "add":
                    data[rng.choice(KEYS).partition(".")[0]] = mark
                case _:
                    holder[last] = mark
    if where == "data":
        text = yaml.safe_dump(data, sort_keys=False)
        for mark, value in marks.items():
            text = text.replace(mark, value)
    return text, words


def fault(text: str, words: list[str], alone: bool = False) -> tuple[str, str | None]:
    """The result of a config in one word, and its fault, or None."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "config.yaml"), Path(folder, "run")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        command = ["train", "--config", str(file), "--out", str(out), *words]
        code, said = in_a_process(command, folder) if alone else in_this_process(command)
        said = re.sub(r"(?m)^\w*Warning: .*\n", "", said)  # warnings of libraries, each in one line
        left = sorted(path.name for path in Path(folder).iterdir())
        if code == "begun":
            return code, None
        if alone and code in (0, 1):
            whole = (out / "summary.json").is_file() and "Traceback" not in said
            return str(code), None if whole else f"exit code {code}, {left}: {said}"
        if code != 2 or not said.startswith("rlgrad: ") or said.count("\n") != 1 or not said[:-1].isprintable():
            return str(code), f"exit code {code}: {said}"
        return "refused", f"left {left}" if left != ["config.yaml"] else None


def in_this_process(command: list[str]) -> tuple[Any, str]:
    """Build a config in this process. Returns the exit code, "begun" or "traceback", and the output."""

    def ring(*_: Any) -> None:
        raise TimeoutError("it hangs")

    printed, claim, where = io.StringIO(), directory.claim, os.getcwd()
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    directory.claim = begun
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            warnings.showwarning = warn  # as in a process of its own
            return main(command), printed.getvalue()
    except Begun:
        return "begun", printed.getvalue()
    except BaseException:
        return "traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        directory.claim = claim
        os.chdir(where)


def begun(name: str, out: Any, here: Path) -> Path:
    raise Begun


def in_a_process(command: list[str], folder: str) -> tuple[Any, str]:
    """Train a config in a process of its own, for two updates at most. Returns the exit code and the output."""
    short = ["--updates", "2", "--evaluation.every_updates", "9"] if "--updates" not in " ".join(command) else []
    words = [sys.executable, "-m", "rlgrad", *command, *short, "--quiet"]
    try:
        ended = subprocess.run(words, capture_output=True, timeout=5 * SECONDS, check=False, cwd=Path(__file__).parent)
    except subprocess.TimeoutExpired:
        return "hang", "it hangs"
    return ended.returncode, ended.stderr.decode("utf-8", "replace")


def examine(count: int, seed: int, alone: int = ALONE, asked: Any = ()) -> tuple[Counter[str], list[str]]:
    """Try `count` configs. Returns how often each result came, and the faults. alone: every `alone`-th config gets a
    process of its own. asked: a list; the function ends as soon as it is not empty."""
    came, faults = Counter[str](), []
    for number in range(count):
        if asked:
            break
        text, words = mutated(random.Random(f"{seed} {number}"))
        outcome, wrong = fault(text, words, alone=bool(alone) and number % alone == alone - 1)
        came[outcome] += 1
        if wrong:
            faults.append(f"seed {seed}, number {number}, {' '.join(words)[:200]}\n{text[:1000]}\n{wrong[-1500:]}")
            print(faults[-1], flush=True)
        if (number + 1) % SAID == 0:
            print(f"{number + 1} of {count}: {dict(came)}; {len(faults)} faults", flush=True)
    return came, faults


if __name__ == "__main__":
    count, seed = (int(word) for word in (sys.argv[1:] + ["10000", "0"][len(sys.argv) - 1 :]))
    began, asked = time.monotonic(), list[int]()
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))  # no exception: code may catch it
    came, faults = examine(count, seed, asked=asked)
    print(
        f"seed {seed}: {came.total()} configs in {time.monotonic() - began:.0f} s: {dict(came)}; {len(faults)} faults"
    )
    sys.exit(128 + asked[0] if asked else bool(faults))
