"""Hypothesis's profiles. No test depends on how fast the machine is; `fuzz` is the long run of `make fuzz`."""

from hypothesis import HealthCheck, settings

settings.register_profile("plain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("plain"), max_examples=10_000)
settings.load_profile("plain")
