"""The server's life: from the first moment to a clean end, with many clients, and with clients that leave."""
import base64
import concurrent.futures
import json
import pathlib
import random
import resource
import signal
import socket
import subprocess
import time

import served
from served import Served, data_uri, picture


def test_it_answers_while_the_model_loads_and_then_is_ready():
    # Weights made from a seed: a load that takes a moment.
    with Served("--vocab", served.TINY, model="random:ViT-B-32", wait=None) as server:
        assert server.get("/health").status == 200
        first = server.get("/ready")
        assert first.status == 200 or (first.status == 503 and first.json["status"] == "loading" and first.headers["Retry-After"])
        refused = server.post("/v1/embeddings", {"input": "x"})
        assert refused.status == 200 or refused.error["code"] == "unavailable"
        while server.get("/ready").status != 200:
            time.sleep(0.02)
        assert len(server.embed("x")[0]) == 512
        assert server.stop() == 0


def test_a_model_that_is_not_there_ends_it_with_the_reason():
    done = subprocess.run([served.BINARY, "serve", "--model", "/no/such/model", "--port", "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "/no/such/model" in done.stderr


def test_a_taken_port_is_said():
    with Served() as server:
        done = subprocess.run([served.BINARY, "serve", "--model", served.TINY, "--port", str(server.port)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert str(server.port) in done.stderr and "--port" in done.stderr


def test_it_listens_on_this_machine_only():
    with Served() as server:
        port = f"{server.port:04X}"
        listening = [line.split()[1] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert [one for one in listening if one.endswith(":" + port)] == ["0100007F:" + port]


def limit_files(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_of_open_files_is_raised():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with Served("--max-connections", 100, before=limit_files(64, min(hard, 2048))) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(90)]
        assert server.get("/health").status == 200
        assert "open files" not in server.said()
        for client in clients:
            client.close()
    with Served(before=limit_files(64, 400)) as server:
        assert "at most 272 connections at once, not 12000: the system's hard limit of open files is 400" in server.said()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(272)]
        late = socket.create_connection(("127.0.0.1", server.port))
        assert late.recv(1000).startswith(b"HTTP/1.1 503")
        for client in clients:
            client.close()
        assert server.embed("still here")


def test_sigterm_lets_work_finish():
    with Served("--vocab", served.TINY, model="random:ViT-B-32") as server:
        # Each another picture, or all but one would be answered with that one's vector, before the signal.
        body = {"input": [data_uri(picture(size=(300 + i, 200))) for i in range(40)]}
        resting = socket.create_connection(("127.0.0.1", server.port))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            work = pool.submit(server.post, "/v1/embeddings", body)
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            answer = work.result()
        assert answer.status == 200 and len(answer.json["data"]) == 40
        assert answer.headers["Connection"] == "close"
        assert resting.recv(1) == b""
        resting.close()
        assert server.process.wait(30) == 0


def test_sigint_and_an_idle_server_end_at_once():
    with Served() as server:
        begin = time.time()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert time.time() - begin < 5


def test_thirty_two_clients_at_once():
    pictures = [data_uri(picture(kind), kind.lower()) for kind in ("PNG", "JPEG", "WEBP")]
    with Served() as server:
        texts = {f"text {i}": server.embed(f"text {i}", encoding_format="base64")[0] for i in range(6)}

        def client(seed):
            dice = random.Random(seed)
            for _ in range(12):
                kind = dice.randrange(6)
                if kind == 0:
                    assert len(server.embed(pictures)) == 3
                elif kind == 1:
                    text = dice.choice(list(texts))
                    one = base64.b64decode(server.embed(text, encoding_format="base64")[0])
                    import numpy
                    other = base64.b64decode(texts[text])
                    assert abs(numpy.frombuffer(one, "<f4") - numpy.frombuffer(other, "<f4")).max() < 1e-5
                elif kind == 2:
                    answer = server.post("/classify", {"image": pictures[0], "labels": ["a", f"label {dice.randrange(3)}"]})
                    assert answer.status == 200
                elif kind == 3:
                    assert server.post("/v1/embeddings", {"input": ["x", "data:image/png;base64,Zm9v"]}).status == 400
                elif kind == 4:
                    assert server.get("/health").status == 200
                else:
                    answer = server.embed([f"t{i}" for i in range(40)] + [pictures[1]])
                    assert len(answer) == 41
            return True

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            assert all(pool.map(client, range(32)))
        assert server.get("/ready").status == 200
        assert server.stop() == 0


def test_clients_that_leave_cost_nothing_for_long():
    with Served("--vocab", served.TINY, model="random:ViT-B-32") as server:
        body = json.dumps({"input": [data_uri(picture(size=(300, 200)))] * 24}).encode()
        begin = time.time()
        one = server.post("/v1/embeddings", body)
        assert one.status == 200
        alone = time.time() - begin
        for _ in range(10):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.02)
            connection.close()
        begin = time.time()
        assert len(server.embed("x")) == 1
        # Ten of them would have taken ten times as long as one.
        assert time.time() - begin < 6 * alone + 2
        assert server.get("/ready").status == 200
