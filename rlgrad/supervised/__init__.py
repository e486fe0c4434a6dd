"""Supervised learning: data, likelihoods, predictions."""
