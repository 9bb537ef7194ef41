import math

from hypothesis import given
from hypothesis import strategies as st

from tidegate.desk.latency import Latencies, nearest_rank

SHARES = st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0])


def smallest_covering(values: list[int], share: float) -> int:
    """The definition, word by word: the smallest value that at least this share of all do not exceed."""
    return min(value for value in values if sum(other <= value for other in values) >= math.ceil(share * len(values)))


@given(st.lists(st.integers(0, 59_999), min_size=1, max_size=60), SHARES)
def test_percentiles_are_exact_up_to_a_minute(values, share):
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    assert latencies.percentile_ms(share) == nearest_rank(values, share) == smallest_covering(values, share)
    assert (latencies.count, latencies.max_ms) == (len(values), max(values))


def test_beyond_a_minute_the_longest_stands_for_all():
    latencies = Latencies()
    for value in (5, 61_000, 3_600_000):
        latencies.add(value)
    assert [latencies.percentile_ms(share) for share in (0.3, 0.5, 0.99)] == [5, 3_600_000, 3_600_000]


def test_clocks_that_disagree_do_not_go_below_nought():
    latencies = Latencies()
    latencies.add(-3)
    assert latencies.percentile_ms(0.5) == latencies.max_ms == 0


def test_nothing_measured_is_nothing():
    assert Latencies().percentile_ms(0.5) is None
    assert nearest_rank([], 0.5) is None
