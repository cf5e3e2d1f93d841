"""Adapters at work as a test sees them: in their roles, with what they have written, without any model."""

from audit.models import Generation, Report
from extraction.models import Adapter, AdapterRole
from tests.factories import make_adapter, make_promotion


def at_work(name: str = "", *, role: AdapterRole = AdapterRole.SERVING, share: float = 1.0) -> Adapter:
    adapter = make_adapter(name)
    make_promotion(adapter=adapter, role=role, share=share)
    return adapter


def written(report: Report, adapter: Adapter, *phrases: str, confidence: float = -0.5) -> Generation:
    """What the adapter proposes for the report's text: these phrases, where they first stand in it."""
    text = report.item_text.text
    starts = [text.index(phrase) for phrase in phrases]
    spans = [[start, start + len(phrase), confidence] for start, phrase in zip(starts, phrases, strict=True)]
    return Generation.objects.create(item_text=report.item_text, adapter=adapter, spans=spans, took_ms=12.5)
