import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats
from torch import nn

from rlgrad.agents.critic import Critic
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.pictures import Sight
from rlgrad.agents.policies import CategoricalPolicy
from rlgrad.environments.spaces import pictures
from rlgrad.networks import MLP, frozen, orthogonal
from rlgrad.streams import Purpose, streams
from rlgrad.supervised.classifier import LinearClassifier


def test_an_mlp_is_r_ordinary_networks_side_by_side() -> None:
    model = MLP(3, 2, (5, 4), streams(0, 2, Purpose.INITIAL), "tanh", output_gain=1.0)
    x = torch.randn(2, 7, 6, 3)
    for replica in range(2):
        layers: list[nn.Module] = []
        for layer in model.layers:
            plain = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
            plain.load_state_dict({"weight": layer.weight[replica].T, "bias": layer.bias[replica, 0]})
            layers += [plain, nn.Tanh()]
        assert torch.allclose(nn.Sequential(*layers[:-1])(x[replica]), model(x)[replica], atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (4, 4)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    q = orthogonal(*shape, np.random.default_rng(0))
    gram = q @ q.T if shape[0] <= shape[1] else q.T @ q
    assert torch.allclose(gram, torch.eye(min(shape), dtype=q.dtype), atol=1e-12)


def test_a_policy_starts_out_almost_uniform() -> None:
    policy = CategoricalPolicy(MLP(4, 3, (32,), streams(0, 2, Purpose.INITIAL)), 3)
    assert torch.allclose(policy(torch.randn(2, 50, 4)).probs, torch.tensor(1 / 3), atol=0.02)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_frozen_network_says_what_the_network_says(float64: None, activation: str) -> None:
    """In numpy, as in torch: image, normaliser and layers; and it is the parameters as they are that speak."""
    drawn = streams(0, 3, Purpose.INITIAL)
    normaliser = Normaliser(3, 5)
    normaliser.observe(3 + 2 * torch.randn(3, 40, 2, 5), torch.ones(3, 40, 2, dtype=torch.bool))
    normaliser.advance()
    plain = nn.Sequential(normaliser, MLP(5, 4, (6, 7), drawn, activation, 1.0))
    box = spaces.Box(0, 255, (9, 8, 3), np.uint8)
    sight = Sight(box, pictures(box), drawn)
    image = nn.Sequential(sight, MLP(sight.features, 2, (4,), drawn))
    seen = torch.randn(3, 11, 5) * 10
    shown = torch.randint(256, (3, 2, 9, 8, 3), dtype=torch.uint8)
    for network, x in ((plain, seen), (image, shown)):
        before = x.clone()
        for _ in range(2):
            found = frozen(network)(x.numpy())
            np.testing.assert_allclose(found, network(x).detach().numpy(), rtol=1e-12, atol=1e-12)
            assert torch.equal(x, before)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.1)


def test_gumbel_noise_draws_from_the_softmax() -> None:
    policy = CategoricalPolicy(nn.Identity(), 4)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    noise = torch.from_numpy(policy.noise(np.random.default_rng(0), 40_000))
    counts = torch.bincount(torch.from_numpy(policy.choose(logits.numpy(), noise.numpy())), minlength=4).double()
    expected = logits.softmax(0).double() * 40_000
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 21.1  # the 0.9999 quantile with 3 degrees of freedom


@pytest.mark.parametrize("classes", [2, 5])
def test_the_classifier_s_log_probabilities(classes: int) -> None:
    model = LinearClassifier(2, 3, classes)
    with torch.no_grad():
        model.linear.weight.normal_()
        model.linear.bias.normal_()
    x, y = torch.randn(2, 6, 3), torch.randint(classes, (2, 6))
    logits = x @ model.linear.weight + model.linear.bias
    if classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    expected = logits.log_softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(model(x).log_prob(y.float() if classes == 2 else y), expected, atol=1e-5)


def test_orthogonal_matrices_are_uniformly_distributed() -> None:
    """An element of a 2x2 rotation or reflection is the cosine of a uniform angle: the arcsine law (Mezzadri 2007)."""
    rng = np.random.default_rng(1)
    drawn = np.stack([orthogonal(2, 2, rng).numpy() for _ in range(2000)])
    for row, column in ((0, 0), (1, 1), (0, 1)):
        assert stats.kstest(drawn[:, row, column], stats.arcsine(-1, 2).cdf).pvalue > 1e-3


def test_a_constant_feature_is_zero() -> None:
    normaliser = Normaliser(1, 2)
    seen = torch.tensor([[[[3.0, 1.0]], [[3.0, 2.0]]]])  # [R, T, B, D]
    normaliser.observe(seen, torch.ones(1, 2, 1, dtype=torch.bool))
    normaliser.advance()
    assert normaliser(seen)[0, :, 0].tolist() == [[0.0, -1.0], [0.0, 1.0]]
    assert normaliser.frozen()(seen[0].numpy()).squeeze().tolist() == [[0.0, -1.0], [0.0, 1.0]]


def test_a_critic_s_guess_is_in_units_of_the_return() -> None:
    """The network says 0.5 everywhere; returns have the mean 10 and the deviation 4."""
    unit = ReturnUnit(1)
    returns = torch.tensor([6.0, 14.0]).reshape(1, 2, 1, 1)
    unit.observe(returns, torch.ones(1, 2, 1, dtype=torch.bool))
    unit.advance()
    network = MLP(1, 1, (), streams(0, 1, Purpose.INITIAL))
    with torch.no_grad():
        network.layers[0].weight.zero_()
        network.layers[0].bias.fill_(0.5)
    assert Critic(network, unit)(torch.zeros(1, 3, 1)).tolist() == [[12.0] * 3]
    assert Critic(network)(torch.zeros(1, 3, 1)).tolist() == [[0.5] * 3]


@pytest.mark.parametrize(("returns", "deviation"), [([6e-9, 14e-9], 4e-9), ([6e9, 14e9], 4e9), ([5.0, 5.0], 1e-4)])
def test_a_unit_of_returns_is_as_small_as_they_are(returns: list[float], deviation: float) -> None:
    """Equal returns give none: what comes next would be infinite in it."""
    unit = ReturnUnit(1)
    unit.observe(torch.tensor(returns).reshape(1, 2, 1, 1), torch.ones(1, 2, 1, dtype=torch.bool))
    unit.advance()
    assert unit.mean_and_deviation(torch.zeros(1))[1].item() == pytest.approx(deviation, rel=1e-6)
