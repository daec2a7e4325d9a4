"""What the service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "micrec_requests", "Requests, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "micrec_request_seconds",
            "From the first byte read to the last written.",
            ["route"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self.batches = Histogram(
            "micrec_batch_size", "Requests that one search answered.", registry=self.registry, buckets=SIZES
        )
        self.reloads = Counter(
            "micrec_reloads", "Bundles read again, by result: taken or refused.", ["result"], registry=self.registry
        )
        self.items = Gauge("micrec_items", "Items in the index.", registry=self.registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
