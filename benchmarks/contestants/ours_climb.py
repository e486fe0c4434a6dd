"""rlgrad with the settings of benchmarks/learning/tasks.yaml, one replica. Kept weights are evaluated after the end.

python ours_climb.py COLUMN ENVIRONMENT SEED STEPS
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from climbing import EVERY, greedy_return
from ours import watch

import rlgrad

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from learning import settings_of


def climb(column, environment, seed, steps):
    torch.set_num_threads(1)
    settings = settings_of(environment, column) | {"seed": seed, "steps": steps, "keep": {"every_steps": EVERY}}
    del settings["evaluation"]
    seconds = []  # of the processor, after each update
    watch(lambda *_: seconds.append(time.process_time()))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        rlgrad.train(settings, out=run)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps_at = {row["update"]: row["step"] for row in rows}
        found = []
        for update in sorted(int("".join(filter(str.isdigit, file.stem))) for file in (run / "kept").iterdir()):
            policy = rlgrad.load(run, replica=0, update=update)
            act = lambda seen, policy=policy: policy.predict(seen, deterministic=True)[0]  # noqa: E731
            found.append((steps_at[update], greedy_return(act, environment, seed), seconds[update - 1]))
    return dict(zip(("steps", "returns", "seconds"), zip(*found, strict=True), strict=True))


if __name__ == "__main__":
    print(json.dumps(climb(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
