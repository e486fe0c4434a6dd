"""How the checks run each documented command: as it is, or a shorter version if it takes long.

The key is the command as `documented.py` finds it. A command that is not here fails the checks. The lines run in a copy
of the project, in bash, with `python`, `rlgrad` and `tensorboard` on the path.
"""

AS_IS = ""
TRAINING = "rlgrad train --config cartpole --updates 2 --quiet"
TRAINED = "cp -R $TRAINED runs"  # the result of TRAINING, made once for all commands: runs/cartpole-1
BOOK = (  # we may not distribute the book's data: random numbers in the same format
    "sed -i 's/^EPOCHS, ROWS = .*/EPOCHS, ROWS = 2, 299/' benchmarks/textbook.py && "
    "python checks/horses.py made && python benchmarks/textbook.py made 2"
)
DIAGNOSIS = (
    "sed -i 's/^GROWN, ROUNDS = .*/GROWN, ROUNDS = 1, 2/' benchmarks/diagnosis.py && "
    "python benchmarks/diagnosis.py cartpole"
)
ESTIMATOR = "python benchmarks/estimator.py --rounds 1 --only breast_cancer --threads 1"
PEERS = "PYTHONPATH=$PYTHONPATH:benchmarks python -c 'import peers; print(peers.PEERS)'"

SHORTENED = {
    # the README
    "python3 -m venv .venv && pip install -q -e . && python scripts/train.py --config cartpole.yaml": (
        "python scripts/train.py --config cartpole.yaml --updates 2"  # installing is what .ci/run does
    ),
    "python3 -m venv .venv && pip install -q -e '.[test]' && python -m pytest && ruff check . && "
    "ruff format --check . && mypy": "python -m pytest --collect-only -n 0 tests && ruff --version && mypy --version",
    "python3 -m venv .venv && pip install -q -e '.[test,docs]'": "python -m zensical --version",
    "pip install -q -e '.[docs]' && python -m pytest checks": "python -m pytest --collect-only -n 0 checks",
    "torchrun --nproc-per-node 2 scripts/train.py --config breast_cancer": (
        "torchrun --nproc-per-node 2 scripts/train.py --config breast_cancer --updates 2"
    ),
    "torchrun --nproc-per-node 2 --max-restarts 3 scripts/train.py --config cartpole --out runs/long "
    "--checkpoint.every_seconds 30": (
        "torchrun --nproc-per-node 2 --max-restarts 3 scripts/train.py --config cartpole --out runs/long --updates 2"
    ),
    "torchrun --nproc-per-node 2 scripts/train.py --config pendulum --updates 10 --simulator gymnasium --workers 0": (
        "torchrun --nproc-per-node 2 scripts/train.py --config pendulum --updates 1 --simulator gymnasium --workers 0 "
        "--episodes 2 --evaluation.episodes 2"
    ),
    "tensorboard --logdir runs": "tensorboard --version",  # test_pages.py opens it
    "rlgrad train --config breast_cancer": "rlgrad train --config breast_cancer --updates 2",
    "rlgrad train --config breast_cancer_ascent": "rlgrad train --config breast_cancer_ascent --updates 2",
    "rlgrad train --config cartpole --device cuda": f"{TRAINING} --device cpu",
    "python benchmarks/gpu.py --write": "python benchmarks/gpu.py --rows 1000 --only newton network --write",
    "python benchmarks/gpu.py [--write] [--rows N]": "python benchmarks/gpu.py --help",
    "rlgrad train --config cartpole --wrong-sign": "rlgrad train --config cartpole --wrong-sign --updates 2",
    "cmp runs/breast_cancer-1/model.safetensors runs/breast_cancer_ascent-1/model.safetensors": (
        "rlgrad train --config breast_cancer --updates 3 && rlgrad train --config breast_cancer_ascent --updates 3 && "
        "cmp runs/breast_cancer-1/model.safetensors runs/breast_cancer_ascent-1/model.safetensors"
    ),
    "rlgrad sweep --config cartpole --optimizer.lr 0.003 0.01 0.03 --replicas 8": (
        "rlgrad sweep --config cartpole --optimizer.lr 0.003 0.01 0.03 --replicas 2 --updates 2"
    ),
    "rlgrad sweep --config cartpole --optimizer.lr 0.01 0.03 --discount 0.98 0.99 1 --replicas 8": (
        "rlgrad sweep --config cartpole --optimizer.lr 0.01 0.03 --discount 0.98 0.99 1 --replicas 1 --updates 2"
    ),
    "rlgrad search": "rlgrad search --help",
    "rlgrad search --config cartpole --episodes 16 32 64 --policy.hidden '[16]' '[64, 64]' --replicas 8 --trials 6": (
        "rlgrad search --config cartpole --episodes 2 4 --policy.hidden '[2]' '[4, 4]' --replicas 2 --updates 2"
    ),
    "rlgrad train --resume runs/cartpole-search/trial-3": "rlgrad train --help",
    "python benchmarks/winners_curse.py --write": "python benchmarks/winners_curse.py --help",
    "python benchmarks/winners_curse.py [--write] [--searches N]": "python benchmarks/winners_curse.py --help",
    "python benchmarks/sweep.py [--write] [--rounds N] [--updates N]": "python benchmarks/sweep.py --help",
    "python benchmarks/ranks.py --write": "python benchmarks/ranks.py --rounds 1 --updates 1 --replicas 2",
    "python benchmarks/ranks.py [--write] [--rounds N] [--updates N] [--replicas N]": (
        "python benchmarks/ranks.py --help"
    ),
    "python benchmarks/beside.py": "python benchmarks/beside.py --help",
    "python benchmarks/peers.py sb3 tianshou": PEERS,
    "rlgrad plot RUN": f"{TRAINED} && rlgrad plot runs/cartpole-1",
    "rlgrad report RUN": f"{TRAINED} && rlgrad report runs/cartpole-1",
    "rlgrad train --config breast_cancer_newton --replicas '{folds: 10}' --l2 '{path: 50}'": (
        "rlgrad train --config breast_cancer_newton --replicas '{folds: 3}' --l2 '{path: 4}'"
    ),
    "rlgrad train --config breast_cancer_newton --replicas 1 --l2 0.02": AS_IS,
    "rlgrad train --config breast_cancer_newton --replicas '{bootstrap: 200}' --l2 0.02": (
        "rlgrad train --config breast_cancer_newton --replicas '{bootstrap: 20}' --l2 0.02"
    ),
    "python examples/nested_folds.py 5": "python examples/nested_folds.py 2",
    "python benchmarks/folds.py --write": (
        "python benchmarks/folds.py --only rlgrad --examples 500 --penalties 4 --rounds 1 --write"
    ),
    "python benchmarks/sweep.py --write": "python benchmarks/sweep.py --rounds 1 --updates 1",
    "rlgrad lesson": "rlgrad lesson --help",  # test_pages.py writes it
    "rlgrad train --config my.yaml --help": "cp configs/acrobot.yaml my.yaml && rlgrad train --config my.yaml --help",
    "rlgrad schema": "rlgrad schema | python -m json.tool",
    "rlgrad check ENV": "rlgrad check CartPole-v1",
    "rlgrad evaluate RUN": f"{TRAINED} && rlgrad evaluate runs/cartpole-1",
    "rlgrad list": f"{TRAINED} && rlgrad list",
    "rlgrad play runs/cartpole-1 --to film.gif": f"{TRAINED} && rlgrad play runs/cartpole-1 --to film.gif",
    "rlgrad play runs/cartpole-1": "rlgrad play --help",  # the checks have no screen
    "rlgrad export runs/cartpole-1 --to cartpole/model.onnx": (
        f"{TRAINED} && rlgrad export runs/cartpole-1 --to cartpole/model.onnx"
    ),
    "rlgrad evaluate RUN --update best": (
        "rlgrad train --config cartpole --updates 2 --keep.best true --quiet && "
        "rlgrad evaluate runs/cartpole-1 --update best"
    ),
    "rlgrad report runs/cartpole-1": f"{TRAINED} && rlgrad report runs/cartpole-1",
    "rlgrad slice runs/cartpole-1": ("rlgrad train --config bowl --updates 3 --quiet && rlgrad slice runs/bowl-1"),
    "rlgrad plot runs/cartpole-1 --to curves.pdf": f"{TRAINED} && rlgrad plot runs/cartpole-1 --to curves.pdf",
    "rlgrad train --resume runs/cartpole-1": f"{TRAINED} && rlgrad train --resume runs/cartpole-1",
    "rlgrad train --resume auto --config cartpole": (
        f"{TRAINED} && rlgrad train --resume auto --config cartpole --updates 2"
    ),
    "rlgrad train --resume runs/cartpole-1 --extend-to 60": (
        f"{TRAINED} && rlgrad train --resume runs/cartpole-1 --extend-to 4"
    ),
    "rlgrad reproduce runs/cartpole-1": f"{TRAINED} && rlgrad reproduce runs/cartpole-1",
    "python benchmarks/cartpole_seeds.py": "python benchmarks/cartpole_seeds.py 1",
    "python benchmarks/cold_start.py": "python benchmarks/cold_start.py 1",
    "python benchmarks/tables.py [ROUNDS] [PARQUET_ROWS]": "python benchmarks/tables.py 1 1000",
    "python benchmarks/tables.py 1 10000000": "python benchmarks/tables.py 1 1000",
    # CONTRIBUTING.md
    "python -m pytest && ruff check . && ruff format --check . && mypy": (
        "python -m pytest -n 0 tests/test_streams.py && ruff check checks && ruff format --check checks"
    ),
    "python -m pytest checks": "python -m pytest --collect-only -n 0 checks",
    "python scripts/build_site.py && python -m http.server --bind 127.0.0.1 --directory build/site 8000": (
        "python -m http.server --help"  # test_pages.py builds it
    ),
    "rlgrad schema > configs/schema.json": "rlgrad schema > found.json && cmp found.json configs/schema.json",
    "rlgrad tags > docs/tags.md": "rlgrad tags > found.md && cmp found.md docs/tags.md",
    # docs/
    "rlgrad train --config cartpole": "rlgrad train --config cartpole --updates 2",
    "rlgrad train --config cartpole --replicas R": "rlgrad train --config cartpole --replicas 3 --updates 2",
    "rlgrad train --profile": "rlgrad train --config cartpole --updates 2 --profile",
    "rlgrad train --resume RUN": f"{TRAINED} && rlgrad train --resume runs/cartpole-1",
    "rlgrad reproduce RUN": f"{TRAINED} && rlgrad reproduce runs/cartpole-1",
    "rlgrad tags": AS_IS,
    "rlgrad doctor": AS_IS,
    "rlgrad train --config bowl --direction maximize": ("rlgrad train --config bowl --direction maximize --updates 2"),
    "rlgrad train --config lunar_lander": "rlgrad train --config lunar_lander --steps 2000 --help",
    "rlgrad train --config walker2d": "rlgrad train --config walker2d --help",
    "rlgrad train --config half_cheetah": "rlgrad train --config half_cheetah --help",
    "rlgrad train --config hopper": "rlgrad train --config hopper --help",
    "python -m pytest tests/test_textbook.py": "python -m pytest -n 0 tests/test_textbook.py",
    # examples/
    "python examples/bare_loop.py 50": AS_IS,
    "python examples/custom_problem.py 300": AS_IS,
    "python examples/custom_environment.py 40": "python examples/custom_environment.py 2",
    "python examples/custom_network.py 30": "python examples/custom_network.py 2",
    "python examples/custom_observer.py 20": AS_IS,
    # benchmarks; comparisons run without the other libraries, which are not installed here
    "python benchmarks/coverage.py > docs/intervals.md": (
        "sed -i 's/^SAMPLES = .*/SAMPLES = 20/' benchmarks/coverage.py && python benchmarks/coverage.py"
    ),
    "python benchmarks/estimators.py > docs/estimators.md": (
        "sed -i 's/= 1000, 8, 0.9, 4$/= 10, 8, 0.9, 1/' benchmarks/estimators.py && "
        "python benchmarks/estimators.py > docs/estimators.md"
    ),
    "python benchmarks/peers.py": PEERS,
    "python benchmarks/peers.py classifiers": PEERS,
    "python benchmarks/peers.py sb3 tianshou jax": PEERS,
    "python benchmarks/estimator.py": ESTIMATOR,
    "python benchmarks/estimator.py [--rounds 7] [--only breast_cancer digits 200000x100] [--threads 1 2]": ESTIMATOR,
    "python benchmarks/folds.py [--examples 20000] [--penalties 100] [--rounds N] [--threads N] [--write]": (
        "python benchmarks/folds.py --help"
    ),
    "python benchmarks/learning.py TASK ...": (
        "rm -r benchmarks/learning/results && "
        "python benchmarks/learning.py CartPole-v1 --column reinforce --seeds 2 --write"
    ),
    "python benchmarks/learning.py [TASK ...] [--column reinforce natural ppo] [--seeds 20] [--tune] [--write]": (
        "python benchmarks/learning.py --help"
    ),
    "python benchmarks/sampling.py [--rounds 5] [--write]": "python benchmarks/sampling.py --help",
    "python benchmarks/workers.py [--rounds 5] [--write] [ENVIRONMENT ...]": "python benchmarks/workers.py --help",
    "python benchmarks/classifiers.py --write": "python benchmarks/classifiers.py --help",
    "python benchmarks/classifiers.py --only digits --write": (
        "python benchmarks/classifiers.py --only digits --write --rounds 1"
    ),
    "python benchmarks/classifiers.py --only breast_cancer --write": (
        "python benchmarks/classifiers.py --only breast_cancer --write --rounds 1"
    ),
    "python benchmarks/classifiers.py --only 200000x100 --write": "python benchmarks/classifiers.py --help",
    "python benchmarks/classifiers.py --only 1000000x50 --write": "python benchmarks/classifiers.py --help",
    "python benchmarks/classifiers.py --only minibatches --write": "python benchmarks/classifiers.py --help",
    "python classifier_fits.py fit CONTESTANT FOLDER THREADS EFFORT": (
        "mkdir made && cd benchmarks && python classifier_fits.py data breast_cancer ../made - optimum && "
        "python classifier_fits.py fit rlgrad ../made 1 5"
    ),
    "python benchmarks/agents.py --write": "python benchmarks/agents.py --help",
    "python benchmarks/agents.py --only solved --write": (
        "python benchmarks/agents.py --only solved --write --rounds 1"
    ),
    "python benchmarks/agents.py --only throughput --write": "python benchmarks/agents.py --help",
    "python benchmarks/agents.py --only environments --write": "python benchmarks/agents.py --help",
    "python benchmarks/agents.py --only replicas --write": "python benchmarks/agents.py --help",
    "python benchmarks/diagnosis.py cartpole pendulum": DIAGNOSIS,
    "python benchmarks/diagnosis.py [NAME...]": DIAGNOSIS,
    "python benchmarks/same_bits.py OLD NEW [CONFIG...] [--tolerant] [--data-folder DIRECTORY]": (
        "python benchmarks/same_bits.py . . bowl"
    ),
    "python benchmarks/textbook.py": BOOK,
    "python benchmarks/textbook.py DIRECTORY [SEEDS]": BOOK,
    "python benchmarks/cartpole_seeds.py [SEEDS]": "python benchmarks/cartpole_seeds.py 1",
    "python benchmarks/cold_start.py [ROUNDS]": "python benchmarks/cold_start.py 1",
    "python benchmarks/configs.py NAME...": "python benchmarks/configs.py bowl",
}

# commands of pages that are followed from the first command to the last -> what is run there
DONE_ABOVE = "true"  # it does not need the page, and is run above
INSTEAD = {
    "python3 -m venv .venv": "true",  # installing is what .ci/run does
    ". activate": "true",
    "pip install -q -e .": "true",
    "tensorboard --logdir runs": DONE_ABOVE,
    "rlgrad train --config cartpole": TRAINING,
    "rlgrad train --config cartpole --replicas 2 --optimizer.lr 0.01": f"{TRAINING} --replicas 2 --optimizer.lr 0.01",
    "rlgrad train --config cartpole --help": DONE_ABOVE,
    "rlgrad train --config breast_cancer": DONE_ABOVE,
    "rlgrad train --config cartpole --wrong-sign": DONE_ABOVE,
    "rlgrad train --config cartpole --replicas 16": f"{TRAINING} --replicas 4",
    "rlgrad train --config cartpole --replicas 16 --optimizer.lr 0.01": f"{TRAINING} --replicas 4 --optimizer.lr 0.01",
}

# commands that are known to fail -> why; remove a command when it works again: an unexpected success is an error
BROKEN: dict[str, str] = {}
