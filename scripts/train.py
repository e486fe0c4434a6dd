"""python scripts/train.py --config cartpole.yaml: the same as `rlgrad train --config cartpole`."""

import sys

from rlgrad.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
