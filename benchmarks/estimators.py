"""Bias, variance, signal-to-noise ratio and cost of every policy-gradient estimator, on problems with a known gradient.

python benchmarks/estimators.py > docs/estimators.md
"""

import statistics
import time
from typing import Any

import torch

from rlgrad.loop import differentiate
from rlgrad.replicas import flatten
from rlgrad.testing.exact import PROBLEMS, estimates, exact_return, policy_problem

REPLICAS, EPISODES, DISCOUNT, ROUNDS = 1000, 8, 0.9, 4
SEGMENTS = {"baseline": "critic", "segment": 4, "discount_weighting": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "no baseline, whole return": {"baseline": "none", "returns": "whole"},
    "no baseline": {"baseline": "none"},
    "running mean": {"baseline": "running_mean"},
    "leave-one-out": {"baseline": "leave_one_out"},
    "best constant": {"baseline": "optimal_constant"},
    "best constant per parameter": {"baseline": "optimal_per_parameter"},
    "critic": {"baseline": "critic"},
    "critic, λ = 0.9": {"baseline": "critic", "gae_lambda": 0.9},
    "critic, λ = 0": {"baseline": "critic", "gae_lambda": 0.0},
    "batch mean": {"baseline": "batch_mean"},
    "leave-one-out, standardised": {"baseline": "leave_one_out", "standardise_advantages": True},
    "leave-one-out, standardised within each episode": {
        "baseline": "leave_one_out", "standardise_advantages": "per_episode"
    },
    "leave-one-out, without γᵗ": {"baseline": "leave_one_out", "discount_weighting": False},
    "segments of 4 steps, critic": SEGMENTS,
    "segments of 4 steps, critic, λ = 0.9": SEGMENTS | {"gae_lambda": 0.9},
}  # fmt: skip
UNBIASED = tuple(VARIANTS)[:7]  # the others are known to be biased


def measure(name: str, settings: dict[str, Any]) -> dict[str, float]:
    fewer = 4 if "segment" in settings else 1  # segments are played one after the other, so there are fewer replicas
    problem = policy_problem(name, REPLICAS // fewer, DISCOUNT, episodes=EPISODES, **settings)
    if problem.model.critic:
        fit = torch.optim.Adam(problem.model.critic.parameters(), lr=0.05)
        for step in range(60):  # train the critic only: the policy stays as it is
            estimates(problem, step)
            fit.step()
    elif problem.model.memory:
        for step in range(20):
            problem.sample(step)
    length = mean_length(name) if problem.settings.segment else 1.0  # their objective is a mean over steps
    parameters, seconds, every = list(problem.model.parameters()), [], []
    for step in range(1000, 1000 + ROUNDS * fewer):
        batch = problem.sample(step)
        began = time.process_time()
        differentiate(problem.objective(batch), parameters)
        seconds.append(time.process_time() - began)
        found = flatten(p.grad for p in problem.model.policy.parameters() if p.grad is not None).double()
        every.append(found * length)
    found, exact = torch.cat(every), exact_return(problem, name)[1]
    mean, size = found.mean(0), float(exact.norm())
    variance = float((found - mean).square().sum()) / (len(found) - 1)
    return {
        "bias": float((mean - exact).norm()) / size,
        "chance": (variance / len(found)) ** 0.5 / size,
        "variance": variance / size**2,
        "snr": (float(mean.norm()) ** 2 - variance / len(found)) / variance if variance else float("nan"),
        "cosine": float(torch.nn.functional.cosine_similarity(found, exact[None]).mean()),
        "seconds": statistics.median(seconds) * fewer,
    }


def mean_length(name: str) -> float:
    """The mean length of an episode, in steps."""
    return float(policy_problem(name, REPLICAS, DISCOUNT, episodes=EPISODES).sample(0).length.double().mean())


torch.set_num_threads(1)
print(
    f"""# Estimators of the policy gradient, measured

Each estimator is an option of `problem: reinforce`. It is measured on the processes of
[rlgrad/environments/mdp.py](../rlgrad/environments/mdp.py), whose exact gradient is known: {ROUNDS * REPLICAS:,}
independent estimates of the same gradient, from {EPISODES} episodes each, at a discount of {DISCOUNT}. This page is
made by `python benchmarks/estimators.py > docs/estimators.md`.

- **bias**: the distance of the mean of all estimates from the exact gradient, as a part of its length. "By chance" is
  what an unbiased estimator would show with this number of estimates. Names in italics are estimators known to be
  biased.
- **variance**: mean squared distance of an estimate from their mean, in units of the exact gradient's squared length.
- **SNR**: squared length of the expected gradient divided by the variance, both estimated without bias; none if the
  variance is 0.
- **cosine**: mean cosine between estimate and exact gradient.
- Segments have the gradient of another objective: the mean reward-to-go over all visited states, with equal weights.
  Here it is multiplied by the mean length of an episode, so that with a discount of 1 and exact values both gradients
  would be equal.
- **cost**: processor time of objective and gradient, compared with no baseline (without playing the episodes).

`tests/test_mdp.py` compares the unbiased estimators with the exact gradient by Hotelling's test.
`tests/problems/test_reinforce.py` sums over all trajectories of a small process: the expectation of each unbiased
estimator equals the gradient to 1e-10, that of the batch mean is too small by the factor 1 - 1/B, and those of the
other biased ones differ."""
)
for name in PROBLEMS:
    print(f"\n## {name}\n\n| estimator | bias | by chance | variance | SNR | cosine | cost |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found = {variant: measure(name, settings) for variant, settings in VARIANTS.items()}
    unit = found["no baseline"]["seconds"]
    for variant, row in found.items():
        snr = f"{row['snr']:.3g}" if row["variance"] else "-"
        title = variant if variant in UNBIASED else f"*{variant}*"
        print(
            f"| {title} | {row['bias']:.3f} | {row['chance']:.3f} | {row['variance']:.3g} | {snr} "
            f"| {row['cosine']:.2f} | {row['seconds'] / unit:.1f} |"
        )
