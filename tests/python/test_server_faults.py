"""The server under faults: clients that stall, leave or send rubbish, a poison picture in every batch, a full queue, a full
disk, SIGTERM and kill -9 under load. Every request gets an answer, nothing hangs, and /ready says what is true."""
import concurrent.futures
import json
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import served
from served import Served, data_uri, picture

GOOD = data_uri(picture())
SLOW = {"model": "random:ViT-B-32"}  # a batch takes long enough to be hit


class Load:
    """tandem loadtest beside the test; `result` waits for it and returns (exit code, report)."""

    def __init__(self, server, *args):
        port = server if isinstance(server, int) else server.port
        command = [served.BINARY, "loadtest", f"http://127.0.0.1:{port}", "--json", "--size", "64x48", *map(str, args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self, timeout=120):
        out, err = self.process.communicate(timeout=timeout)
        lines = out.splitlines()
        assert lines, err
        report = json.loads(lines[0])
        counts = report["requests"]
        assert counts["sent"] == counts["right"] + counts["refused"] + counts["wrong"] + counts["unanswered"]
        return self.process.returncode, report


def raw(server, content, half_close=False, timeout=20):
    """What comes back for these bytes until the server closes; None when it does not within `timeout`."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as client:
        out = b""
        try:
            client.sendall(content)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            while True:
                got = client.recv(65536)
                if not got:
                    return out
                out += got
        except socket.timeout:
            return None
        except ConnectionError:
            return out


def post(body, path="/v1/embeddings", more=b""):
    return (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" %
            (path.encode(), len(body), more) + body)


def threads_of(server):
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def files_of(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def settles(check, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_kill_9_under_load_and_the_next_one_serves_the_rest():
    with Served(**SLOW) as first:
        port = first.port
        # As much as it can do, so that something is under way at any time.
        load = Load(port, "--rate", 50, "--seconds", 8, "--texts", 0.4, "--timeout", 20)
        time.sleep(2)
        first.process.kill()
        first.process.wait()
        command = [served.BINARY, "serve", "--model", "random:ViT-B-32", "--port", str(port), "--quiet"]
        second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code, report = load.result()
            counts, lost = report["requests"], report["unanswered"]
            # What was under way is lost, and said to be; what came while nobody listened or the model loaded was refused.
            assert code == 3 and counts["wrong"] == 0, report
            assert lost["timeout"] == lost["malformed"] == lost["not_sent"] == 0, report
            assert lost["no_connection"] + lost["closed"] > 0
            assert counts["right"] > 30, report
            assert settles(lambda: Served.get(first, "/ready").status == 200)
        finally:
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0


def test_sigterm_under_load_loses_nothing_that_it_took():
    with Served(**SLOW) as server:
        # A closed loop: every connection has a request under way when the signal comes.
        load = Load(server, "--concurrency", 24, "--seconds", 30, "--timeout", 60, "--texts", 0.3)
        time.sleep(2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        time.sleep(0.3)
        load.process.send_signal(signal.SIGINT)
        code, report = load.result()
        assert code == 130
        lost = report["unanswered"]
        assert report["requests"]["wrong"] == 0, report
        # Connections that came later found nobody; no request that was taken stays without its answer.
        assert lost["closed"] == lost["timeout"] == lost["malformed"] == 0, report
        assert report["requests"]["right"] > 20


def test_ready_is_true_to_state_while_it_drains():
    with Served("--drain-seconds", 20, **SLOW) as server:
        keep = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        body = json.dumps({"input": [data_uri(picture(size=(300, 200)))] * 16}).encode()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            work = [pool.submit(server.post, "/v1/embeddings", body) for _ in range(4)]
            # A request under way on a kept connection: its head has arrived, so the connection does not rest.
            asks = socket.create_connection(("127.0.0.1", server.port))
            asks.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n")
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            asks.sendall(b"\r\n")
            said = asks.recv(65536)
            assert said.startswith(b"HTTP/1.1 503") and b"draining" in said, said
            assert all(one.result().status == 200 for one in work)
        assert server.process.wait(30) == 0
        for one in [*keep, asks]:
            one.close()


def test_slow_loris_clients_take_no_one_elses_turn():
    with Served() as server:
        stop = threading.Event()
        trickling = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(150)]
        for client in trickling:
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n")

        def trickle():
            while not stop.wait(0.2):
                for client in trickling:
                    try:
                        client.send(b"X")
                    except OSError:
                        pass
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            code, report = Load(server, "--requests", 300, "--concurrency", 8, "--texts", 0.5).result()
            assert code == 0 and report["requests"]["right"] == 300, report
            # A head has to be there in 15 seconds, however its letters come.
            assert settles(lambda: files_of(server) < 60, 25), files_of(server)
        finally:
            stop.set()
            thread.join()
            for client in trickling:
                client.close()
        assert server.get("/ready").status == 200


def test_half_closed_sockets_get_their_answer():
    body = json.dumps({"input": ["a text", GOOD]}).encode()
    with Served() as server:
        for _ in range(20):
            answer = raw(server, post(body), half_close=True)
            assert answer is not None and answer[:12] == b"HTTP/1.1 200", answer
            assert len(json.loads(answer.split(b"\r\n\r\n", 1)[1])["data"]) == 2
        # Closed in the middle of a head and of a body: no answer is owed, none must hang.
        before = files_of(server)
        for cut in (10, 40, 100, len(post(body)) - 1):
            answer = raw(server, post(body)[:cut], half_close=True)
            assert answer is not None and not answer.startswith(b"HTTP/1.1 200")
        assert settles(lambda: files_of(server) <= before)


def test_many_idle_connections():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10_000, hard - 500)
    if count < 10_000:
        print(f"only {count} idle connections: the hard limit of open files is {hard}")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 400), hard))
    idle = []
    try:
        with Served() as server:
            first = int(pathlib.Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
            threads = threads_of(server)
            for _ in range(count):
                idle.append(socket.create_connection(("127.0.0.1", server.port)))
            code, report = Load(server, "--requests", 300, "--concurrency", 8, "--texts", 0.5).result()
            assert code == 0 and report["requests"]["right"] == 300, report
            pages = int(pathlib.Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) - first
            assert pages * resource.getpagesize() < count * 24_000 + 200e6
            assert threads_of(server) <= threads + 4
            for client in idle:
                client.close()
            idle.clear()
            assert settles(lambda: files_of(server) < 100)
            assert server.get("/ready").status == 200
    finally:
        for client in idle:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


MALFORMED = [
    b"\x00" * 40 + b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 300,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def test_malformed_http_gets_a_4xx_or_a_closed_connection():
    with Served() as server:
        for content in MALFORMED:
            answer = raw(server, content, half_close=True)
            assert answer is not None, content[:60]
            assert answer == b"" or answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5"), (content[:60], answer[:200])
            assert not answer.startswith(b"HTTP/1.1 500"), (content[:60], answer[:200])
        assert server.embed("still here") and server.get("/ready").status == 200


def test_mutated_requests_and_json_never_hang_or_break_it():
    dice = random.Random(5)
    seeds = [json.dumps(one).encode() for one in (
        {"input": ["a", GOOD], "encoding_format": "base64"}, {"input": [[1, 2, 3]]}, {"image": GOOD, "labels": ["a", "b"]},
        {"input": {"a": [1, {"b": None}]}}, {"input": "x", "dimensions": 3}, [[[[]]]])]
    seeds += [b"[" * 100_000, b'{"input":' + b"[" * 2000 + b"]" * 2000 + b"}", b'{"input":"\\ud800"}', b'{"input":1e999}', b""]
    statuses = {}
    with Served() as server:
        def attack(number):
            one = random.Random(number)
            body = bytearray(one.choice(seeds))
            for _ in range(one.randrange(6)):
                if body:
                    at = one.randrange(len(body))
                    body[at:at + one.randrange(3)] = bytes(one.randrange(256) for _ in range(one.randrange(3)))
            path = one.choice(["/v1/embeddings", "/embeddings", "/classify", "/search"])
            head = bytearray(post(bytes(body), path, b"Connection: close\r\n"))
            if one.random() < 0.3:
                head[one.randrange(60)] = one.randrange(256)
            answer = raw(server, bytes(head), half_close=True, timeout=30)
            assert answer is not None, (number, bytes(head)[:200])
            return answer[:12]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for status in pool.map(attack, [dice.randrange(1 << 30) for _ in range(1500)]):
                statuses[status] = statuses.get(status, 0) + 1
        assert b"HTTP/1.1 500" not in statuses and b"HTTP/1.1 504" not in statuses, statuses
        assert statuses.get(b"HTTP/1.1 400", 0) > 100, statuses
        assert server.embed("still here") and server.get("/ready").status == 200
        assert server.stop() == 0


def test_a_poison_picture_in_every_batch():
    whole = picture("JPEG", (300, 200))
    poisons = [whole[:len(whole) // 2], whole[:30], b"", b"\xff\xd8\xff\xe0" + b"\0" * 300, b"GIF89a", os.urandom(500),
               b"\x89PNG\r\n\x1a\n" + os.urandom(80), b"<svg/>", picture("PNG")[:-20]]
    with Served("--no-cache", "--no-coalescing", **SLOW) as server:
        want = server.embed(GOOD)[0]
        stop = threading.Event()

        def poison():
            count = 0
            while not stop.is_set():
                answer = server.post("/v1/embeddings", {"input": [GOOD, data_uri(poisons[count % len(poisons)], "jpeg")]})
                assert 400 <= answer.status < 500 and "1" in answer.error["message"], answer.body
                count += 1
            return count

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            bad = [pool.submit(poison) for _ in range(4)]
            code, report = Load(server, "--requests", 300, "--concurrency", 8, "--corrupt", 0.2).result()
            got = server.embed(GOOD)[0]
            stop.set()
            assert sum(one.result() for one in bad) > 20
        assert code == 0 and report["requests"]["right"] == 300, report
        assert max(abs(a - b) for a, b in zip(want, got)) < 1e-4
        assert server.get("/ready").status == 200


def test_a_full_queue_is_said_and_everything_else_is_answered():
    with Served() as server:
        # Sixteen times as many texts at once as a queue of some thousands holds.
        code, report = Load(server, "--concurrency", 32, "--requests", 96, "--items", 2048, "--texts", 1).result()
        assert code == 0 and report["requests"]["unanswered"] == 0, report
        assert set(report["statuses"]) == {"200", "429"}, report
        assert report["requests"]["refused"] == report["statuses"]["429"]
        refused = []
        bodies = [json.dumps({"input": [f"text {n} {i}" for i in range(2048)]}) for n in range(32)]  # no cache has them
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            refused = [one for one in pool.map(lambda body: server.post("/v1/embeddings", body), bodies) if one.status == 429]
        assert refused and all(int(one.headers["Retry-After"]) > 0 for one in refused)
        assert server.get("/ready").status == 200


def test_a_full_disk_for_logs_harms_nobody():
    with tempfile.TemporaryDirectory() as folder, open("/dev/full", "w") as full:
        port_file = pathlib.Path(folder) / "port"
        command = [served.BINARY, "serve", "--model", served.TINY, "--port", "0", "--port-file", port_file, "--log-level", "debug"]
        process = subprocess.Popen(command, stdout=full, stderr=full)
        try:
            assert settles(port_file.exists, 60) and process.poll() is None
            code, report = Load(int(port_file.read_text()), "--requests", 400, "--concurrency", 8, "--texts", 0.5, "--corrupt", 0.1).result()
            # The model may still have been loading for the first few.
            assert code == 0 and report["requests"]["right"] > 300, report
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_clients_that_are_killed_leave_nothing_behind():
    with Served(**SLOW) as server:
        assert server.embed("warm")
        files, threads = files_of(server), threads_of(server)
        for _ in range(5):
            load = Load(server, "--concurrency", 50, "--seconds", 60, "--items", 2)
            time.sleep(0.7)
            load.process.kill()
            load.process.communicate()
        assert settles(lambda: files_of(server) <= files + 2), (files, files_of(server))
        assert threads_of(server) <= threads
        begin = time.time()
        assert server.embed("still here")
        assert time.time() - begin < 10
        assert server.get("/ready").status == 200


def test_a_short_soak():
    # The tiny model's process is so small that what allocators keep counts: a leak of one picture a request would be 300 MB.
    script = served.ROOT / "bench/serve_soak.py"
    done = subprocess.run([os.sys.executable, script, served.BINARY, "--model", str(served.TINY), "--requests", "6000",
                           "--warmup-requests", "3000", "--growth-bytes", "30e6"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["unanswered"] == 0 and result["wrong"] == 0 and result["sent"] >= 6000
