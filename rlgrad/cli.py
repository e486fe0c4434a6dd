"""The command `rlgrad`; scripts/train.py is `rlgrad train`."""

import argparse
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

gc.disable()  # torch makes some hundred thousand objects that stay: there is no garbage to look for among them,
from rlgrad.errors import RunError, UsageError  # noqa: E402

gc.freeze()  # neither now nor each time that garbage is looked for later
gc.enable()

DONE, FAILED, USAGE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. The exit code: 0 done, 1 the run failed, 2 bad usage or config, 130 interrupted."""
    try:
        parser = make_parser()
        options, overrides = parser.parse_known_args(arguments)
        code: int = options.command(options, overrides)
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"rlgrad: {error}", file=sys.stderr)
        return USAGE
    except RunError as error:
        print(f"rlgrad: the run failed: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `rlgrad schema | head -1`
        from rlgrad.run.signals import silence

        silence(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"rlgrad: {error}", file=sys.stderr)
        return FAILED


def make_parser() -> Parser:
    parser = Parser(prog="rlgrad", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    train = commands.add_parser("train", help="train as a config says", allow_abbrev=False, add_help=False)
    train.add_argument("--config", metavar="FILE", help="a YAML file, or a name in configs/")
    train.add_argument("--resume", metavar="RUN", help="continue the run in this directory; auto: the config's newest")
    train.add_argument("--extend-to", type=int, metavar="N", help="with --resume: up to N updates in all")
    train.add_argument("--out", metavar="DIR", help="the run directory, instead of runs/<config>-<number>")
    train.add_argument("--allow-imports", action="store_true", help="let the config import modules, which runs code")
    train.add_argument("--wrong-sign", action="store_true", help="go against the objective, on purpose")
    train.add_argument("--profile", action="store_true", help="print where the time went, and write a trace of it")
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")
    train.add_argument("-h", "--help", action="store_true", help="show this, and with --config all its settings")
    train.set_defaults(command=train_command, parser=train)

    evaluate = commands.add_parser("evaluate", help="evaluate a trained model again", allow_abbrev=False)
    evaluate.add_argument("run", metavar="RUN", help="a run directory")
    evaluate.add_argument("--episode-seed", type=int, default=1, metavar="N", help="other held-out episodes for each N")
    evaluate.add_argument("--allow-imports", action="store_true", help="let its config import modules")
    evaluate.set_defaults(command=evaluate_command)

    reproduce = commands.add_parser("reproduce", help="run it again, and compare bit for bit", allow_abbrev=False)
    reproduce.add_argument("run", metavar="RUN", help="the directory of a completed run")
    reproduce.add_argument("--out", metavar="DIR", help="of the second run, instead of runs/<RUN>-again-<number>")
    reproduce.add_argument("--allow-imports", action="store_true", help="let its config import modules")
    reproduce.add_argument("--quiet", action="store_true", help="print nothing but the verdict")
    reproduce.set_defaults(command=reproduce_command)

    check = commands.add_parser("check", help="say what the suite sees of an environment", allow_abbrev=False)
    check.add_argument("environment", metavar="ENV", help="a Gymnasium id; package:ENV imports the package first")
    check.set_defaults(command=check_command)

    lesson = commands.add_parser("lesson", help="write a page: why ascent, why descent", allow_abbrev=False)
    lesson.add_argument("--out", metavar="FILE", default="why-ascent.html", help="the HTML page (why-ascent.html)")
    lesson.add_argument(
        "--markdown", metavar="FILE", help="the same as Markdown, with its pictures in a folder beside it"
    )
    lesson.set_defaults(command=lesson_command)

    schema = commands.add_parser("schema", help="print the JSON Schema of configs", allow_abbrev=False)
    schema.set_defaults(command=schema_command)
    tags = commands.add_parser("tags", help="print what each logged tag means", allow_abbrev=False)
    tags.set_defaults(command=tags_command)
    return parser


def refuse_leftovers(leftovers: Sequence[str]) -> None:
    if leftovers:
        raise UsageError(f"unexpected argument {leftovers[0]!r}")


def train_command(options: argparse.Namespace, overrides: list[str]) -> int:
    from rlgrad.config import load
    from rlgrad.run import resume, train
    from rlgrad.run.resuming import recorded_config
    from rlgrad.run.startup import spare_dynamo

    if options.help:
        options.parser.print_help()
        if options.config:
            print_settings(options.config)
        else:
            print("\nEvery setting of a config can be given as --setting value; --config FILE --help lists them.")
        return DONE
    spare_dynamo()
    overrides += ["--wrong_sign", "true"] if options.wrong_sign else []
    source = options.config
    if options.resume:
        if options.out:
            raise UsageError("--resume continues a run where it is: it takes no --out")
        if options.resume != "auto":
            recorded_config(Path(options.resume), options.allow_imports)
            source = source or (Path(options.resume) / "config.yaml" if overrides else None)
        config = load(source, overrides, options.allow_imports) if source else None
        asked = {"config": config, "extend_to": options.extend_to, "allow_imports": options.allow_imports}
        run = resume(options.resume, quiet=options.quiet, **asked)
    elif options.extend_to is not None:
        raise UsageError("--extend-to lengthens a run: --resume RUN, to say which, is missing")
    elif source:
        config = load(source, overrides, options.allow_imports)
        run = train(config, out=options.out, quiet=options.quiet, profile=options.profile)
    else:
        raise UsageError("which config? --config FILE, or a name: " + ", ".join(shipped()))
    return 128 + run.signal if run.signal else DONE


def shipped() -> list[str]:
    from rlgrad.config import SHIPPED

    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def print_settings(source: str) -> None:
    """All settings of a config: their values in it, and what they mean."""
    from rich.console import Console
    from rich.table import Table

    from rlgrad.config import load, settings_in
    from rlgrad.settings import Named, Section

    table = Table(title=f"settings of {source}", title_justify="left", box=None, pad_edge=False)
    for heading in ("setting", "value here", "meaning"):
        table.add_column(heading, no_wrap=heading == "setting")

    def rows(settings: Section, prefix: str) -> None:
        for name, field in type(settings).model_fields.items():
            value = getattr(settings, name)
            if settings_in(field.annotation) and value is not None:
                rows(value, f"{prefix}{name}.")
            else:
                table.add_row(f"--{prefix}{name}", str(value), field.description)
        for name, value in (settings.model_extra or {}).items():
            table.add_row(
                f"--{prefix}{name}", str(value), f"argument of {settings.name}" if isinstance(settings, Named) else ""
            )

    rows(load(source).settings, "")
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def evaluate_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    from safetensors.torch import load_file

    from rlgrad.config import Config, read
    from rlgrad.run.faults import attempt
    from rlgrad.run.observers.progress import number
    from rlgrad.run.statistics import summarize

    refuse_leftovers(leftovers)
    path = Path(options.run)
    if not (path / "config.yaml").is_file() or not (path / "model.safetensors").is_file():
        raise UsageError(f"{path}: not the directory of a run that has ended (no config.yaml and model.safetensors)")
    if options.episode_seed < 0:
        raise UsageError("--episode-seed: must be 0 or more")
    config = Config(*read(path / "config.yaml"), path.name, options.allow_imports)
    problem, _, _ = config.build()
    try:
        problem.model.load_state_dict(load_file(path / "model.safetensors"))
    except Exception as error:  # a damaged file: safetensors and torch raise what they like
        raise UsageError(f"{path}/model.safetensors cannot be used: {str(error).splitlines()[0]}") from error
    step = config.settings.updates + options.episode_seed
    for name, values in attempt(lambda: problem.evaluate(step), config.settings.update_seconds_limit).items():
        found = summarize(values.tolist())
        low, high = found["ci95"]
        interval = "" if low is None else f"  95% interval {low:.4g} to {high:.4g}  IQM {found['iqm']:.4g}"
        print(f"{name:20} {number(found['mean'])}{interval}")
    return DONE


def reproduce_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    from rlgrad.run.reproduction import reproduce
    from rlgrad.run.startup import spare_dynamo

    refuse_leftovers(leftovers)
    spare_dynamo()
    verdict = reproduce(options.run, out=options.out, quiet=options.quiet, allow_imports=options.allow_imports)
    print(verdict.sentence)
    return DONE if verdict.identical else FAILED


def check_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    import importlib

    from rlgrad.agents.check import report
    from rlgrad.errors import SettingError

    refuse_leftovers(leftovers)
    module, _, id = options.environment.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        found = report(id, {})
    except SettingError as error:
        raise UsageError(str(error)) from error
    except ImportError as error:
        raise UsageError(f"{module}: {error}") from error
    for name, text in found.items():
        print(f"{name:28}  {text}")
    return DONE


def lesson_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    from rlgrad.run.startup import spare_dynamo

    refuse_leftovers(leftovers)
    for file in (options.out, options.markdown):
        if file and not Path(file).absolute().parent.is_dir():
            raise UsageError(f"{file}: there is no directory {Path(file).parent}")
    spare_dynamo()
    from rlgrad.lesson import write

    try:
        write(Path(options.out), Path(options.markdown) if options.markdown else None)
    except OSError as error:
        raise UsageError(f"the page cannot be written: {error}") from error
    print(f"written: {options.out}" + (f" and {options.markdown}" if options.markdown else ""))
    return DONE


def schema_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    import json

    from rlgrad.config import schema

    refuse_leftovers(leftovers)
    print(json.dumps(schema(), indent=2))
    return DONE


def tags_command(options: argparse.Namespace, leftovers: list[str]) -> int:
    from rlgrad.run.tags import page

    refuse_leftovers(leftovers)
    print(page(), end="")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
