import pytest

from tests.benchmarks.export_memory import measure

pytestmark = pytest.mark.slow


def test_memory_of_an_export_does_not_grow_with_its_rows():
    part, whole = measure(200_000, ["parquet"], part=20_000)
    assert part["rows"] < 25_000
    assert whole["rows"] == 200_000
    # A row is about 2 kB in memory: were they kept, the whole would take 360 MB more. Arrow's own pool varies by 20 MB.
    assert whole["peak_mb"] - part["peak_mb"] < 60
