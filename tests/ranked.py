"""What the tests of several processes run under torchrun: python ranked.py JOBS, a file of configs by run directory."""

import json
import sys
from pathlib import Path

import torch

from rlgrad import train

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    for out, config in json.loads(Path(sys.argv[1]).read_text()).items():
        train(config, out=out)
