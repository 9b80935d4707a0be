"""The stream's counters as a page for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Type

import numpy as np

from ssn_edge.errors import InputError, needs
from ssn_edge.line.results import Result, Summary

if TYPE_CHECKING:
    from prometheus_client.metrics_core import CounterMetricFamily


class Metrics:
    """Prometheus' text page at ``http://HOST:PORT/metrics``; loopback unless another host is given."""

    name = "metrics"

    def __init__(self, summary: Summary, host: str = "127.0.0.1", port: int = 9108):
        with needs("metrics", "--metrics"):
            import prometheus_client as prometheus
            from prometheus_client.metrics_core import CounterMetricFamily
        registry = prometheus.CollectorRegistry()
        registry.register(_Counts(summary, CounterMetricFamily))
        buckets = tuple(np.round(np.geomspace(0.001, 10, 25), 6))
        self._latency = prometheus.Histogram(
            "ssn_latency_seconds", "From a frame's arrival to its verdict", registry=registry, buckets=buckets
        )
        self._score = prometheus.Gauge("ssn_score", "Of the last frame", registry=registry)
        self._last = prometheus.Gauge("ssn_last_frame_time_seconds", "Since 1970", registry=registry)
        try:
            self._server, self._thread = prometheus.start_http_server(port, host, registry)
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error.strerror}); give another") from None
        self.port: int = self._server.server_port

    def write(self, result: Result) -> None:
        """Take one result."""
        self._latency.observe(result.latency_ms / 1e3)
        self._score.set(result.detection.score)
        self._last.set(result.frame.time)

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Counts:
    """The summary's counters, read when the page is."""

    def __init__(self, summary: Summary, family: Type[CounterMetricFamily]):
        self._summary, self._family = summary, family

    def collect(self) -> Iterator[CounterMetricFamily]:
        summary = self._summary
        counts = {
            "captured": "Frames that the source gave", "judged": "Frames with a verdict",
            "defects": "Frames judged NG", "dropped": "Frames that a newer one replaced",
            "broken": "Frames that could not be judged", "stalls": "Times that inference hung",
            "gap_count": "Times that the source was lost",
        }
        for name, text in counts.items():
            yield self._family(f"ssn_{name.replace('_count', 's')}", text, value=getattr(summary, name))
        for name, text in (("late", "Results a sink was too slow for"), ("failed", "Results not written")):
            family = self._family(f"ssn_sink_{name}", text, labels=["sink"])
            for sink, count in dict(getattr(summary, name)).items():
                family.add_metric([sink], count)
            yield family
