import pytest
import torch

from rlgrad.advantages import discount_factors, leave_one_out, reward_to_go


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.5])
def test_reward_to_go_is_the_discounted_sum_of_what_follows(float64: None, discount: float) -> None:
    reward = torch.randn(2, 5, 3)
    for t in range(5):
        expected = sum(discount ** (k - t) * reward[:, k] for k in range(t, 5))
        assert torch.allclose(reward_to_go(reward, discount)[:, t], expected)


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    returns = torch.tensor([[[1.0, 2.0, 6.0], [0.0, 4.0, 0.0]]])  # [1, 2, 3]
    assert leave_one_out(returns).tolist() == [[[4.0, 3.5, 1.5], [2.0, 0.0, 2.0]]]


def test_leave_one_out_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out(torch.ones(1, 2, 1))


def test_discount_factors() -> None:
    assert torch.allclose(discount_factors(3, 0.5), torch.tensor([[1.0], [0.5], [0.25]]))
    assert discount_factors(3, 1.0).tolist() == [[1.0]] * 3
