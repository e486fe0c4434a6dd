"""Completion of a command line in a shell. shtab completes commands and options; this file adds configs and runs."""

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
    """Set what an argument is completed with: `CONFIG` or `RUN`."""
    action.complete = how  # type: ignore[attr-defined]


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script for a shell."""
    import shtab

    text: str = shtab.complete(parser, shell, preamble=BASH if shell == "bash" else "")
    return text
