"""How a shell completes a command line: commands and options are shtab's to know; configs and runs are said here."""

import argparse
from collections.abc import Mapping

from rlgrad.usage import shipped

NAMES = " ".join(shipped())
SHELLS = ("bash", "zsh", "tcsh")
CONFIG = {"bash": "_rlgrad_configs", "zsh": f"({NAMES})", "tcsh": f"({NAMES})"}
RUN = {"bash": "_rlgrad_runs", "zsh": "_files -/", "tcsh": "d"}
BASH = f"""
_rlgrad_configs() {{ compgen -W '{NAMES}' -- "$1"; compgen -f -X '!*.y*ml' -- "$1"; }}
_rlgrad_runs() {{ compgen -d -- "${{1:-runs/}}"; }}
"""


def completes(action: argparse.Action, how: Mapping[str, str]) -> None:
    """Say what an argument is completed with: `CONFIG` or `RUN`."""
    action.complete = how  # type: ignore[attr-defined]


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that a shell reads."""
    import shtab

    text: str = shtab.complete(parser, shell, preamble=BASH if shell == "bash" else "")
    return text
