"""The program's metrics: the `table` of what there is, the `counting` of one process, the `exposition` to a scraper."""

from sidecar.metrics.counting import Metrics
from sidecar.metrics.exposition import encoded, registry_of
from sidecar.metrics.table import METRICS, PREFIX, Kind, Labels, Series, Snapshot

__all__ = ["METRICS", "PREFIX", "Kind", "Labels", "Metrics", "Series", "Snapshot", "encoded", "registry_of"]
