"""python checks/horses.py DIRECTORY: writes random files in the format of the book's horse colic data."""

import random
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir()
drawn = random.Random(0)
for name, rows in (("horseColicTraining.txt", 299), ("horseColicTest.txt", 67)):
    lines = []
    for _ in range(rows):
        features = [drawn.gauss(0, 1) for _ in range(21)]
        label = float(features[0] + drawn.gauss(0, 1) > 0)
        lines.append("\t".join(f"{number:.6f}" for number in [*features, label]))
    (folder / name).write_text("\n".join(lines) + "\n")
