"""Models whose requests go through other models."""
