"""Install other libraries to compare with, each into its own environment: .peers/NAME at the top of the project.

    python benchmarks/peers.py               # all of them
    python benchmarks/peers.py classifiers   # one

A benchmark leaves out, and names, a peer that is not installed. torch is installed first, in the version of this
project. On Linux pip would download gigabytes for CUDA: set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to a place with CPU
builds, as pytorch.org says.
"""

import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".peers"

PEERS = {  # name -> what pip installs there, beside this project's torch if it says "torch"
    "classifiers": ["torch", "scikit-learn", "skorch", "lightning"],
    "sb3": ["torch", "stable-baselines3", "sb3-contrib", "gymnasium[mujoco,box2d]"],
    "tianshou": ["torch", "tianshou==2.0.1", "gymnasium[mujoco,box2d]"],
    "jax": ["jax==0.10.2", "rejax", "gymnax==0.0.9"],  # rejax 0.1 does not work with gymnax 1
}


def python_of(name: str) -> Path:
    """The path of the Python in a peer's environment, which may not exist."""
    return FOLDER / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def install(name: str) -> None:
    torch = f"torch=={importlib.metadata.version('torch').partition('+')[0]}"
    wanted = [torch if requirement == "torch" else requirement for requirement in PEERS[name]]
    venv.create(FOLDER / name, with_pip=True)
    for step in ([torch], wanted) if torch in wanted else (wanted,):
        subprocess.run([str(python_of(name)), "-m", "pip", "install", "--quiet", *step], check=True)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(PEERS)
    if unknown:
        sys.exit(f"no peers {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    for name in sys.argv[1:] or PEERS:
        install(name)
        print(f"{name}: {python_of(name)}")
