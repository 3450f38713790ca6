"""What holds for every test."""

from hypothesis import settings

# No test is about speed, and machines differ.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
