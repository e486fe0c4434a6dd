"""The command line: help and refusals without torch, what was probably meant, completion, and the clock."""

import gc
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import rlgrad
import rlgrad.run
from rlgrad import cli
from rlgrad.errors import warn
from rlgrad.run.clock import running, seconds_since_start

ROOT = Path(rlgrad.__file__).parent.parent
HEAVY = ("torch", "numpy", "pydantic", "gymnasium", "yaml", "shtab")
LIGHT = (
    "import sys; from rlgrad.cli import main\ntry:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
)
LOADED = f"print([name for name in {HEAVY} if name in sys.modules]); sys.exit(code)"


def fresh(*words: str, cwd: Path) -> tuple[int, str, str, list[str]]:
    """A command in a process of its own: its exit code, what it prints, and which heavy modules it has imported."""
    code = LIGHT + LOADED
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    *printed, loaded = done.stdout.splitlines()
    return done.returncode, "\n".join(printed), done.stderr, json.loads(loaded.replace("'", '"'))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--help", "train as a config says"),
        ("--version", f"rlgrad {rlgrad.__version__}"),
        ("train --help", "--extend-to N"),
        ("search --help", "--trials N"),
        ("evaluate --help", "rlgrad evaluate runs/cartpole-1"),
        ("reproduce --help", "rlgrad reproduce runs/cartpole-1"),
        ("check --help", "rlgrad check CartPole-v1"),
        ("lesson --help", "rlgrad lesson --out"),
        ("schema --help", "rlgrad schema"),
        ("tags --help", "rlgrad tags"),
        ("completion --help", "rlgrad completion bash"),
    ],
)
def test_help_comes_without_torch_and_fits_the_terminal(tmp_path: Path, words: str, said: str) -> None:
    code, printed, err, loaded = fresh(*words.split(), cwd=tmp_path)
    assert (code, err, loaded) == (0, "", [])
    assert said in printed
    assert ("for example: rlgrad" in printed) == (words != "--version")
    assert max(map(len, printed.splitlines())) <= 80


def test_the_script_s_help_comes_without_torch(tmp_path: Path) -> None:
    script = f"import runpy, sys; sys.argv[0] = {str(ROOT / 'scripts' / 'train.py')!r}\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code = script + "except SystemExit as end:\n    code = end.code\n" + LOADED
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: rlgrad train --config" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "which command? train, sweep, search, evaluate"),
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("cartpole --seed 3", "did you mean rlgrad train --config cartpole --seed 3?"),
        ("--config cartpole", "did you mean rlgrad train --config cartpole?"),
        ("--config=cartpole", "did you mean rlgrad train --config=cartpole?"),
        ("--quiet train --config cartpole", "did you mean rlgrad train --quiet --config cartpole?"),
        ("--verison", "unknown option '--verison'; did you mean --version?"),
        ("evaluate", "RUN is missing; for example: rlgrad evaluate runs/cartpole-1"),
        ("evaluate cartpole-1", "cartpole-1: there is no run here (no config.yaml); did you mean runs/cartpole-1?"),
        ("evaluate runs/cartpole-1", "runs/cartpole-1: this run has not ended"),
        ("evaluate runs/cartpole-1 --foo", "unexpected argument '--foo'; for example: rlgrad evaluate"),
        ("reproduce cartpole-1", "did you mean runs/cartpole-1?"),
        ("completion dish", "invalid choice: 'dish'"),
        ("train", "which config? --config FILE, or a name: acrobot, bowl, "),
        ("train cartpole", "which config? did you mean --config cartpole?"),
        ("train --lr 0.1 CartPole-v1", "which config? did you mean --config cartpole?"),
        ("train -c cartpole.yaml", "which config? did you mean --config cartpole?"),
        ("train mine.yaml", "which config? did you mean --config mine.yaml?"),
        ("train runs/cartpole-1", "which config? did you mean --resume runs/cartpole-1?"),
        ("train --config", "--config: expected one argument; for example: rlgrad train --config cartpole"),
        ("train --config cartpol", "did you mean cartpole or ppo_cartpole?"),
        ("train --config cartpol --help", "did you mean cartpole or ppo_cartpole?"),
        ("train --config cartpole extra", "unexpected argument 'extra'"),
        ("train --config cartpole --updates", "--updates: a value is missing"),
        ("train --config cartpole --seed 1 2 3", "--seed 1 --replicas 3 trains 3 consecutive seeds side by side"),
        ("search", "which config?"),
        ("search --config cartpole --trials 0", "--trials: must be 1 or more"),
        ("train --resume auto", "--config NAME is missing"),
        ("train --resume cartpole-1", "did you mean runs/cartpole-1?"),
        ("train --config cartpole --extend-to 9", "an existing run: --resume RUN is missing"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused_without_torch_in_a_line_that_helps(tmp_path: Path, words: str, said: str) -> None:
    (tmp_path / "runs" / "cartpole-1").mkdir(parents=True)
    (tmp_path / "runs" / "cartpole-1" / "config.yaml").write_text("problem: reinforce\n")
    (tmp_path / "mine.yaml").write_text("")
    code, printed, err, loaded = fresh(*words.split(), cwd=tmp_path)
    assert (code, printed, loaded) == (2, "", [])
    assert err.startswith("rlgrad: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--lr 0.1", "--lr: unknown setting; did you mean --optimizer.lr?"),
        ("--optimizer.name SGD --momentum 0.9", "did you mean --optimizer.momentum?"),
        ("--maximize true", "--maximize: unknown setting; did you mean optimizer?"),  # not ours to suggest
        ("--hidden 8", "did you mean --policy.hidden or --critic.hidden?"),
        ("--optimizer adam", "did you mean --optimizer.name Adam?"),
        ("--optimizer adam --optimizer.lr 0.1", "did you mean --optimizer.name Adam?"),
        ("--optimizer.name adam", "did you mean Adam?"),
        ("--optimizer.name rmsprop", "did you mean RMSprop?"),
        ("--schedule cosineannealing", "did you mean --schedule.name CosineAnnealingLR?"),
        ("--schedule hyperbola", "did you mean --schedule.name Hyperbolic?"),
        ("--schedule zzz", "did you mean --schedule.name NAME?"),
        ("--device gpu", "--device: it is cpu, cuda or cuda:N (here: gpu)"),
        ("--updates=ten", "--updates: input should be a valid integer, in digits (here: ten)"),
        ("--updates ten", "--updates: input should be a valid integer, in digits (here: ten)"),
    ],
)
def test_a_wrong_setting_says_what_was_probably_meant(tmp_path, monkeypatch, capsys, words: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--config", "cartpole", *words.split()]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_in_a_file_what_was_meant_is_no_option(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("problem: reinforce\nenvironment: CartPole-v1\nupdates: 2\nlr: 0.1\noptimizer: {name: Adam}\n")
    assert cli.main(["train", "--config", str(config)]) == 2
    assert f"{config}:4: lr: unknown setting; did you mean optimizer.lr?" in capsys.readouterr().err


def test_the_commands_that_a_run_prints_work_as_printed(tmp_path, monkeypatch, capsys) -> None:
    """Also if its directory looks like an option."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--config", "bowl", "--updates", "2", "--out=-bowl"]) == 0
    printed = [line[line.index("rlgrad ") :] for line in capsys.readouterr().out.splitlines() if "rlgrad " in line]
    assert printed[-1] == "rlgrad report ./-bowl"
    for command in printed:
        assert cli.main(shlex.split(command)[1:]) == 0, command


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_completion_script_knows_commands_options_and_configs(tmp_path: Path, shell: str) -> None:
    code, printed, err, loaded = fresh("completion", shell, cwd=tmp_path)
    assert (code, err, loaded) == (0, "", ["shtab"])
    for word in ("reproduce", "extend-to", "breast_cancer_ascent"):
        assert word in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("rlgrad tr", {"train"}),
        ("rlgrad train --config cart", {"cartpole"}),
        ("rlgrad train --config mi", {"mine.yaml"}),
        ("rlgrad train --ext", {"--extend-to"}),
        ("rlgrad train --resume runs/", {"runs/cartpole-1"}),
        ("rlgrad evaluate ", {"runs/cartpole-1"}),
    ],
)
def test_bash_completes(tmp_path: Path, words: str, completed: set[str]) -> None:
    (tmp_path / "runs" / "cartpole-1").mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "rlgrad.bash").write_text(fresh("completion", "bash", cwd=tmp_path)[1])
    script = (
        "source rlgrad.bash; COMP_WORDS=(${1}); [[ $1 == *' ' ]] && COMP_WORDS+=(''); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); read -ra spec <<< $(complete -p rlgrad); "
        'for i in "${!spec[@]}"; do [[ ${spec[i]} == -F ]] && f=${spec[i + 1]}; done; '
        'current=${COMP_WORDS[COMP_CWORD]}; $f rlgrad "$current" "${COMP_WORDS[COMP_CWORD - 1]}"; '
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", script, "-", words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_clock_does_not_count_what_a_shell_did_before_it_became_python(tmp_path: Path) -> None:
    code = "from rlgrad.cli import BEGAN; import time; print(time.time() - (time.monotonic() - BEGAN), time.time())"
    launched = time.time()
    done = subprocess.run(
        ["bash", "-c", 'sleep 1.5; exec "$0" -c "$1"', sys.executable, code],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    began, imported = map(float, done.stdout.split())
    assert launched + 1.4 < began < imported


def test_a_clock_that_runs_goes_on_and_another_starts_anew() -> None:
    with running(since=time.monotonic() - 1000):
        with running():  # as `train` within the command
            assert seconds_since_start() >= 1000
        assert seconds_since_start() >= 1000
    with running():
        assert seconds_since_start() < 1000


def test_the_clock_starts_with_the_process_only_where_that_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[float] = []

    def train(*arguments: object, **options: object) -> SimpleNamespace:
        read.append(seconds_since_start())
        return SimpleNamespace(signal=None)

    monkeypatch.setattr(rlgrad.run, "train", train)
    monkeypatch.setattr(cli, "BEGAN", time.monotonic() - 10_000)
    monkeypatch.setattr(sys, "argv", ["rlgrad", "train", "--config", "cartpole"])
    assert cli.main() == 0
    assert cli.main(["train", "--config", "cartpole"]) == 0
    assert read[0] >= 10_000 > read[1]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_no_garbage_is_looked_for_while_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool, own: bool
) -> None:
    """A torch that says so. Of a process of our own it is out of the collector's way afterwards."""
    (tmp_path / "torch.py").write_text("import gc\nlooked_for = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch")
    before = gc.get_freeze_count()
    try:
        gc.enable() if enabled else gc.disable()
        cli.import_torch(own)
        assert gc.isenabled() is enabled
        assert (gc.get_freeze_count() > before + 10_000) is own
    finally:
        gc.enable()
        gc.unfreeze()
    assert sys.modules["torch"].looked_for is False


def test_an_environment_beside_the_reader_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The command that pip installs does not look into the working directory by itself."""
    (tmp_path / "found_here.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('FoundHere-v0', CartPoleEnv, max_episode_steps=7)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert cli.main(["check", "found_here:FoundHere-v0"]) == 0
    assert "7 steps, then truncated" in capsys.readouterr().out


def test_a_process_that_was_there_before_keeps_its_garbage_collector() -> None:
    code = (
        "import gc; from rlgrad.cli import main\n"
        "assert main(['tags']) == 0\n"
        "assert gc.isenabled() and gc.get_freeze_count() == 0\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, check=True)


def test_a_warning_is_one_line_without_colours(capsys: pytest.CaptureFixture) -> None:
    """As Gymnasium's are, which come in yellow and with a line of its own code."""
    warn("\x1b[33mWARN: The environment is out of date.\nUpgrade.\x1b[0m", UserWarning, "/somewhere/logger.py", 7)
    assert capsys.readouterr().err == "UserWarning: WARN: The environment is out of date. Upgrade. (logger.py:7)\n"
