"""The command `rlgrad`; scripts/train.py is `rlgrad train`.

torch takes seconds to import, so help and errors in the command line come first. A command first checks its arguments,
then calls `import_torch`, and only then imports what it needs.
"""

import argparse
import importlib.util
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import rlgrad
from rlgrad import usage
from rlgrad.completion import CONFIG, RUN, SHELLS, completes, script
from rlgrad.errors import RunError, UsageError, numbered, say, settle, warn
from rlgrad.reports.commands import UPDATE, add_commands, add_run, plot, writable
from rlgrad.startup import import_torch
from rlgrad.usage import whole

if TYPE_CHECKING:
    from rlgrad.run import Run

    Commands = argparse._SubParsersAction["Parser"]

# When the interpreter started. The system only knows when the process started, which may have been a shell that slept
# before it became this program. So we subtract the CPU time used so far; time spent waiting, as for files, is left out.
BEGAN = time.monotonic() - time.process_time()

DONE, FAILED, USAGE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError with an example of correct use. commands: the parser of each command, by name."""

    commands: Mapping[str, "Parser"] = {}

    def error(self, message: str) -> NoReturn:
        missing = "the following arguments are required: "
        if message.startswith(missing):
            message = f"{message.removeprefix(missing)} is missing"
        raise UsageError(f"{message}; {self.epilog}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. The exit code: 0 done, 1 the run failed, 2 bad usage or config, 128 + the signal that ended it.

    arguments: the words of the command; None: those of the process's command line. Then the clock of a run starts with
    the process, and not with this call.
    """
    code, began = DONE, BEGAN if arguments is None else time.monotonic()
    try:
        if arguments is None:
            warnings.showwarning = warn
            if (asks := vars(signal).get("SIGUSR1")) and signal.getsignal(asks) is signal.SIG_DFL:
                signal.signal(asks, usage.too_early)
        with numbered():
            code = run_command(sys.argv[1:] if arguments is None else arguments, began)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        code = USAGE
        if not error.quiet:
            say(f"rlgrad: {error}")
    except RunError as error:
        code = FAILED
        if not error.quiet:
            say(f"rlgrad: the run failed: {error}")
    except KeyboardInterrupt as error:
        code = 128 + (error.args[0] if error.args else signal.SIGINT)
    except BrokenPipeError:  # `rlgrad schema | head -1`
        code = code or 128 + signal.SIGPIPE
    except OSError as error:
        code = code or FAILED
        say(f"rlgrad: {error}")
    settle(sys.stdout)
    settle(sys.stderr)
    return code


def run_command(words: Sequence[str], began: float) -> int:
    """Run the command that the words name; return the exit code. began: when a run's clock starts, time.monotonic()."""
    parser = make_parser()
    usage.check_first_word(words, list(parser.commands))
    options, leftovers = parser.parse_known_args(words)
    if leftovers and options.run_command not in (train_command, sweep_command, search_command):
        options.parser.error(f"unexpected argument {leftovers[0]!r}")
    options.overrides, options.began, options.own = leftovers, began, began == BEGAN
    return options.run_command(options) or DONE


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="rlgrad",
        description="One training loop, two directions: agents climb their return, classifiers walk down their loss.",
        epilog="for example: rlgrad train --config cartpole",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"rlgrad {rlgrad.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    add_train(commands)
    add_sweep(commands)
    add_search(commands)
    add_commands_for_runs(commands)
    add_commands(commands, add)

    check = add(commands, check_command, "say what rlgrad sees of an environment", "CartPole-v1")
    check.add_argument("environment", metavar="ENV", help="a Gymnasium id; package:ENV imports the package first")

    lesson = add(commands, lesson_command, "write a page: why ascent, why descent", "--out why-ascent.html")
    lesson.add_argument("--out", metavar="FILE", default="why-ascent.html", help="the HTML page (why-ascent.html)")
    lesson.add_argument("--markdown", metavar="FILE", help="the same as Markdown, its pictures in a folder beside it")

    add(commands, schema_command, "print the JSON Schema of configs, for editors", "> schema.json")
    add(commands, tags_command, "print what each logged tag means", "> tags.md")

    where = "bash >> ~/.bash_completion"
    completion = add(commands, completion_command, "print a script by which a shell completes commands", where)
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.commands = commands.choices
    return parser


def add(
    commands: "Commands", run: Callable[[argparse.Namespace], int | None], help: str, example: str, **more: Any
) -> Parser:
    """Add the parser of a command that a function runs: `train` for train_command. The function returns the exit code;
    None: done."""
    name = run.__name__.removesuffix("_command")
    more = {"description": f"{help[0].upper()}{help[1:]}."} | more
    epilog = f"for example: rlgrad {name} {example}"
    parser = commands.add_parser(name, help=help, epilog=epilog, allow_abbrev=False, **more)
    parser.set_defaults(run_command=run, parser=parser)
    return parser


def add_train(commands: "Commands") -> None:
    train = add(
        commands,
        train_command,
        "train as a config says",
        "--config cartpole --replicas 16 --optimizer.lr 0.01",
        add_help=False,
        usage="rlgrad train --config FILE [options] [--SETTING VALUE ...]\n       rlgrad train --resume RUN [options]",
        description="Train as a config says, and write a run directory. Any setting of the config can be replaced for "
        "one run, a nested one by its name with dots. With --config FILE, --help lists all of them.",
    )
    which = train.add_argument_group("what to train")
    completes(which.add_argument("--config", metavar="FILE", help="a YAML file, or a name in configs/"), CONFIG)
    resumed = which.add_argument("--resume", metavar="RUN", help="go on with this run; auto: the config's newest")
    completes(resumed, RUN)
    which.add_argument("--extend-to", type=whole, metavar="N", help="with --resume: up to N updates, or steps, in all")
    which.add_argument("--allow-imports", action="store_true", help="let the config import modules, which runs code")
    which.add_argument("--wrong-sign", action="store_true", help="go against the objective, on purpose")
    shown = train.add_argument_group("what it writes and shows")
    shown.add_argument("--out", metavar="DIR", help="the run directory, instead of runs/<config>-<number>")
    shown.add_argument("--profile", action="store_true", help="print where the time went, and write a trace of it")
    shown.add_argument("--quiet", action="store_true", help="print nothing but errors")
    shown.add_argument("-h", "--help", action="store_true", help="show this, and with --config all its settings")


def add_sweep(commands: "Commands") -> None:
    sweep = add(
        commands,
        sweep_command,
        "try several values of settings side by side, as replicas of one run",
        "--config cartpole --optimizer.lr 0.003 0.01 0.03 --replicas 8",
        usage="rlgrad sweep --config FILE --SETTING VALUE VALUE ... [options] [--SETTING VALUE ...]",
        description="Train with every value of the settings that are given several, and with every combination of "
        "them, side by side as one run; print what each came to, and draw it. --replicas says with how many seeds.",
    )
    add_options(sweep, "the run directory, instead of runs/<config>-<number>")


def add_search(commands: "Commands") -> None:
    search = add(
        commands,
        search_command,
        "try several values of settings one after the other, as Optuna chooses",
        "--config cartpole --episodes 16 32 64 --replicas 8 --trials 20",
        usage="rlgrad search --config FILE --SETTING VALUE VALUE ... [options]",
        description="Train with one value after the other of the settings that are given several, each time as a run "
        "of --replicas seeds, and run the best one again on fresh seeds. A range is written --SETTING "
        "'{search: {low: 8, high: 256, log: true}}'. The same command goes on with a search, and several at once share "
        "its trials.",
    )
    search.add_argument("--trials", type=whole, default=20, metavar="N", help="how many, by all workers together (20)")
    where = "the file of a journal, or a database's URL (journal.log in DIR)"
    search.add_argument("--storage", metavar="WHERE", help=where)
    add_options(search, "the search's directory, with a run for each trial, instead of runs/<config>-search")


def add_options(parser: Parser, out: str) -> None:
    completes(parser.add_argument("--config", metavar="FILE", help="a YAML file, or a name in configs/"), CONFIG)
    parser.add_argument("--allow-imports", action="store_true", help="let the config import modules, which runs code")
    parser.add_argument("--out", metavar="DIR", help=out)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_commands_for_runs(commands: "Commands") -> None:
    evaluate = add(commands, evaluate_command, "evaluate a trained model again", "runs/cartpole-1")
    evaluate.add_argument("--update", metavar="N", help=UPDATE)
    other = "other held-out episodes for each N"
    evaluate.add_argument("--episode-seed", type=whole, default=1, metavar="N", help=other)
    add_run(evaluate, "the directory of a run that has ended")

    reproduce = add(commands, reproduce_command, "run it again, and compare bit for bit", "runs/cartpole-1")
    reproduce.add_argument("--out", metavar="DIR", help="of the second run, instead of runs/<RUN>-again-<number>")
    add_run(reproduce, "the directory of a completed run")
    reproduce.add_argument("--quiet", action="store_true", help="print nothing but the verdict")


def train_command(options: argparse.Namespace) -> int:
    if options.config:
        usage.find(options.config)  # refuse a wrong name before torch is imported
    if options.help:
        options.parser.print_help()
        if options.config:
            import_torch(options.own)
            print_settings(options.config, options.allow_imports)
        return DONE
    check_train(options)
    import_torch(options.own)
    from rlgrad.run.clock import running

    with running(options.began):
        run = run_of(options)
    return 128 + run.signal if run.signal else DONE


def import_for(options: argparse.Namespace) -> None:
    """Check what does not depend on the config, then import torch. Raises UsageError."""
    if not options.config:
        raise usage.which_config(options.overrides)
    usage.find(options.config)
    usage.split_overrides(options.overrides)
    import_torch(options.own)


def search_command(options: argparse.Namespace) -> int:
    if options.trials < 1:
        raise UsageError("--trials: must be 1 or more")
    if not importlib.util.find_spec("optuna"):
        raise UsageError("a search needs Optuna, which is not installed: pip install 'rlgrad[sweep]'")
    import_for(options)
    from rlgrad.run.search import Search, Space

    space = Space(options.config, options.overrides, options.allow_imports)
    path = Path(options.out or Path("runs") / f"{space.name}-search")
    interrupted = Search(space, path, options.trials, options.storage, options.quiet)()
    return 128 + interrupted if interrupted else DONE


def sweep_command(options: argparse.Namespace) -> int:
    import_for(options)
    from rlgrad.config import with_sweeps
    from rlgrad.run import train
    from rlgrad.run.clock import running

    with running(options.began):
        config = with_sweeps(options.config, options.overrides, options.allow_imports)
        run = train(config, out=options.out, quiet=options.quiet)
    if run.signal:
        return 128 + run.signal
    to = run.directory / "sweep.png"
    plot([str(run.directory)], to)
    if not options.quiet:
        print(f"written: {shlex.quote(str(to))}")
    return DONE


def check_train(options: argparse.Namespace) -> None:
    """Raises UsageError for options that are wrong whatever the config says."""
    if options.resume and options.out:
        raise UsageError("--resume continues a run where it is: it takes no --out")
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and not (options.out or options.resume):
        raise UsageError("--max-restarts goes on with the run in a given directory: --out DIR is missing")
    if options.resume == "auto" and not options.config:
        raise UsageError("--resume auto goes on with the newest run of a config: --config NAME is missing")
    if options.resume and options.resume != "auto":
        usage.check_run(options.resume)
    if options.extend_to is not None and not options.resume:
        raise UsageError("--extend-to lengthens an existing run: --resume RUN is missing")
    if not options.resume and not options.config:
        raise usage.which_config(options.overrides)
    usage.split_overrides(options.overrides)


def run_of(options: argparse.Namespace) -> "Run":
    """Train a new run, or continue one."""
    from rlgrad.config import load_config
    from rlgrad.run import resume, train
    from rlgrad.run.resuming import recorded_config

    overrides = options.overrides + (["--wrong_sign", "true"] if options.wrong_sign else [])
    if not options.resume:
        config = load_config(options.config, overrides, options.allow_imports)
        return train(config, out=options.out, quiet=options.quiet, profile=options.profile)
    source = options.config
    if options.resume != "auto":
        recorded_config(Path(options.resume), options.allow_imports)
        source = source or (Path(options.resume) / "config.yaml" if overrides else None)
    asked = load_config(source, overrides, options.allow_imports) if source else None
    how: dict[str, Any] = {"quiet": options.quiet, "allow_imports": options.allow_imports}
    return resume(options.resume, config=asked, extend_to=options.extend_to, **how)


def print_settings(source: str, allow_imports: bool) -> None:
    """Print all settings of a config, with their values and meanings."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rlgrad.config import load_config
    from rlgrad.errors import printable
    from rlgrad.settings import Named, Section
    from rlgrad.written import as_written

    table = Table(title=Text(printable(f"settings of {source}")), title_justify="left", box=None, pad_edge=False)
    for heading in ("setting", "value here", "meaning"):
        table.add_column(heading, no_wrap=heading == "setting")

    def rows(settings: Section, prefix: str) -> None:
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, Section):
                rows(value, f"{prefix}{name}.")
            else:
                row(f"--{prefix}{name}", as_written(value), settings.meaning(name))
        for name, value in (settings.model_extra or {}).items():
            row(
                f"--{prefix}{name}",
                as_written(value),
                f"argument of {settings.name}" if isinstance(settings, Named) else "",
            )

    def row(*cells: str) -> None:
        table.add_row(*(Text(printable(cell)) for cell in cells))  # Text: a config must not be read as markup

    rows(load_config(source, allow_imports=allow_imports).settings, "")
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def evaluate_command(options: argparse.Namespace) -> None:
    path = Path(options.run)
    usage.check_trained(options.run)
    if options.episode_seed < 0:
        raise UsageError("--episode-seed: must be 0 or more")
    import_torch(options.own)
    from rlgrad.reports.loading import evaluate
    from rlgrad.run.resuming import recorded_config
    from rlgrad.run.statistics import interval, number

    config = recorded_config(path, options.allow_imports)
    with config.importing():
        evaluated = evaluate(config, path, options.update, options.episode_seed)
    width = max(20, *map(len, evaluated))
    for name, found in evaluated.items():
        between = f"  95% interval {interval(found)}  IQM {number(found['iqm'])}" if interval(found) else ""
        print(f"{name:{width}} {number(found['mean'])}{between}")


def reproduce_command(options: argparse.Namespace) -> int:
    usage.check_run(options.run)
    import_torch(options.own)
    from rlgrad.run.clock import running
    from rlgrad.run.reproduction import reproduce

    with running(options.began):
        verdict = reproduce(options.run, out=options.out, quiet=options.quiet, allow_imports=options.allow_imports)
    print(verdict.sentence)
    return DONE if verdict.identical else FAILED


def check_command(options: argparse.Namespace) -> int:
    import_torch(options.own)
    import importlib

    from rlgrad.agents.check import report, sound
    from rlgrad.errors import SettingError, blame, strange

    module, _, id = options.environment.rpartition(":")
    try:
        if module:
            sys.path.append(str(Path().absolute()))  # as for the imports of a config
            importlib.import_module(module)
        found = report(id, {})
    except SettingError as error:
        raise UsageError(str(error)) from error
    except BaseException as error:
        if not strange(error):
            raise
        raise UsageError(f"{module}: {blame(error)}") from error
    for name, text in found.items():
        print(f"{name:28}  {text}")
    return DONE if sound(found) else FAILED


def lesson_command(options: argparse.Namespace) -> None:
    files = [Path(file) for file in (options.out, options.markdown) if file]
    for file in files:
        writable(file)
    import_torch(options.own)
    from rlgrad.lesson import write

    try:
        write(*files)
    except OSError as error:
        raise UsageError(f"the page cannot be written: {error}") from error
    print(f"written: {options.out}" + (f" and {options.markdown}" if options.markdown else ""))


def schema_command(options: argparse.Namespace) -> None:
    import_torch(options.own)
    import json

    from rlgrad.config import schema

    print(json.dumps(schema(), indent=2))


def tags_command(options: argparse.Namespace) -> None:
    import_torch(options.own)
    from rlgrad.run.tags import page

    print(page(), end="")


def completion_command(options: argparse.Namespace) -> None:
    print(script(make_parser(), options.shell))


if __name__ == "__main__":
    sys.exit(main())
