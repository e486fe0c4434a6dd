"""One HTML page about a run: its setup, its results and how to reproduce it; for several runs also how they compare."""

import html
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rlgrad.files import in_command
from rlgrad.pages import page
from rlgrad.pages.drawing import panel, style, svg
from rlgrad.reports.figures import curves, named
from rlgrad.reports.loading import held_out
from rlgrad.reports.published import published
from rlgrad.reports.reading import AXES, UNENDED, Recorded
from rlgrad.reports.slices import Slice, draw_line, draw_plane
from rlgrad.run.directory import dotted
from rlgrad.run.statistics import COLUMNS, columns, interval, number, probability_of_improvement
from rlgrad.supervised.judgement import interval_of_probability
from rlgrad.written import as_written

QUALITY = {
    "gradient/half_cosine": "How well the gradients of the two halves of a batch agree: 1 is all signal, 0 all noise.",
    "gradient/norm": "The gradient's Euclidean norm.",
    "update/size": "How far an update moved the parameters.",
}
BOX = '<div class="table" tabindex="0">'  # scrolls where a table is wider than the page
SUBJECT = ("environment", "data", "function")  # the setting that says what a run is about
CLOSE = {"accuracy": "prior_accuracy", "log_loss": "prior_log_loss"}  # what always predicting frequencies gives


class Seen(NamedTuple):
    """What the page shows about a run besides its log, if it is available."""

    film: bytes | None = None  # a GIF of the trained policy
    random: Sequence[float] = ()  # the returns of uniformly random actions
    slice: tuple[Slice, str] | None = None  # of the objective, and what that is


def report(runs: Sequence[Recorded], seen: Seen | None = None) -> str:
    """The HTML page about one run or several. seen: what else to show about a single run."""
    with style():
        if len(runs) > 1:
            return page("Runs compared", "\n".join(comparison(runs)))
        return page(f"{text(runs[0].name)}: a run of rlgrad", "\n".join(single(runs[0], seen or Seen())))


def single(run: Recorded, seen: Seen) -> Iterable[str]:
    """Yield the HTML of the page about one run."""
    yield f"<h1>{text(run.name)}</h1>"
    yield f"<p>{lead(run)}</p>"
    if said := run.summary.get("conclusion"):
        yield f"<ul>{''.join(f'<li>{text(sentence)}</li>' for sentence in said)}</ul>"
    yield from results([run])
    yield from judged(run)
    yield "<h2>Curves</h2>"
    several = run.replicas > 1
    band = " The band is the 95% interval of the mean over replicas." * (several and run.by_chance)
    band += " Thin lines are the replicas." * several
    yield f"<p>Over the work that one replica has done, over updates and over seconds.{band}</p>"
    for tag in [*run.evaluated, "objective/value"]:
        yield panels(curves([run], tag, axis, beside(run, tag, seen.random)) for axis in AXES)
    if seen.film:
        import base64

        yield "<h2>The trained policy</h2>"
        encoded = base64.b64encode(seen.film).decode()
        yield f'<figure><img src="data:image/gif;base64,{encoded}" alt="A film of one episode of the greedy policy">'
        yield "<figcaption>One episode of the greedy policy.</figcaption></figure>"
    quality = [tag for tag in QUALITY if tag in run.tags]
    if quality:
        yield "<h2>The gradient</h2>"
        yield f"<p>{' '.join(QUALITY[tag] for tag in quality)}</p>"
        yield panels(curves([run], tag) for tag in quality)
    if seen.slice:
        yield "<h2>The objective around what was found</h2>"
        yield "<p>One replica: along a line, and over a plane. The star is what the run has found.</p>"
        pictures = [panel(), panel()]
        draw_line(pictures[0][1], *seen.slice)
        draw_plane(pictures[1][1], *seen.slice)
        yield panels(figure for figure, _ in pictures)
    yield from others(run, seen.random)
    yield from again(run)


def judged(run: Recorded) -> Iterable[str]:
    """Yield the HTML section about a classifier on its test set."""
    judgement = run.summary.get("judgement")
    if not isinstance(judgement, dict):
        return
    import markdown

    from rlgrad.supervised.figures import pictures
    from rlgrad.supervised.judgement import markdown as tables

    yield "<h2>On the test set</h2>"
    yield "<p>For the first replica. The intervals say what other test sets of this size would give."
    yield " The constant predicts the class frequencies of the training part.</p>"
    found = markdown.markdown(text(tables(judgement)), extensions=["tables"])
    yield found.replace("<table>", f"{BOX}<table>").replace("</table>", "</table></div>")
    yield panels(pictures(run.summary).values())


def comparison(runs: Sequence[Recorded]) -> Iterable[str]:
    """Yield the HTML of the page that compares several runs."""
    names = ", ".join(text(run.name) + " (not ended)" * (run.status == UNENDED) for run in runs)
    paths = {run.path: run for run in runs}
    swept = f"{text(runs[0].path.name)}: {len(runs)} settings compared"
    yield f"<h1>{swept if len(paths) == 1 else f'{len(runs)} runs compared'}</h1>"
    yield f"<p>{names}: the results, how certain it is which is better, and where the settings differ.</p>"
    yield from results(runs)
    tags = [tag for tag in runs[0].evaluated if all(tag in run.tags for run in runs)]
    for tag in tags if all(run.by_chance for run in runs) else ():
        yield from improvement(runs, tag)
    yield "<h2>Curves</h2>"
    yield "<p>Over the work that one replica has done, over updates and over seconds.</p>"
    for tag, name, of in drawn(runs):
        who = "all runs" if len(of) == len(runs) else ", ".join(run.name for run in of)
        yield f"<p><strong>{text(name)}</strong>: {text(who)}</p>"
        yield panels(curves(of, tag, axis) for axis in AXES)
    yield "<h2>Where their settings differ</h2>"
    yield table(["setting", *(run.name for run in runs)], differing([dotted(run.settings) for run in runs]))
    for run in paths.values():
        yield from again(run)


def drawn(runs: Sequence[Recorded]) -> Iterable[tuple[str, str, Sequence[Recorded]]]:
    """Yield the tags of the curves, their names, and the runs in one chart: those that measure the same."""
    for tag in dict.fromkeys(tag for run in runs for tag in run.evaluated):
        yield tag, named(tag), [run for run in runs if tag in run.tags]
    together: dict[str, list[Recorded]] = {}
    for run in runs:
        together.setdefault(str(run.summary.get("measures", "objective")), []).append(run)
    for of, those in together.items():
        yield "objective/value", "objective" if of == "objective" else f"objective ({of})", those


def differing(settings: Sequence[Mapping[str, Any]]) -> Iterable[list[Any]]:
    """Yield a row for each setting that differs. Of unlike problems only the settings that several have are compared,
    and what each is about."""
    alike = len({each.get("problem") for each in settings}) == 1
    for key in sorted({key for each in settings for key in each}):
        there = settings if alike or key in SUBJECT else [each for each in settings if key in each]
        if len({repr(each.get(key, "")) for each in there}) > 1:
            yield [key, *(as_written(each.get(key, "")) for each in settings)]


def lead(run: Recorded) -> str:
    """The first paragraph: what was run, and its result."""
    what = next((run.settings[key] for key in SUBJECT if run.settings.get(key)), "")
    made = f"{run.settings.get('problem', 'a problem of your own')} on {what}" if what else "a problem of your own"
    updates, seconds = run.summary.get("updates", len(run.rows)), run.summary.get("wall_seconds")
    took = f" in {seconds:,.1f} seconds" if isinstance(seconds, int | float) else ""
    work = f"{run.curve('objective/value').x[-1]:,.0f} {run.work}"
    many = f"{run.replicas} replicas" if run.replicas > 1 else "one replica"
    status = "has not ended, so there is no result yet" if run.status == UNENDED else f"is {text(run.status)}"
    final = run.summary.get(run.evaluated[0].replace("/", ".", 1)) if run.evaluated else None
    came = ""
    if isinstance(final, dict) and final.get("mean") is not None:
        between = f" (95% interval {interval(final)})" if interval(final) else ""
        apart = held_out(run.settings, run.evaluated[0].partition("/")[2])
        what = "held-out " * (run.by_chance and apart) + text(named(run.evaluated[0]))
        what += "" if apart else " on the training examples"
        came = f" At its end: {what} {number(final['mean'])}{between}."
    head = f"{text(made)}: {many}, {updates} updates, {work} each{took}. The run {status}.{came}"
    head += " It went <strong>against its objective, on purpose</strong>." * bool(run.summary.get("wrong_sign"))
    said = [f"{text(sentence[:1].upper() + sentence[1:])}." for sentence in run.summary.get("conclusion") or []]
    return " ".join([head, *said])


def results(runs: Sequence[Recorded]) -> Iterable[str]:
    """Yield the HTML table of the last evaluation and of the objective at the saved parameters."""
    rows = []
    for run in runs:
        of = run.summary.get("measures", "objective")
        found = {"objective" if of == "objective" else f"objective ({of})": run.summary.get("objective")}
        found |= {key.partition(".")[2]: value for key, value in run.summary.items() if key.startswith("evaluation.")}
        for name, statistics in found.items():
            if isinstance(statistics, dict):
                rows.append([run.name, name.replace("_", " "), *columns(statistics)][len(runs) == 1 :])
    heading = ["run", "", *COLUMNS][len(runs) == 1 :]
    if rows:
        alone = all(run.replicas == 1 for run in runs)
        shown = [k for k in range(len(heading)) if any(row[k] for row in rows)]
        shown = [k for k in shown if heading[k] not in COLUMNS[1:]] if alone else shown
        heading, rows = [heading[k] for k in shown], [[row[k] for k in shown] for row in rows]
        if len(runs) > 1:  # numbers to compare are below each other
            order = list(dict.fromkeys(row[1] for row in rows))
            rows.sort(key=lambda row: order.index(row[1]))
        yield table(heading, rows)
        if not alone:
            between = " The interval is that of the mean." * ("95% interval" in heading)
            yield f"<p>IQM is the mean of the middle half of the replicas.{between}</p>"


def improvement(runs: Sequence[Recorded], tag: str) -> Iterable[str]:
    """Yield the HTML section on the probability that a replica of another run is better than one of the first run."""
    last = [[v for v in run.curve(tag).values[-1].tolist() if v == v] for run in runs]
    rows = []
    for run, values in list(zip(runs, last, strict=True))[1:]:
        if not (values and last[0]):  # all replicas were set aside
            continue
        p = probability_of_improvement(values, last[0])
        p = 1 - p if run.smaller_is_better(tag) else p
        low, high = interval_of_probability(p, len(values), len(last[0]))
        rows.append([f"{run.name} better than {runs[0].name}", f"{p:.2f}", f"{low:.2f} to {high:.2f}"])
    if not rows:
        return
    name = tag.partition("/")[2].replace("_", " ")
    yield f"<h2>Probability of improvement: {text(name)}</h2>"
    yield "<p>How often a replica of the one ends better than one of the other, over all pairs; 0.5: no difference.</p>"
    yield table(["", "probability", "95% interval"], rows)


def others(run: Recorded, random: Sequence[float]) -> Iterable[str]:
    """Yield the HTML section with returns to compare with: random actions, the threshold, published results."""
    rows: list[list[str]] = []
    if random:
        rows.append([f"uniformly random actions, {len(random)} episodes", number(fmean(random)), "0", ""])
    if "return" in (threshold := run.summary.get("threshold") or {}):
        rows.append(["counts as solved", number(float(threshold["return"])), "", ""])
    theirs = published(str(run.settings.get("environment", "")))
    rows += [[who, number(float(value)), f"{steps:,}", source] for who, value, steps, source in theirs]
    if rows:
        yield "<h2>To compare it with</h2>"
        if theirs:
            yield "<p>Published results are of greedy policies, of one run each unless stated otherwise.</p>"
        yield table(["", "return", "environment steps", "source"], rows)


def again(run: Recorded) -> Iterable[str]:
    """Yield the HTML section with everything needed to reproduce the run."""
    yield f"<h2>{text(run.path.name)}: do it again</h2>"
    command = run.environment.get("command")
    if isinstance(command, list) and command:
        words = shlex.join(["rlgrad", *map(str, command[1:])])
        yield f"<p>It was begun with</p>\n<pre><code>{text(words)}</code></pre>"
    path = text(in_command(run.path))
    yield f"<p>This repeats it, and compares the bits:</p>\n<pre><code>rlgrad reproduce {path}</code></pre>"
    versions = {"python": run.environment.get("python")}
    for part in map(run.environment.get, ("packages", "machine")):
        versions |= part if isinstance(part, dict) else {}
    versions |= {"threads": run.environment.get("threads"), "commit": run.environment.get("commit")}
    shown = {key: value for key, value in versions.items() if value is not None}
    yield table(["", ""], [["seed", run.settings.get("seed", 0)], *([key, value] for key, value in shown.items())])
    config = run.path / "config.yaml"
    settings = text(config.read_text(encoding="utf-8"))
    yield f"<details><summary>All settings</summary>\n<pre><code>{settings}</code></pre></details>"
    day = time.strftime("%Y-%m-%d", time.localtime(config.stat().st_mtime))
    yield f"<p>Begun or last extended on {day}. <code>rlgrad report {path}</code> writes a page about this run.</p>"


def beside(run: Recorded, tag: str, random: Sequence[float]) -> dict[str, float]:
    """Values to compare a tag with: the threshold of the environment, and results without learning."""
    name = tag.partition("/")[2]
    lines = {"random actions": fmean(random)} if tag == "evaluation/return" and random else {}
    threshold = run.summary.get("threshold")
    if isinstance(threshold, dict) and name in threshold:
        lines["solved"] = float(threshold[name])
    if (prior := f"evaluation/{CLOSE.get(name)}") in run.tags:
        lines["the class frequencies"] = float(run.curve(prior).mean[-1])
    return lines


def panels(figures: Iterable[Any]) -> str:
    """The pictures as HTML, side by side, or below each other on a narrow screen."""
    drawn = []
    for figure in figures:
        axes = figure.axes[0]
        said = text(f"{axes.get_ylabel()} over {axes.get_xlabel()}")
        drawn.append(f'<figure role="img" aria-label="{said}">{svg(figure)}</figure>')
    return f'<div class="panels">{"".join(drawn)}</div>'


def table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{text(cell)}</th>" for cell in heading)
    body = "".join("<tr>" + "".join(f"<td>{linked(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"{BOX}<table><tr>{head}</tr>{body}</table></div>"


def linked(cell: Any) -> str:
    if str(cell).startswith("https://"):
        return f'<a href="{text(cell)}">{text(str(cell).split("/")[4])}</a>'
    return text(cell)


def text(thing: Any) -> str:
    return html.escape(str(thing))


def write(runs: Sequence[Recorded], to: Path, seen: Seen) -> None:
    """Write the page. Raises OSError."""
    to.write_text(report(runs, seen), encoding="utf-8")
