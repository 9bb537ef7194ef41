"""The benchmark's workload is the same for Tidegate, for the peers' plain Python and for the naive twin."""

import numpy as np
import pyarrow as pa
import pytest
from benchmarks.materials import features_of, write_detector
from benchmarks.page import write
from benchmarks.peers.tidegate import decided_tables
from benchmarks.referee import expected_features, mismatches
from benchmarks.workload import FEATURES, MODEL_FEATURES, events

EVENTS = 150


@pytest.fixture(scope="module", params=[0, 0.2])
def sample(request):
    stream = events(EVENTS, late_share=request.param)
    return stream, expected_features(stream)


def test_plain_python_gives_what_the_twin_gives(sample):
    stream, wanted = sample
    given = features_of(stream)
    for name, values in zip(MODEL_FEATURES, given.T, strict=True):
        if name in FEATURES:
            np.testing.assert_allclose(values, wanted[name].to_numpy(), err_msg=name)


def test_tidegate_gives_what_the_twin_gives(sample, tmp_path):
    stream, wanted = sample
    write_detector(tmp_path / "bench", full=False)
    answers = pa.concat_tables(decided_tables(tmp_path / "bench", stream, full=False))
    assert mismatches(answers, wanted, "windows") == (0, [])


def test_a_wrong_value_and_a_missing_event_are_counted(sample):
    _, wanted = sample
    answers = wanted.set_column(1, FEATURES[0], pa.array(np.where(np.arange(EVENTS) == 3, -1, wanted[FEATURES[0]])))
    assert mismatches(answers, wanted, "windows") == (1, ["count"])
    assert mismatches(wanted.slice(1), wanted, "windows")[0] == len(FEATURES)


def test_fewer_events_mean_no_emptier_windows():
    few, many = (events(rows)["pan"].value_counts().to_pylist() for rows in (2_000, 20_000))
    assert len(many) == pytest.approx(10 * len(few), rel=0.1)


def test_the_page_says_what_was_measured_and_what_was_left_out():
    row = {
        "workload": "windows",
        "system": "tidegate",
        "events_per_s": 200,
        "spread": 0.1,
        "cpu_s_per_million": 5.0,
        "peak_rss_mb": 10,
        "mismatches": 0,
        "repeats": 2,
    }
    page = write([row, row | {"system": "other", "events_per_s": 50}], [("full", "other", "left out for time")])
    assert "| other | 50 | 0.25 |" in page
    assert "- full, other: left out for time" in page
