"""Instances, and what a model forks, in processes of their own."""
