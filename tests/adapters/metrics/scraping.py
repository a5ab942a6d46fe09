"""Read what a collector writes, with the parser of ``prometheus_client``."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from adapters.metrics.families import Family
from adapters.metrics.prometheus import RecoveryCollector, render

Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(collector: RecoveryCollector) -> Samples:
    """Every sample of *collector*, by name and labels."""
    _, text = render(collector)
    found: Samples = {}
    for metric in text_string_to_metric_families(text.decode()):
        for sample in metric.samples:
            name = (sample.name, frozenset(sample.labels.items()))
            assert name not in found, f"{sample} is there twice"
            found[name] = sample.value
    return found


def value(samples: Samples, family: Family, **labels: str) -> float | None:
    """The one sample of *family* with these *labels*; None if it is not there."""
    return samples.get((family.shown, frozenset(labels.items())))


def series(samples: Samples, family: Family, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
    """The samples of *family* that have these labels among theirs."""
    return {of: number for (name, of), number in samples.items() if name == family.shown and labels.items() <= set(of)}
