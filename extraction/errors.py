"""Errors of the machines: `str(error)` is the full detail for the operator's log, `sentence` what the person reads."""

from typing import ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class SearchError(Exception):
    """The search engine did not answer as asked. Subclasses say why."""

    sentence: ClassVar[str | Promise] = _("The search failed. Nothing was lost; try again.")


class SearchUnavailable(SearchError):
    """The engine cannot be reached, or refuses all work."""

    sentence = _("The search engine cannot be reached. Nothing was lost; the search can be run again when it is back.")


class SearchTimedOut(SearchError):
    """The engine was reached and did not answer in time."""

    sentence = _("The search took too long and was stopped. Nothing was lost; try a longer phrase or try again.")


class BadQuery(SearchError):
    """The query cannot be searched, however often it is tried."""

    sentence = _("This query cannot be searched. Try a shorter phrase.")


class EmptyQuery(BadQuery):
    """Nothing remains of the query after normalisation."""

    sentence = _("This query cannot be searched: nothing is left of it without punctuation and spaces.")


class IndexMissing(SearchError):
    """The engine answers, but the index is not there, or is damaged: it must be rebuilt."""

    sentence = _("The search index is not there yet. An administrator can rebuild it.")


class RebuildRunning(SearchError):
    """Another process is building a new index."""

    sentence = _("The search index is being rebuilt already.")


class AnalysisUnknown(SearchError):
    """A text analysis is named that this installation does not have, or whose table of folds changed."""

    sentence = _("The search index was made with other text rules. An administrator can rebuild it.")
