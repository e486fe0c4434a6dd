"""Shows a run to its user, while it goes on and at its end."""

import math
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rlgrad.errors import say
from rlgrad.files import in_command
from rlgrad.loop import Direction, Update
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.state import unit
from rlgrad.run.statistics import COLUMNS, columns, interval, number

NEXT = {"evaluate": "evaluate it:", "play": "watch it play:"}
ROWS = 12  # of a table that is shown, at most
LINES = 10  # how many lines a run prints if the output is not a terminal
SHOWN = 25  # values of a sweep in a table, at most


class Output:
    """Standard output. If it cannot be written to any more, it drops the text and sets `gone`."""

    gone = False

    def __init__(self) -> None:
        self.stream = sys.stdout

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> None:
        self._do(self.stream.write, text)

    def flush(self) -> None:
        self._do(self.stream.flush)

    def _do(self, act: Callable[..., Any], *arguments: Any) -> None:
        try:
            if not self.gone:
                act(*arguments)
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed terminal
            self.gone = True
            say("standard output cannot be written to: the run ends here")


class Display(Observer):
    """Two live lines on a terminal or in a notebook, plain lines elsewhere."""

    def __init__(self) -> None:
        self.output = Output()
        self.console = Console(file=cast("IO[str] | None", sys.stdout and self.output), highlight=False)
        if not self.console.is_terminal:
            self.console.width = 120
        self.bar: Progress | None = None
        self.cell: Any = None  # the output of a notebook's cell, which is overwritten again and again
        self.evaluation = ""

    def begin(self, run: Following) -> None:
        direction, problem = run.problem.direction, run.problem
        self.length, self.unit = run.settings.length, unit(problem).replace("_", " ")
        self.objective = "objective ↑" if direction.sign > 0 else "objective ↓"
        self.measures = "" if problem.measures == "objective" else f" ({problem.measures})"
        self.first, self.shown = run.state.count(run.settings), time.monotonic()
        self.lines = self.first // max(1, self.length // LINES)  # how many have been shown
        if run.settings.wrong_sign:
            self.warn_of_wrong_sign(direction)
        for topic, fact in problem.facts.items():
            self.say(f"{topic}: {fact}")
        if self.console.is_jupyter:
            from IPython import display

            show: Any = display.display  # it has no types where IPython is installed
            self.cell = show({"text/plain": self.objective}, raw=True, display_id=True)
        elif self.console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn())
            self.bar = Progress(*columns, TimeRemainingColumn(), TextColumn("left"), expand=True)
            self.bar.add_task(self.objective, total=self.length, completed=self.first)
            self.below = Text(no_wrap=True)
            self.live = Live(Group(self.bar, self.below), console=self.console)
            self.live.start()

    def warn_of_wrong_sign(self, direction: Direction) -> None:
        """Print the banner of a run that moves against its objective."""
        wanted, done = ("maximized", "descends") if direction.sign > 0 else ("minimized", "ascends")
        text = f" WRONG SIGN, ON PURPOSE: the objective is to be {wanted}, and this run {done} it. "
        self.console.print(text, style="bold white on red", soft_wrap=True)

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """Show the objective, the last evaluation with its interval, work per second, and the time left."""
        state, speed, done = run.state, record.numbers["speed/work_per_second"], run.state.count(run.settings)
        if record.evaluated:
            self.evaluation = evaluated(run)
        value = f"{self.objective} {state.mean(record.values['objective/value']):.4g}{self.measures}"
        pace = f"{speed:,.0f} {self.unit}/s"
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=done, description=value)
            self.below.plain = "  ".join(part for part in (self.evaluation, pace) if part)
        elif self.cell or state.complete(run.settings) or done // max(1, self.length // LINES) > self.lines:
            self.lines = done // max(1, self.length // LINES)
            of = f"/{self.length}" if run.settings.updates else f", {done:,} of {self.length:,} {self.unit}"
            self.line([f"update {state.done}{of}", value, self.evaluation, pace, self.left(run)], run)
        if self.output.gone:
            run.stop_signals.append(signal.SIGPIPE)

    def line(self, parts: Sequence[str], run: Following) -> None:
        """Print a line for this update; in a notebook overwrite one line for all updates, a few times a second."""
        text, now = "  ".join(part for part in parts if part), time.monotonic()
        if not self.cell:
            self.say(text)
            self.evaluation = ""  # the next line would repeat it
        elif now - self.shown > 0.2 or run.state.complete(run.settings):
            self.cell.update({"text/plain": text}, raw=True)
            self.shown = now

    def left(self, run: Following) -> str:
        """The time that the rest of the run will take, at the speed of this sitting so far."""
        now = run.state.count(run.settings)
        done = now - self.first
        seconds = (self.length - now) * (run.now - run.began) / max(1, done)
        return f"{timedelta(seconds=round(seconds))} left" if seconds >= 1 else ""

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self.bar:
            self.live.stop()
            self.bar = None

    def end(self, run: Following, summary: Mapping[str, Any]) -> None:
        """Print the results, and the commands that a user is likely to want next."""
        self.close()  # ends the bar, before anything is printed below it
        if summary["status"] != "failed" and run.directory is not None:
            self.report(run, run.shown or run.directory, summary)

    def report(self, run: Following, directory: Path, summary: Mapping[str, Any]) -> None:
        replicas = summary["replicas"]
        many = f"{replicas} replicas" if replicas > 1 else "1 replica"
        many += f", {len(summary['set_aside'])} of them set aside" if summary["set_aside"] else ""
        status, updates, seconds = summary["status"], summary["updates"], summary["wall_seconds"]
        self.say(f"\n{directory}: {status} after {updates} updates, {seconds:.1f} s, {many}")
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for heading in COLUMNS if replicas > 1 else COLUMNS[:1]:
            table.add_column(heading, justify="right", no_wrap=True)
        rows = {self.objective + self.measures: summary["objective"]}
        rows |= {name.partition(".")[2]: found for name, found in summary.items() if name.startswith("evaluation.")}
        for name, found in rows.items():
            if found is not None:
                table.add_row(name, *columns(found)[: len(table.columns) - 1])
        swept = summary.get("sweep")  # statistics over different values of a sweep would mean nothing
        self.console.print(compared(swept, headline(summary)) if swept else table)
        for sentence in summary.get("conclusion", ()):
            self.say(sentence)
        if (file := directory / (run.problem.shown or "none")).is_file():
            self.show(file, file.read_text(encoding="utf-8"))
        if summary.get("first_solved"):
            solved = summary["first_solved"]
            work, wall = f"{solved['env_steps']:,} environment steps", f"{solved['seconds']:.1f} s"
            self.say(f"first solved by all replicas after {work} each, {wall} from the start")
        here = in_command(directory)
        self.say("\nsee the curves:   tensorboard --logdir " + in_command(directory.parent))
        if summary["status"] == "interrupted" and not run.settings.given:  # no command can resume with Python objects
            self.say(f"go on from here:  rlgrad train --resume {here}")
        elif not run.settings.given:
            for command in run.problem.uses:
                self.say(f"{NEXT[command]:17} rlgrad {command} {here}")
        self.say(f"a page of it:     rlgrad report {here}")

    def show(self, file: Path, text: str) -> None:
        """Print a Markdown table and the line below it; for a long table only the command that shows it."""
        head, _, *rows = (line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|"))
        if len(rows) > ROWS:
            self.say(f"{len(rows)} {file.stem}:  cat {in_command(file)}")
            return
        table = Table(*head, box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*(Text(cell.replace("\\|", "|")) for cell in row))
        self.console.print("", table)
        self.say(text.rstrip().rpartition("\n")[2])


def evaluated(run: Following) -> str:
    """The most important metric of the last evaluation, `return 497.1 (495.8 to 498.4)`; empty if there is none."""
    found = run.state.evaluation
    name = next((name for name in (*run.problem.headline, *found) if name in found), None)
    if name is None:
        return ""
    each = {cell.name: run.state.statistics(found[name], run.problem.by_chance, cell) for cell in run.swept}
    where, statistics = "", run.state.statistics(found[name], run.by_chance)
    known = [one for one in each.items() if one[1]["mean"] is not None]
    if known and run.problem.judged:
        sign = run.problem.judged[1].sign
        where, statistics = max(known, key=lambda one: sign * one[1]["mean"])
    between = f" ({interval(statistics)})" if interval(statistics) else ""
    cut = f", {sum(found['cut_off']) / len(found['cut_off']):.0%} cut off" if "cut_off" in found else ""
    best = f", the best, with {where}" if where else ""
    return f"evaluation: {name.replace('_', ' ')} {number(statistics['mean'])}{between}{cut}{best}"


def headline(summary: Mapping[str, Any]) -> str:
    """The key of the most important metric in a summary."""
    keys = (f"evaluation.{name}" for name in summary.get("headline", ()))
    return next((key for key in keys if key in summary), "objective")


def compared(swept: Sequence[Mapping[str, Any]], metric: str) -> Table:
    """A table with the result of each cell of a sweep. metric: the key of the result in summary.json."""
    table = Table(box=None, pad_edge=False)
    for name in swept[0]["settings"]:
        table.add_column(name, no_wrap=True)
    solved = any(cell.get("first_solved") for cell in swept)
    first = metric.rpartition(".")[2].replace("_", " ")
    for heading in (first, *COLUMNS[1:], *(["solved after"] if solved else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    every = math.ceil(len(swept) / SHOWN)
    table.caption = f"1 in {every} of the {len(swept)} values; summary.json has all" if every > 1 else None
    for cell in swept[::every]:
        after = [f"{cell['first_solved']['env_steps']:,}" if cell["first_solved"] else ""] if solved else []
        found = columns(cell[metric]) if cell[metric] else [""] * 5
        table.add_row(*(f"{value:g}" for value in cell["settings"].values()), *found, *after)
    return table
