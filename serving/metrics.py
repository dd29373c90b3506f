"""What Prometheus reads."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one server."""

    def __init__(self):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "segmentation_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "segmentation_request_seconds", "Until the answer.", ["path"], buckets=_SECONDS, registry=self._registry
        )
        self._batch = Histogram(
            "segmentation_batch_size",
            "Images and tiles of a batch, without padding.",
            buckets=[2**power for power in range(11)],
            registry=self._registry,
        )
        self._images = Counter(
            "segmentation_images", "Pictures and slices that were predicted.", registry=self._registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Adds a value that is asked for when it is read."""
        Gauge(f"segmentation_{name}", text, registry=self._registry).set_function(value)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request. The path is one of the server's own: strangers must not make up new ones."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_batch(self, size: int) -> None:
        """Counts a batch."""
        self._batch.observe(size)

    def count_image(self) -> None:
        """Counts a picture or slice."""
        self._images.inc()

    def text(self) -> bytes:
        """Returns all in Prometheus' text format."""
        return generate_latest(self._registry)
