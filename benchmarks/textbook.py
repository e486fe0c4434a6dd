"""Machine Learning in Action, section 5.3: the test error of the book's classifier for horses with colic.

    python benchmarks/textbook.py DIRECTORY [SEEDS]

DIRECTORY holds the book's horseColicTraining.txt and horseColicTest.txt. It trains 500 epochs with one example in each
update, as printed and with a true shuffle. It prints the test error after the last update, mean over seeds, and that of
always predicting "lived".
"""

import itertools
import statistics
import sys
import time
from pathlib import Path

from rlgrad import updates
from rlgrad.config import load_config

directory = Path(sys.argv[1])
seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
EPOCHS, ROWS = 500, 299

for name in ("textbook_decaying_printed", "textbook_decaying"):
    settings = {
        "data": str(directory / "horseColicTraining.txt"), "test_data": str(directory / "horseColicTest.txt"),
        "intercept": False, "schedule.epoch_length": ROWS, "updates": EPOCHS * ROWS, "replicas": seeds,
    }  # fmt: skip
    problem, optimizer, schedule = load_config(name, settings).build()
    began = time.perf_counter()
    for _ in itertools.islice(updates(problem, optimizer), EPOCHS * ROWS):
        schedule.step()
    found = problem.evaluate(0)
    error = [1 - accuracy for accuracy in found["accuracy"].tolist()]
    deviation = f"deviation {statistics.stdev(error):.3f}, " if seeds > 1 else ""
    print(
        f"{name:26} test error {statistics.mean(error):.3f} ({deviation}{seeds} seeds)"
        f"  log-loss {float(found['log_loss'].mean()):.2f}  AUC {float(found['auc'].mean()):.3f}"
        f"  {time.perf_counter() - began:.0f} s"
    )
constant = {name: float(found[f"prior_{name}"][0]) for name in ("accuracy", "log_loss")}
print(f"{'always lived':26} test error {1 - constant['accuracy']:.3f}  log-loss {constant['log_loss']:.3f}")
