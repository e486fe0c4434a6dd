"""The commands that read runs and the machine: `report`, `plot`, `list`, `doctor`. Each imports what it needs."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgrad.completion import RUN, completes
from rlgrad.errors import UsageError
from rlgrad.usage import check_run

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("png", "svg", "pdf")
THINGS = ("runs", "configs", "environments")


def add_commands(commands: Any, add: "Callable[..., argparse.ArgumentParser]") -> None:
    """add: makes the parser of a command, as rlgrad.cli has it."""
    report = add(commands, report_command, "write a page about a run, or compare several", "runs/cartpole-1")
    completes(report.add_argument("runs", metavar="RUN", nargs="+", help="directories of runs"), RUN)
    report.add_argument("--to", metavar="FILE", help="the HTML page, instead of report.html in the first run")

    plot = add(commands, plot_command, "draw the curves of runs, for a paper", "runs/cartpole-1 --to curves.pdf")
    completes(plot.add_argument("runs", metavar="RUN", nargs="+", help="directories of runs"), RUN)
    plot.add_argument("--to", metavar="FILE", default="curves.png", help=f"a file that ends in {', '.join(FORMATS)}")
    plot.add_argument("--tag", help="what to draw, such as objective/value; without it, the evaluation")
    plot.add_argument("--axis", choices=("step", "update", "seconds"), default="step", help="over what (step)")

    cut = add(commands, slice_command, "draw the objective around what a run has found", "runs/cartpole-1")
    completes(cut.add_argument("run", metavar="RUN", help="the directory of a run that has ended"), RUN)
    cut.add_argument("--to", metavar="FILE", default="slice.png", help="the picture (slice.png)")
    cut.add_argument("--replica", type=int, default=0, metavar="K", help="which one, counted from 0")
    cut.add_argument("--allow-imports", action="store_true", help="let its config import modules")

    what = add(commands, list_command, "show runs, configs or environments", "runs")
    what.add_argument("what", metavar="WHAT", nargs="?", choices=THINGS, default="runs", help=", ".join(THINGS))
    what.add_argument("--in", dest="folder", metavar="DIR", default="runs", help="where the runs are (runs)")

    add(commands, doctor_command, "say what is installed, and what could be better", "")


def report_command(options: argparse.Namespace) -> int:
    for run in options.runs:
        check_run(run)
    to = Path(options.to or Path(options.runs[0]) / "report.html")
    writable(to)
    from rlgrad.reports.reading import read_run
    from rlgrad.reports.report import write

    write([read_run(run) for run in options.runs], to)
    print(f"written: {shlex.quote(str(to))}")
    return 0


def plot_command(options: argparse.Namespace) -> int:
    to = picture(options.to)
    for run in options.runs:
        check_run(run)
    from rlgrad.pages.drawing import style
    from rlgrad.reports.figures import curves
    from rlgrad.reports.reading import read_run

    runs = [read_run(run) for run in options.runs]
    shared = [tag for tag in runs[0].tags if all(tag in run.tags for run in runs)]
    tag = options.tag or next((tag for tag in shared if tag.startswith("evaluation/")), "objective/value")
    if tag not in shared:
        known = ", ".join(shared)
        raise UsageError(f"--tag {tag}: not all of the runs have it; they have {known}")
    with style():
        curves(runs, tag, options.axis).savefig(to, dpi=200, facecolor="white")
    print(f"written: {shlex.quote(str(to))}")
    return 0


def writable(to: Path) -> None:
    if not to.absolute().parent.is_dir():
        raise UsageError(f"{to}: there is no directory {to.parent}")


def picture(name: str) -> Path:
    """Where a picture goes. Raises UsageError where it cannot."""
    to = Path(name)
    if to.suffix.removeprefix(".") not in FORMATS:
        raise UsageError(f"--to {name}: the file must end in {', '.join(f'.{each}' for each in FORMATS)}")
    writable(to)
    return to


def slice_command(options: argparse.Namespace) -> int:
    check_run(options.run)
    to = picture(options.to)
    from rlgrad.pages.drawing import style
    from rlgrad.reports.slices import cut, draw

    found, what = cut(options.run, options.replica, options.allow_imports)
    with style():
        draw(found, what).savefig(to, dpi=200, facecolor="white")
    print(f"written: {shlex.quote(str(to))}")
    return 0


def list_command(options: argparse.Namespace) -> int:
    from rlgrad.reports import listing

    match options.what:
        case "runs":
            lines = listing.runs(Path(options.folder))
        case "configs":
            lines = listing.configs()
        case _:
            lines = listing.environments()
    print("\n".join(lines))
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    from rlgrad.reports.doctor import findings

    print("\n".join(findings()))
    return 0
