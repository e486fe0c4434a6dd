"""The commands that read runs or look at the machine. Each imports only what it needs."""

import argparse
import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgrad.completion import RUN, completes
from rlgrad.errors import UsageError
from rlgrad.usage import check_run, check_trained, whole

if TYPE_CHECKING:
    from collections.abc import Callable

UPDATE = "with the weights kept after N updates, or `best`, instead of the last"
FORMATS = (".png", ".svg", ".pdf")
NEEDED = {".gif": ("play", "PIL"), ".mp4": ("play", "imageio_ffmpeg"), ".onnx": ("export", "onnxscript")}
THINGS = ("runs", "configs", "environments")


def add_commands(commands: Any, add: "Callable[..., argparse.ArgumentParser]") -> None:
    """Add the parsers of these commands. add: `rlgrad.cli.add`, which makes the parser of one command."""
    report = add(commands, report_command, "write a page about a run, or compare several", "runs/cartpole-1")
    report.add_argument(
        "--to", metavar="FILE", help="the page, instead of report.html or comparison.html in the first run"
    )
    report.add_argument(
        "--slice",
        action="store_true",
        help="with the objective around what was found; a classifier or a point is trained again for that",
    )

    plot = add(commands, plot_command, "draw the curves of runs, for a paper", "runs/cartpole-1 --to curves.pdf")
    plot.add_argument("--to", metavar="FILE", help=f"a {', '.join(FORMATS)}, instead of curves.png in the first run")
    plot.add_argument("--tag", help="what to draw, such as objective/value; without it, the evaluation")
    plot.add_argument("--axis", choices=("step", "update", "seconds"), default="step", help="over what (step)")
    for parser in (report, plot):
        completes(parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of runs"), RUN)

    cut = add(commands, slice_command, "draw the objective around what a run has found", "runs/cartpole-1")
    cut.add_argument("--to", metavar="FILE", help="the picture, instead of slice.png in the run")
    cut.add_argument("--replica", type=whole, default=0, metavar="K", help="which, from 0 (0)")
    add_run(cut, "the directory of a run that has ended")

    add_for_models(commands, add)
    what = add(commands, list_command, "show runs, configs or environments", "runs")
    what.add_argument("what", metavar="WHAT", nargs="?", choices=THINGS, default="runs", help=", ".join(THINGS))
    what.add_argument("--in", dest="folder", metavar="DIR", default="runs", help="where the runs are (runs)")

    add(commands, doctor_command, "say what is installed, and what could be better", "")


def add_run(parser: argparse.ArgumentParser, help: str) -> None:
    """Add what a command takes that needs the config of a run."""
    completes(parser.add_argument("run", metavar="RUN", help=help), RUN)
    parser.add_argument("--allow-imports", action="store_true", help="let its config import modules")


def add_for_models(commands: Any, add: "Callable[..., argparse.ArgumentParser]") -> None:
    """Add the parsers of the commands that use a trained model."""
    play = add(commands, play_command, "watch a policy play, in a window or on film", "runs/cartpole-1 --to film.gif")
    play.add_argument("--to", metavar="FILE", help="a film: a .gif or .mp4, instead of a window")
    play.add_argument("--episodes", type=whole, default=1, metavar="N", help="how many (1)")
    play.add_argument("--seed", type=whole, default=0, metavar="N", help="of the first episode; the next has N + 1 (0)")
    play.add_argument("--sample", action="store_true", help="draw actions, instead of the most probable ones")
    predict = add(commands, predict_command, "predict the rows of a table", "runs/heart-1 new.csv --to found.csv")
    export = add(commands, export_command, "write a trained model as ONNX", "runs/cartpole-1 --to cartpole/model.onnx")
    export.add_argument("--to", metavar="FILE", required=True, help="the model; a README.md about it goes beside it")
    for parser in (play, predict, export):
        parser.add_argument("--replica", type=whole, metavar="K", help="which, from 0, instead of the best")
        parser.add_argument("--update", metavar="N", help=UPDATE)
        add_run(parser, "the directory of a run")

    predict.add_argument("table", metavar="TABLE", help="a file with the columns that the run has learned from")
    predict.add_argument("--out", dest="to", metavar="FILE", required=True, help="the predictions: a .csv or .parquet")


def report_command(options: argparse.Namespace) -> None:
    if options.slice and len(options.runs) > 1:
        raise UsageError("--slice: it is for a page about one run")
    for run in options.runs:
        check_run(run)
    to = Path(options.to or Path(options.runs[0]) / ("comparison.html" if len(options.runs) > 1 else "report.html"))
    writable(to)
    from rlgrad.reports.playing import film_of, returns_by_chance
    from rlgrad.reports.reading import read_runs
    from rlgrad.reports.report import Seen, write
    from rlgrad.reports.slices import cut

    runs, seen = read_runs(options.runs), Seen()
    if len(runs) == 1:
        path = runs[0].path
        seen = Seen(film_of(path), returns_by_chance(path), cut(path) if options.slice else None)
    write(runs, to, seen)
    print(f"written: {shlex.quote(str(to))}")


def plot_command(options: argparse.Namespace) -> None:
    for run in options.runs:
        check_run(run)
    to = picture(options.to or f"{options.runs[0]}/curves.png")
    plot(options.runs, to, options.tag, options.axis)
    print(f"written: {shlex.quote(str(to))}")


def plot(paths: Sequence[str], to: Path, told: str | None = None, axis: str = "step") -> None:
    """Write a picture of a tag of these runs; for a sweep also of its results. told: the tag; None: the evaluation."""
    from rlgrad.pages.drawing import style
    from rlgrad.reports.figures import curves, swept
    from rlgrad.reports.reading import read_runs

    runs = read_runs(paths)
    shared = [tag for tag in runs[0].tags if all(tag in run.tags for run in runs)]
    tag = told or next((tag for tag in shared if tag.startswith("evaluation/")), "objective/value")
    if tag not in shared:
        raise UsageError(f"--tag {tag}: not all runs have it; all have {', '.join(shared)}")
    with style():
        drawn = swept(runs, tag, axis) if runs[0].cell and len(paths) == 1 else None
        (drawn or curves(runs, tag, axis)).savefig(to, dpi=200, facecolor="white")


def writable(to: Path) -> None:
    if not to.absolute().parent.is_dir():
        raise UsageError(f"{to}: there is no directory {to.parent}")


def picture(name: str) -> Path:
    """The path of a picture. Raises UsageError if it cannot be written there."""
    to = Path(name)
    if to.suffix not in FORMATS:
        raise UsageError(f"{name}: the name must end in {' or '.join(FORMATS)}")
    writable(to)
    return to


def slice_command(options: argparse.Namespace) -> None:
    check_run(options.run)
    to = picture(options.to or f"{options.run}/slice.png")
    from rlgrad.pages.drawing import style
    from rlgrad.reports.slices import cut, draw

    found, what = cut(options.run, options.replica, options.allow_imports)
    with style():
        draw(found, what).savefig(to, dpi=200, facecolor="white")
    print(f"written: {shlex.quote(str(to))}")


def loaded(options: argparse.Namespace, suffixes: tuple[str, ...], kind: str = "") -> Any:
    """Load the trained model for play, predict or export. suffixes: the allowed endings of the file to write. kind: the
    kind that the command needs: "policy", "table", or any."""
    check_trained(options.run)
    if options.to and Path(options.to).suffix not in suffixes:
        raise UsageError(f"{options.to}: the name must end in {' or '.join(suffixes)}")
    from rlgrad.reports.loading import load
    from rlgrad.run import weights

    said = weights.read(weights.where(Path(options.run), options.update)).description or {}
    learned = said.get("form", {}).get("kind", "")
    if kind and learned and (learned == "policy") != (kind == "policy"):
        uses = "rlgrad play shows what it does" if learned == "policy" else "rlgrad predict uses it"
        raise UsageError(f"{options.run}: this run has learned a {learned}: {uses}")
    extra, module = NEEDED.get(Path(options.to or "").suffix, ("", "rlgrad"))
    if not importlib.util.find_spec(module):  # it is said before the best replica is looked for
        raise UsageError(f"{module} is not installed: pip install 'rlgrad[{extra}]'")
    return load(options.run, replica=options.replica, update=options.update, allow_imports=options.allow_imports)


def play_command(options: argparse.Namespace) -> None:
    if options.episodes < 1 or options.seed < 0:
        raise UsageError("--episodes must be 1 or more, and --seed 0 or more")
    if options.to:
        writable(Path(options.to))
    policy = loaded(options, (".gif", ".mp4"), "policy")
    from rlgrad.reports.playing import play

    for number, earned in enumerate(play(policy, options.to, options.episodes, options.seed, options.sample)):
        print(f"episode {number}: return {earned:.6g}")
    if options.to:
        print(f"written: {shlex.quote(options.to)}")


def predict_command(options: argparse.Namespace) -> None:
    if not options.to:
        raise UsageError("--out: it needs the name of a file")
    writable(Path(options.to))
    if Path(options.to).resolve() == Path(options.table).resolve():
        raise UsageError(f"--out {options.to} is the table itself: give the predictions another name")
    model = loaded(options, (".csv", ".parquet"), "table")
    from rlgrad.reports.predicting import predict
    from rlgrad.run.resuming import recorded_config

    settings = recorded_config(Path(options.run), options.allow_imports).settings
    rows = predict(model, settings, Path(options.table), Path(options.to))
    print(f"written: {shlex.quote(options.to)} ({rows:,} rows)")


def export_command(options: argparse.Namespace) -> None:
    model = loaded(options, (".onnx",))
    from rlgrad.reports.exporting import export
    from rlgrad.run.resuming import recorded_config

    run = Path(options.run)
    card = export(model, recorded_config(run, options.allow_imports), run, Path(options.to))
    print(f"written: {shlex.quote(options.to)} and {shlex.quote(str(card))}")


def list_command(options: argparse.Namespace) -> None:
    from rlgrad.reports import listing

    if options.what == "runs":
        lines = listing.runs(Path(options.folder))
    else:
        lines = listing.configs() if options.what == "configs" else listing.environments()
    print("\n".join(lines))


def doctor_command(options: argparse.Namespace) -> None:
    from rlgrad.reports.doctor import findings

    print("\n".join(findings()))
