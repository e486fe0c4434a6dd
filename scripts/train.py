"""python scripts/train.py --config cartpole.yaml: the same as `rlgrad train --config cartpole`."""

import sys

from rlgrad.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
