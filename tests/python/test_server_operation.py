"""Operating the real program: metrics of real work, logs, keys, TLS, SIGHUP, running in the background."""
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from served import BINARY, TINY, Served, data_uri, picture


def metric(server, name, headers=None):
    for line in server.request("GET", "/metrics", headers=headers or {}).body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name}")


def eventually(holds, seconds=20):
    end = time.time() + seconds
    while not holds():
        assert time.time() < end, "it does not come about"
        time.sleep(0.05)


def test_stages_are_measured_where_the_work_is_done():
    with Served() as server:
        pictures = [data_uri(picture("JPEG", (640, 480)), "jpeg") for _ in range(8)]
        server.embed(pictures)
        server.embed(["a", "b", "c"])
        for stage in ("queue", "decode", "resize"):
            assert metric(server, f'tandem_{stage}_seconds_count{{kind="image"}}') >= 8
            assert metric(server, f'tandem_{stage}_seconds_sum{{kind="image"}}') > 0
        assert metric(server, 'tandem_compute_seconds_sum{kind="image"}') > 0
        assert metric(server, 'tandem_items_total{kind="image"}') >= 8
        assert metric(server, 'tandem_items_total{kind="text"}') >= 3
        assert metric(server, 'tandem_batch_size_sum{kind="image"}') >= 8
        stats = server.get("/stats").json
        assert stats["stages"]["decode"]["p50_ms"] > stats["stages"]["copy"]["p50_ms"]
        assert abs(sum(stage["share"] for stage in stats["stages"].values()) - 1) < 1e-6
        assert stats["memory"]["resident_bytes"] > 1 << 20 and stats["memory"]["gpus"] == []
        assert stats["latency"]["count"] == 2
        warm_up = stats["models"][0]["warm_up"]  # both towers, before the server was ready
        assert warm_up["passes"] >= 2 and warm_up["seconds"] > 0 and warm_up["recorded_passes"] == 0
        assert [one["items"] for one in warm_up["image_passes"]][:1] == [1]
        assert warm_up["text_passes"] == [] and warm_up["text_tokens"] == 0


def test_spans_reach_a_collector():
    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with Served("--otlp-endpoint", f"http://127.0.0.1:{collector.server_port}") as server:
        server.post("/v1/embeddings", {"input": ["a", "b"]}, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        server.post("/v1/embeddings", {"input": 1}, {"traceparent": f"00-{trace}-00f067aa0ba902b7-00"})  # not sampled
        eventually(lambda: metric(server, "tandem_spans_sent_total") > 0)
        collector.shutdown()
        collector.server_close()
        server.get("/info")
        eventually(lambda: metric(server, "tandem_spans_dropped_total") > 0)
        assert server.stop() == 0
    assert {path for path, _ in got} == {"/v1/traces"}
    spans = [span for _, body in got for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"]]
    mine = [span for span in spans if span["traceId"] == trace]
    assert len(mine) == 1 and mine[0]["parentSpanId"] == "00f067aa0ba902b7" and mine[0]["name"] == "POST /v1/embeddings"
    attributes = {one["key"]: one["value"] for one in mine[0]["attributes"]}
    assert attributes["http.response.status_code"] == {"intValue": "200"} and attributes["tandem.texts"] == {"intValue": "2"}
    assert 0 < int(mine[0]["endTimeUnixNano"]) - int(mine[0]["startTimeUnixNano"]) < 60e9


def test_a_log_file_that_may_not_grow_stops_nothing(tmp_path):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    log = tmp_path / "log"
    with Served("--log-file", log, before=small_files) as server:
        for _ in range(60):
            assert server.get("/health").status == 200
        eventually(lambda: metric(server, "tandem_log_dropped_total") > 0)
        assert server.embed("still here") and log.stat().st_size <= 4096
        assert server.stop() == 0


def test_a_reader_of_standard_error_that_leaves_does_not_end_it(tmp_path):
    port_file = tmp_path / "port"
    process = subprocess.Popen([BINARY, "serve", "--model", TINY, "--port", "0", "--port-file", port_file, "--access-log"],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        eventually(port_file.exists)
        process.stderr.close()
        for _ in range(20):
            client = http.client.HTTPConnection("127.0.0.1", int(port_file.read_text()), timeout=30)
            client.request("GET", "/metrics")
            dropped = client.getresponse().read()
            client.close()
        assert re.search(rb"tandem_log_dropped_total [1-9]", dropped)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_sighup_reads_keys_again_and_opens_the_log_anew(tmp_path):
    keys, log = tmp_path / "keys", tmp_path / "log"
    keys.write_text(f"alice {hashlib.sha256(b'one').hexdigest()}\n")
    with Served("--api-key-file", keys, "--log-file", log) as server:
        def status(key):
            return server.post("/v1/embeddings", {"input": "x"}, {"Authorization": f"Bearer {key}"}).status

        assert (status("one"), status("two")) == (200, 401)
        keys.write_text(f"alice {hashlib.sha256(b'two').hexdigest()}\n")
        log.rename(tmp_path / "old")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: status("two") == 200)
        assert status("one") == 401
        eventually(lambda: log.exists() and '"status":401' in log.read_text())
        keys.write_text("nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "not read again" in server.said())
        assert status("two") == 200
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert {"request", "server"} == {line["event"] for line in lines}
        assert "two" not in {line.get("key") for line in lines}
        assert server.stop() == 0


def test_keys_that_cannot_be_used_are_said(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("alice my-secret\n")
    done = subprocess.run([BINARY, "serve", "--model", TINY, "--port", "0", "--api-key-file", keys], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1 and "line 1" in done.stderr and "my-secret" not in done.stderr


@pytest.fixture
def certificate(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")

    def make(name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
        return tmp_path / "cert.pem", tmp_path / "key.pem"

    return make


def tls_client(port, trusted):
    context = ssl.create_default_context(cafile=trusted)
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)


def start_tls(tmp_path, cert, key):
    port_file, log = tmp_path / "port", open(tmp_path / "said", "w+")
    process = subprocess.Popen([BINARY, "serve", "--model", TINY, "--port", "0", "--port-file", port_file, "--tls-cert", cert,
                                "--tls-key", key], stdout=log, stderr=log)
    eventually(lambda: port_file.exists() or process.poll() is not None)
    return process, int(port_file.read_text())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_serves_large_bodies_and_takes_new_certificates(tmp_path, certificate):
    cert, key = certificate("first")
    process, port = start_tls(tmp_path, cert, key)
    try:
        client = tls_client(port, cert)

        def ask(method, path, body=None):
            client.request(method, path, body)
            answer = client.getresponse()
            return answer.status, answer.read()

        eventually(lambda: ask("GET", "/ready")[0] == 200)
        body = json.dumps({"input": [data_uri(picture("PNG", (300, 200)))] * 40})
        status, answer = ask("POST", "/v1/embeddings", body)
        assert status == 200 and len(json.loads(answer)["data"]) == 40
        assert "https://" in (tmp_path / "said").read_text()
        # A client that closes its sending half beneath TLS has its answer all the same.
        context = ssl.create_default_context(cafile=cert)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as half:
            half.settimeout(60)
            half.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            with socket.socket(fileno=os.dup(half.fileno())) as beneath:
                beneath.shutdown(socket.SHUT_WR)
            got = b""
            while part := half.recv(1 << 16):
                got += part
            head, answer = got.split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 200 ") and len(json.loads(answer)["data"]) == 40

        plain = socket.create_connection(("127.0.0.1", port))
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(10)
        assert not plain.recv(100).startswith(b"HTTP")

        def served_certificate():
            return ssl.get_server_certificate(("127.0.0.1", port))

        first = served_certificate()
        certificate("second")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: served_certificate() != first)
        assert ask("GET", "/health")[0] == 200  # the connection from before lives on
        second = served_certificate()
        cert.write_text("no certificate")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "not read again" in (tmp_path / "said").read_text())
        assert served_certificate() == second
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this side would refuse by itself
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            old.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_certificate_needs_its_key(tmp_path, certificate):
    cert, key = certificate("one")
    kept = tmp_path / "kept.pem"
    kept.write_bytes(key.read_bytes())
    certificate("other")
    for flags, said in ((["--tls-cert", cert], "--tls-key"), (["--tls-cert", cert, "--tls-key", kept], "key"),
                        (["--tls-cert", tmp_path / "none", "--tls-key", key], "none")):
        done = subprocess.run([BINARY, "serve", "--model", TINY, "--port", "0", *flags], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and said in done.stderr, done.stderr


def run(*args):
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=120)


def test_in_the_background_until_stop(tmp_path):
    pid_file, port_file, log = tmp_path / "pid", tmp_path / "port", tmp_path / "log"
    command = ["serve", "--model", TINY, "--port", 0, "--port-file", port_file, "--background", "--pid-file", pid_file,
               "--log-file", log]
    started = run(*command)
    assert started.returncode == 0 and "listening" in started.stderr, started.stderr
    try:
        client = http.client.HTTPConnection("127.0.0.1", int(port_file.read_text()), timeout=30)
        client.request("GET", "/ready")
        assert client.getresponse().status == 200
        pid = int(pid_file.read_text())
        assert os.getsid(pid) == pid
        again = run(*command)
        assert again.returncode == 1 and "runs already" in again.stderr
        assert int(pid_file.read_text()) == pid
    finally:
        stopped = run("stop", "--pid-file", pid_file)
    assert stopped.returncode == 0, stopped.stderr
    assert not pid_file.exists()
    try:  # ended; whoever adopted it may not have noticed yet
        assert pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        pass
    assert any('"event":"request"' in line for line in log.read_text().splitlines())
    none = run("stop", "--pid-file", pid_file)
    assert none.returncode == 1 and str(pid_file) in none.stderr


def test_stop_leaves_strangers_alone(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "pid").write_text(f"{stranger.pid}\n")  # left behind by a server that died
        assert run("stop", "--pid-file", tmp_path / "pid").returncode == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_failure_in_the_background_is_said_in_front(tmp_path):
    done = run("serve", "--model", "/no/such/model", "--port", 0, "--background", "--pid-file", tmp_path / "pid")
    assert done.returncode == 1 and "/no/such/model" in done.stderr
    assert not (tmp_path / "pid").exists()


def test_limits_are_named_when_they_are_met():
    with Served("--max-items", 4, "--max-body", 1, "--max-pixels", 1) as server:
        items = server.post("/v1/embeddings", {"input": ["x"] * 5})
        assert items.status == 413 and "4" in items.error["message"]
        body = server.post("/v1/embeddings", {"input": "x" * (2 << 20)})
        assert body.status == 413 and str(1 << 20) in body.error["message"]
        pixels = server.post("/v1/embeddings", {"input": data_uri(picture("PNG", (1200, 1000)))})
        assert pixels.status == 413 and re.search(r"1,?000,?000", pixels.error["message"]), pixels.body
        assert server.get("/livez").status == server.get("/v1/health/ready").status == server.get("/v2/health/live").status == 200
