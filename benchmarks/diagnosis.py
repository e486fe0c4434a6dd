"""The cost of a diagnosis (the gradient's quality and the step's effect), in updates and as a part of a run.

    python benchmarks/diagnosis.py [NAME...]

Updates of a shipped config (cartpole) with and without a diagnosis take turns. Some updates before them are not
measured, until the episodes are longer.
"""

import itertools
import statistics
import sys
import time

import torch

from rlgrad import updates
from rlgrad.config import load_config
from rlgrad.run.observers.diagnosis import effect

GROWN, ROUNDS = 20, 15

torch.set_num_threads(1)
for name in sys.argv[1:] or ["cartpole"]:
    config = load_config(name)
    every = config.settings.diagnose_every_updates
    problem, optimizer, _ = config.with_settings(
        config.settings.model_copy(update={"diagnose_every_updates": 2})
    ).build()
    stream = updates(problem, optimizer)
    for _ in itertools.islice(stream, GROWN):
        pass
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(2 * ROUNDS):
        before = [parameter.detach().clone() for parameter in problem.model.parameters()]
        began = time.process_time()
        update = next(stream)
        diagnosed = update.step % 2 == 0
        if diagnosed:
            step = [p.detach() - b for p, b in zip(problem.model.parameters(), before, strict=True)]
            effect(problem, update, step)
        seconds[diagnosed].append(time.process_time() - began)
    plain, more = (statistics.median(seconds[diagnosed]) for diagnosed in (False, True))
    extra = more / plain - 1
    print(
        f"{name}: an update {1000 * plain:.1f} ms of processor time, with a diagnosis {extra:.2f} of an update more; "
        f"one in {every} updates makes that {extra / every:.1%}"
    )
