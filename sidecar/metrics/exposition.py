"""From a snapshot of all values to a scrape: Prometheus' text format, or OpenMetrics where it is asked for."""

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar.metrics.table import METRICS, PREFIX, Kind, Snapshot

_OPENMETRICS = "application/openmetrics-text"
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def registry_of(snapshot: Callable[[], Snapshot]) -> CollectorRegistry:
    """What a scrape sees; `snapshot` is called at each, and further collectors may join."""
    registry = CollectorRegistry()
    registry.register(_Reader(snapshot))
    return registry


def encoded(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Body and Content-Type: OpenMetrics where the `Accept` header asks for it, else the text format."""
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(registry), content_type


class _Reader(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        snapshot = self._snapshot()
        for metric in METRICS:
            name, samples = PREFIX + metric.name, snapshot[metric.name]
            if metric.kind is Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
                for labels, (*counts, total) in samples.items():
                    histogram.add_metric(labels, _cumulated(metric.buckets, counts), total)
                yield histogram
                continue
            family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(
                name, metric.help, labels=metric.labels
            )
            for labels, (value,) in samples.items():
                family.add_metric(labels, value)
            yield family


def _cumulated(bounds: tuple[float, ...], counts: list[float]) -> list[tuple[str, float]]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(map(float, counts)), strict=True))
