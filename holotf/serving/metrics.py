"""What the server counts, in Prometheus' text format."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server."""

    def __init__(self):
        disable_created_metrics()  # a time for each counter
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("holotf_requests", "Requests answered", ["route", "code"], registry=registry)
        self._request_s = Histogram("holotf_request_seconds", "From head to answer", ["route"], registry=registry, buckets=_SECONDS)
        self._in_hand = Gauge("holotf_requests_in_hand", "Requests accepted and not answered yet", registry=registry)
        self._rows = Histogram("holotf_batch_rows", "Rows worked on at once", ["endpoint"], registry=registry, buckets=_ROWS)
        self._batch_s = Histogram("holotf_batch_seconds", "Work on a batch", ["endpoint"], registry=registry, buckets=_SECONDS)
        self._asked = Counter("holotf_volumes_asked", "Objects asked for, kept or not", ["kept"], registry=registry)
        self._objects = Gauge("holotf_volumes", "Objects kept", registry=registry)
        self._bytes = Gauge("holotf_volumes_bytes", "Memory of the objects kept", registry=registry)

    def request(self, route: str, code: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, code).inc()
        self._request_s.labels(route).observe(seconds)

    def in_hand(self, count: int) -> None:
        """So many requests are being worked on."""
        self._in_hand.set(count)

    def batch(self, endpoint: str, rows: int, seconds: float) -> None:
        """A batch was worked on."""
        self._rows.labels(endpoint).observe(rows)
        self._batch_s.labels(endpoint).observe(seconds)

    def volume(self, kept: bool) -> None:
        """An object was asked for."""
        self._asked.labels(str(kept).lower()).inc()

    def volumes(self, count: int, size: int) -> None:
        """So many objects are kept, of so many bytes."""
        self._objects.set(count)
        self._bytes.set(size)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
