import pytest

from audit.forecasts import ForecastFigures
from audit.models import QueryRun
from audit.templatetags.audit_ui import count_figure, count_words


@pytest.mark.parametrize(
    ("matches", "is_about", "figure", "words"),
    [
        (0, False, "0", "0 results"),
        (1, False, "1", "1 result"),
        (1240, False, "1,240", "1,240 results"),
        (10_000, True, "10,000+", "10,000+ results"),
    ],
)
def test_our_own_engine_counts_exactly_or_at_least(matches, is_about, figure, words):
    found = ForecastFigures(matches=matches, is_about=is_about)
    assert (count_figure(found), count_words(found)) == (figure, words)


def test_an_attached_index_is_estimated(settings):
    settings.SEARCH_ATTACH = {"index": "posts"}
    found = QueryRun(live=1240, is_about=True)
    assert (count_figure(found), count_words(found)) == ("~1,240", "about 1,240 results")
