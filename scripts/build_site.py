"""python scripts/build_site.py: the documentation as a site, in build/site. Any warning is an error.

The pages are the project's own Markdown files, each where it stands, so that links between them work on GitHub and in
the site. Three things are added: the README is the first page, every source file that a page links to is shown as a
page, and the API reference is made from docstrings. The code is read, not imported.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "pages"  # `docs_dir` of zensical.toml
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")

# page of the API reference -> its title, and the modules on it; each page stands in `nav` of zensical.toml too
API = {
    "rlgrad": ("What `import rlgrad` offers", ["rlgrad"]),
    "loop": ("The training loop, and what it asks of a problem", ["rlgrad.loop"]),
    "trainable": ("What a run asks of a problem, beyond the loop", ["rlgrad.trainable"]),
    "trained": ("Trained policies and classifiers", ["rlgrad.agents.trained", "rlgrad.supervised.trained"]),
    "observer": ("What watches a run", ["rlgrad.run.observer", "rlgrad.run.following"]),
    "optimizers": (
        "Newton's method, curvature and schedules",
        ["rlgrad.optimizers.newton", "rlgrad.optimizers.curvature", "rlgrad.optimizers.schedules"],
    ),
    "policies": ("Policies: distributions over actions", ["rlgrad.agents.policies"]),
    "environments": ("What an agent asks of an environment", ["rlgrad.environments.interface"]),
    "testing": (
        "Checks that also run on your code",
        ["rlgrad.testing", "rlgrad.testing.problem", "rlgrad.testing.conformance", "rlgrad.testing.exact"],
    ),
}


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES / "docs")
    for page in (ROOT / "docs").rglob("*.md"):
        write(page, page.relative_to(ROOT))
    write(ROOT / "README.md", Path("index.md"))
    write(ROOT / "CONTRIBUTING.md", Path("CONTRIBUTING.md"))
    write(ROOT / "CHANGELOG.md", Path("CHANGELOG.md"))
    for folder in ("configs", "examples"):
        write(ROOT / folder / "README.md", Path(folder) / "index.md")
    for name, (title, modules) in API.items():
        text(Path("api") / f"{name}.md", "\n".join([f"# {title}", *(f"\n::: {module}" for module in modules)]))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def write(page: Path, where: Path) -> None:
    """Copy a page, with its links to source files and folders changed to pages that show them."""

    def link(match: re.Match[str]) -> str:
        target = (page.parent / match[2]).resolve()
        if target.is_dir():
            return f"{match[1]}{match[2].rstrip('/')}/{overview(target)}{match[3]}"
        if target.name == "README.md":
            return f"{match[1]}{match[2].removesuffix('README.md')}index.md{match[3]}"
        if target.suffix in (".py", ".yaml", ".json", ".toml", ".ipynb"):
            return f"{match[1]}{match[2]}{source(target)}{match[3]}"
        return match[0]

    slider = (ROOT / "rlgrad" / "lesson" / "slider.html").read_text(encoding="utf-8")
    text(where, LINK.sub(link, page.read_text(encoding="utf-8")).replace("<!-- slider -->", slider))


def overview(folder: Path) -> str:
    """Make the page of a folder, its README or a list of its files; return the page's name."""
    where = folder.relative_to(ROOT) / "index.md"
    if not (folder / "README.md").exists():
        files = [path for path in sorted(folder.iterdir()) if path.suffix in (".py", ".yaml")]
        text(where, "\n".join([f"# {folder.name}/", "", *(f"- [{f.name}]({f.name}{source(f)})" for f in files)]))
    return "index.md"


def source(file: Path) -> str:
    """Make the page that shows a source file; return the ending that the page's name adds to the file's name."""
    where = file.relative_to(ROOT)
    if file.suffix == ".ipynb":
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        fences = {"markdown": "{}", "code": "````python\n{}\n````"}
        shown = [fences[cell["cell_type"]].format("".join(cell["source"])) for cell in cells]
        text(Path(f"{where}.md"), "\n\n".join(shown) + "\n")
        return ".md"
    language = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml"}[file.suffix]
    text(Path(f"{where}.md"), f"# {where}\n\n````{language}\n{file.read_text(encoding='utf-8')}````\n")
    return ".md"


def text(where: Path, content: str) -> None:
    (PAGES / where).parent.mkdir(parents=True, exist_ok=True)
    (PAGES / where).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
