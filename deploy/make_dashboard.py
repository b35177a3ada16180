#!/usr/bin/env python3
"""Writes grafana.json, the board of tandem's metrics: the panels are the list below, the rest is Grafana's form.

usage: make_dashboard.py [--check]     --check: fail where grafana.json is not what this would write
"""
import json
import pathlib
import sys

OUT = pathlib.Path(__file__).with_name("grafana.json")
SELECT = 'job=~"$job",instance=~"$instance"'


def rate(name, by="", more=""):
    inner = f"sum(rate({name}{{{SELECT}{more}}}[$__rate_interval]))"
    return inner.replace("sum(", f"sum by ({by}) (", 1) if by else inner


def quantile(q, name, by="le"):
    return f"histogram_quantile({q}, {rate(name + '_bucket', by)})"


def gauge(name, how="sum", by=""):
    return f"{how}{' by (' + by + ') ' if by else ''}({name}{{{SELECT}}})"


# title, unit, width, [(legend, query)], stacked
PANELS = [
    ("Requests a second", "reqps", 12, [("{{handler}} {{status}}", rate("http_requests_total", "handler, status"))], True),
    ("Latency of requests with inputs", "s", 12,
     [(f"p{int(100 * q)}", quantile(q, "tandem_request_seconds")) for q in (0.5, 0.95, 0.99)], False),
    ("Items a second", "ops", 8, [("{{kind}}", rate("tandem_items_total", "kind"))], True),
    ("Items in the queue", "short", 8, [("waiting", gauge("tandem_queue_items")), ("limit", gauge("tandem_queue_limit_items"))], False),
    ("Refused and failed", "reqps", 8, [("{{status}}", rate("http_requests_total", "status", ',status=~"4..|5.."'))], True),
    ("Where the time goes (busy seconds a second)", "short", 12,
     [(stage, rate(f"tandem_{stage}_seconds_sum")) for stage in ("decode", "resize", "copy", "compute")], True),
    ("Stages, p95", "s", 12,
     [(stage, quantile(0.95, f"tandem_{stage}_seconds")) for stage in ("queue", "decode", "resize", "copy", "compute")], False),
    ("Mean batch", "short", 8,
     [("{{kind}}", f"{rate('tandem_batch_size_sum', 'kind')} / {rate('tandem_batch_size_count', 'kind')}")], False),
    ("Cache hit rate", "percentunit", 8,
     [("{{cache}}", f"{rate('tandem_cache_hits_total', 'cache')} / "
       f"({rate('tandem_cache_hits_total', 'cache')} + {rate('tandem_cache_misses_total', 'cache')})")], False),
    ("Replicas", "short", 8, [("{{state}}", gauge("tandem_replicas", by="state")), ("ready servers", gauge("tandem_ready"))], False),
    ("GPU memory", "bytes", 8, [("used {{gpu}}", gauge("tandem_gpu_memory_used_bytes", "max", "gpu")),
                                ("peak {{gpu}}", gauge("tandem_gpu_memory_peak_bytes", "max", "gpu")),
                                ("total {{gpu}}", gauge("tandem_gpu_memory_total_bytes", "max", "gpu"))], False),
    ("GPU utilisation", "percentunit", 8, [("{{gpu}}", gauge("tandem_gpu_utilization_ratio", "max", "gpu"))], False),
    ("Memory", "bytes", 8, [("resident", gauge("process_resident_memory_bytes")), ("requests", gauge("tandem_request_memory_bytes"))], False),
    ("Memory growth for every 1,000 requests", "bytes", 8, [("{{instance}}", gauge("tandem_memory_growth_bytes_per_1000_requests", "max", "instance"))], False),
    ("Requests by key", "reqps", 8, [("{{key}}", rate("tandem_key_requests_total", "key")),
                                     ("{{key}} over quota", rate("tandem_key_refused_total", "key"))], False),
    ("Lost lines and spans", "ops", 8, [("log", rate("tandem_log_dropped_total")), ("spans", rate("tandem_spans_dropped_total"))], False),
]


def variable(name, query):
    return {"name": name, "label": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": query, "refId": name}, "refresh": 2, "multi": True, "includeAll": True,
            "current": {"text": "All", "value": "$__all"}}


def board():
    panels, x, y = [], 0, 0
    for number, (title, unit, width, queries, stacked) in enumerate(PANELS, 1):
        if x + width > 24:
            x, y = 0, y + 8
        panels.append({
            "id": number, "title": title, "type": "timeseries", "gridPos": {"x": x, "y": y, "w": width, "h": 8},
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {
                "fillOpacity": 20 if stacked else 0, "stacking": {"mode": "normal" if stacked else "none"}}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [{"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend,
                         "datasource": {"type": "prometheus", "uid": "${datasource}"}}
                        for i, (legend, query) in enumerate(queries)]})
        x += width
    return {"title": "Tandem", "uid": "tandem", "tags": ["tandem", "clip"], "schemaVersion": 39, "version": 1,
            "timezone": "browser", "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "panels": panels,
            "templating": {"list": [
                {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"},
                variable("job", "label_values(tandem_info, job)"),
                variable("instance", 'label_values(tandem_info{job=~"$job"}, instance)')]}}


if __name__ == "__main__":
    text = json.dumps(board(), indent=1) + "\n"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if OUT.read_text() == text else f"{OUT.name} is not what {__file__} writes: run it")
    OUT.write_text(text)
