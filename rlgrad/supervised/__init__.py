"""The wing of supervised learning: data, likelihoods, predictions."""
