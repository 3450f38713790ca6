"""Triton around the model: repository, validation, scheduling, statistics, log."""
