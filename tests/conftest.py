"""Hypothesis's profiles: `fuzz` is the long run of `make fuzz`."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=10_000, deadline=None)
