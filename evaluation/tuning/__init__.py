"""Choices on validation: what makes masks of probabilities."""
