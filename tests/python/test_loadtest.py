"""tandem loadtest against a running server: what it sends, counts, writes, and when it fails."""
import json
import xml.etree.ElementTree

import pytest

from served import Served, picture


@pytest.fixture(scope="module")
def server():
    with Served() as running:
        yield running


@pytest.fixture(scope="module")
def url(server):
    return f"http://127.0.0.1:{server.port}"


def balanced(report):
    counts = report["requests"]
    assert counts["sent"] == counts["answered"] + counts["unanswered"]
    assert counts["answered"] == counts["right"] + counts["refused"] + counts["wrong"]
    assert counts["answered"] == sum(report["statuses"].values())
    assert counts["unanswered"] == sum(report["unanswered"].values())
    return counts


def test_a_mixed_load_is_answered_and_accounted_for(tandem, url, tmp_path):
    out, svg = tmp_path / "report.json", tmp_path / "plot.svg"
    ran = tandem("loadtest", url, "--rate", 150, "--seconds", 2, "--texts", 0.4, "--corrupt", 0.2, "--pictures", 12,
                 "--json", out, "--plot", svg)
    assert ran.code == 0, ran.out + ran.err
    assert "requests/s" in ran.out and "corrected for coordinated omission" in ran.out
    report = json.loads(out.read_text())
    counts = balanced(report)
    assert 200 < counts["sent"] < 420 and counts["right"] == counts["sent"]
    assert 0 < counts["right_refusals"] < counts["sent"] / 3
    assert set(report["statuses"]) == {"200", "400"}
    assert report["latency_ms"]["count"] == report["text_latency_ms"]["count"] + report["image_latency_ms"]["count"]
    assert report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    assert xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_many_items_a_request_and_json_on_standard_output(tandem, url):
    ran = tandem("loadtest", url, "--concurrency", 3, "--requests", 12, "--items", 5, "--size", "50x40", "--json")
    (report,) = ran.rows
    assert ran.code == 0 and balanced(report)["right"] == 12
    assert report["items_per_second"] > report["requests_per_second"]
    # The same, with the URL behind the flag.
    assert tandem("loadtest", "--json", url, "--requests", 2, "--texts", 1).rows[0]["requests"]["right"] == 2


def test_get_body_file_and_headers(tandem, url, tmp_path):
    assert tandem("loadtest", url + "/health", "--get", "--requests", 20, "--json").rows[0]["statuses"] == {"200": 20}
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"input": "x"}))
    ran = tandem("loadtest", url + "/v1/embeddings", "--body-file", body, "--requests", 5, "--header", "X-One: 1", "--json")
    assert ran.code == 0 and ran.rows[0]["statuses"] == {"200": 5}


def test_a_folder_of_pictures(tandem, url, tmp_path):
    for kind in ("PNG", "JPEG", "WEBP"):
        (tmp_path / f"one.{kind.lower()}").write_bytes(picture(kind))
    ran = tandem("loadtest", url, "--data", tmp_path, "--requests", 30, "--corrupt", 0.3, "--json")
    assert ran.code == 0, ran.rows
    assert ran.rows[0]["load"]["pictures"] == 3 and balanced(ran.rows[0])["right"] == 30


def test_wrong_answers_fail_it(tandem, url):
    ran = tandem("loadtest", url + "/no/such/path", "--requests", 4, "--texts", 1, "--json")
    assert ran.code == 3
    assert balanced(ran.rows[0])["wrong"] == 4 and ran.rows[0]["wrong_examples"][0].startswith("answered 404")
    # 200, but no vectors.
    assert tandem("loadtest", url + "/health", "--requests", 2, "--texts", 1).code == 3


@pytest.mark.parametrize("arguments, code, words", [
    (["http://127.0.0.1:1"], 1, ["no server", "127.0.0.1:1"]),
    ([], 2, ["no server given"]),
    (["127.0.0.1:80"], 1, ["http://"]),
    (["http://127.0.0.1:1", "--rate", "0", "--arrivals", "poisson"], 2, ["--rate"]),
    (["http://127.0.0.1:1", "--size", "12"], 2, ["640x480"]),
    (["http://127.0.0.1:1", "--texts", "2"], 1, ["between 0 and 1"]),
    (["http://127.0.0.1:1", "--header", "nothing"], 2, ["Name: value"]),
    (["http://127.0.0.1:1", "--data", "/no/such/folder"], 1, ["/no/such/folder"]),
    (["http://127.0.0.1:1", "--plot", "/no/such/folder/x.svg"], 1, ["/no/such/folder"]),
])
def test_mistakes_are_said(tandem, arguments, code, words):
    ran = tandem("loadtest", *arguments)
    assert ran.code == code, ran.err
    assert len([line for line in ran.error_lines if not line.startswith("see:")]) == 1
    for word in words:
        assert word in ran.err
