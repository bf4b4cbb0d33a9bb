"""Metrics of the server, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_LATEST

_SECONDS = 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0


class ServerMetrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.callers = Gauge("speechtok_callers", "Callers that are connected", registry=registry)
        self.accepted = Counter("speechtok_accepted", "Connections that were accepted", registry=registry)
        self.refused = Counter("speechtok_refused", "Connections that were refused", ["reason"], registry=registry)
        self.closed = Counter("speechtok_closed", "Connections that ended", ["reason"], registry=registry)
        self.messages = Counter("speechtok_messages", "Messages by type", ["direction", "type"], registry=registry)
        self.bytes = Counter("speechtok_message_bytes", "Bytes of messages", ["direction"], registry=registry)
        self.malformed = Counter("speechtok_malformed", "Messages that could not be used", registry=registry)
        self.unknown = Counter("speechtok_unknown", "Messages of an unknown type, which are ignored", registry=registry)
        self.frames = Counter("speechtok_frames", "Frames that were encoded", registry=registry)
        self.events = Counter("speechtok_events", "Turn events", ["type"], registry=registry)
        self.failures = Counter("speechtok_agent_failures", "Exceptions of agents", registry=registry)
        self.packets = Counter(
            "speechtok_packets", "Packets of sequenced connections, by what became of them", ["fate"], registry=registry
        )
        self.throttled = Counter(
            "speechtok_throttled_seconds", "Time that reading waited for limits", registry=registry
        )
        self.latency = Histogram(
            "speechtok_latency_seconds", "From samples received to codes sent", buckets=_SECONDS, registry=registry
        )
        self.batch_seconds = Histogram(
            "speechtok_batch_seconds", "Time to encode a batch", buckets=_SECONDS, registry=registry
        )
        self.batch_rows = Histogram(
            "speechtok_batch_rows", "Rows of a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
        )

    def batch(self, rows: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
