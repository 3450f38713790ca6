"""What holds for every test."""

import pytest
from hypothesis import settings

# The conformance suite's comparison fails in there, and shall show what differs.
pytest.register_assert_rewrite("comparing")

# No test is about speed, and machines differ.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
