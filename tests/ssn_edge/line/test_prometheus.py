"""The metrics page, read by Prometheus' own parser."""

import urllib.request

import numpy as np
import pytest
import waiting

from ssn_edge.line import sinks, stream

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


def test_metrics_page(detector):
    client = pytest.importorskip("prometheus_client", reason="the [metrics] extra is not installed")
    from prometheus_client.parser import text_string_to_metric_families

    summary = stream.Summary()
    sink = sinks.Metrics(summary, port=0)
    pages = []

    def page():
        text = urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=60).read().decode()
        return text if "ssn_latency_seconds_count 4.0" in text else None

    def ask(result):
        if result.number == 4:
            pages.append(waiting.until(page))  # until the sink's thread has written it, too

    stream.run([DARK, BRIGHT, BRIGHT, np.zeros((2, 2, 2), np.uint8), DARK], detector, [sink],
               on_result=ask, summary=summary)
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(pages[0]) for sample in family.samples
    }
    assert samples["ssn_judged_total", None] == 4 and samples["ssn_defects_total", None] == 2
    assert samples["ssn_broken_total", None] == 1 and samples["ssn_gaps_total", None] == 0
    assert samples["ssn_latency_seconds_bucket", "+Inf"] == samples["ssn_latency_seconds_count", None] == 4
    assert samples["ssn_sink_failed_total", None] == 0 and client
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=60)
