"""What strangers send to see what gets through: heads that two servers read in two ways, logs that speak to terminals, files
that cost more than they weigh, names with line breaks, keys in the wrong place."""
import hashlib
import io
import json
import re
import socket
import struct
import zlib

import pytest
from PIL import Image

from served import Served

TEXT = b'{"input":"a"}'


@pytest.fixture(scope="module")
def server():
    with Served() as running:
        yield running


def talk(server, data):
    """What the server says until it closes the connection; of one that it keeps, the first answer's head."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(data)
        said = b""
        while True:
            more = client.recv(65536)
            said += more
            if not more or (b"\r\n\r\n" in said and b"Connection: close" not in said):
                return said


def status(said):
    return int(re.match(rb"HTTP/1\.1 (\d+)", said).group(1))


def post(head, body=TEXT, version=b"1.1"):
    return b"POST /v1/embeddings HTTP/" + version + b"\r\nHost: x\r\n" + head + b"\r\n" + body


@pytest.mark.parametrize("head", [b"Content-Length: 13, 13\r\n", b"Content-Length: 13\r\nContent-Length: 13\r\n", b"Content-Length: +13\r\n",
                                  b"Content-Length: 0xd\r\n", b"Content-Length: -1\r\n", b"Content-Length:\r\n", b"Content-Length : 13\r\n",
                                  b"Content-Length: 18446744073709551629\r\n", b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
                                  b"Content-Length: 13\r\nX: a\0b\r\n", b"Content-Length: 13\r\nX: a\rb\r\n", b"Content-Length: 13\r\nX\x0b: b\r\n"])
def test_a_length_that_two_servers_may_read_in_two_ways_ends_the_connection(server, head):
    said = talk(server, post(head) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(said) == 400 and said.count(b"HTTP/1.1 ") == 1, said


def test_compressed_bodies_are_refused_by_name(server):
    answer = server.post("/v1/embeddings", TEXT, {"Content-Encoding": "gzip"})
    assert answer.status == 415 and "Content-Encoding" in answer.error["message"]
    assert server.post("/v1/embeddings", TEXT, {"Content-Encoding": "identity"}).status == 200


def test_nothing_of_a_request_ends_a_line_of_the_log_or_speaks_to_a_terminal(tmp_path):
    log = tmp_path / "log"
    head = (b"GET /\xc2\x9b31m\xe2\x80\xa8\xc2\x85x HTTP/1.1\r\nHost: x\r\nX-Request-ID: the-one\r\n"
            b"User-Agent: \xc2\x9b2J\xe2\x80\xa9\xff\"\\\r\nConnection: close\r\n\r\n")
    with Served("--log-file", log) as server:
        assert status(talk(server, head)) == 404
        assert server.stop() == 0  # the log is whole afterwards
    text = log.read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in text)
    line, = [json.loads(line) for line in text.decode().splitlines() if "the-one" in line]
    assert line["path"] == "/\x9b31m\u2028\x85x" and line["agent"].startswith("\x9b2J\u2029")


def test_a_request_id_that_is_more_than_one_word_is_replaced(server):
    for given in b"a b", b"a\xc2\x9bb", b'a"b', b"a\\b", b"x" * 129, b"a\r\n b":
        said = talk(server, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: " + given + b"\r\nConnection: close\r\n\r\n")
        assert re.search(rb"\r\nX-Request-ID: [0-9a-f]{32}\r\n", said), given


def test_scans_of_nothing_cost_no_more_than_their_picture_allows(server):
    """Each empty scan of a progressive JPEG is some twenty bytes, and a walk over all of its coefficients."""
    out = io.BytesIO()
    Image.new("RGB", (2100, 2100)).save(out, "JPEG", progressive=True)
    content = out.getvalue()
    last = content[content.rindex(b"\xff\xda"):-2]
    for scans, expected in (40, 200), (490, 413):
        many = content[:-2] + last * (scans - content.count(b"\xff\xda")) + b"\xff\xd9"
        answer = server.post("/v1/embeddings", many, {"Content-Type": "image/jpeg"})
        assert answer.status == expected, answer.body
    assert "scans" in answer.error["message"]


@pytest.mark.parametrize("size,interlaced", [((8, 8), 0), ((8, 8), 1), ((7, 9), 1), ((8, 1), 1), ((1, 1), 1)])
def test_what_follows_the_last_pixel_is_not_unpacked(server, size, interlaced):
    """A stream of zeros has a thousandth of their number of bytes."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def png(more):
        head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, interlaced)
        data = zlib.compress(bytes(1000 + more), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

    for content, expected in (png(0), 200), (png(150 << 20), 400):
        answer = server.post("/v1/embeddings", content, {"Content-Type": "image/png"})
        assert answer.status == expected, answer.body
    assert "behind the last pixel" in answer.error["message"]


@pytest.mark.parametrize("kind", ["'xu1'", "'|O'", "'<u2'", "u1", "[('a', 'u1')]", "'|u1"])
def test_arrays_of_anything_but_bytes_are_refused(server, kind):
    def array(descr):
        head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1, 2, 2, 3), }}\n".encode()
        return b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head + bytes(12)
    npy = {"Content-Type": "application/x-npy"}
    assert server.post("/v1/embeddings", array(kind), npy).status == 400
    assert server.post("/v1/embeddings", array("'|u1'"), npy).status == 200


def test_with_keys_only_reading_probes_and_the_page_is_free(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"alice {hashlib.sha256(b'secret').hexdigest()}\n")
    with Served("--api-key-file", keys) as server:
        paths = server.get("/openapi.json", {"X-API-Key": "secret"}).json["paths"]
        free = {"/", "/health", "/ready", "/ping", "/livez", "/readyz", "/healthz", "/v1/health", "/v1/health/live", "/v1/health/ready",
                "/v2/health/live", "/v2/health/ready", "/.well-known/live", "/.well-known/ready"}
        for path, methods in paths.items():
            asked = path.replace("{id}", "0")
            if "get" in methods:
                assert (server.get(asked).status == 401) == (path not in free), path
            assert server.post(asked, {}).status == 401, path
        assert server.get("/").status == server.get("/docs").status == server.get("/assets/app.js").status == 200
        for path in "/assets/../metrics", "/health/../metrics", "//metrics", "/metrics/", "/metrics;", "/metrics?api_key=secret", "/METRICS":
            assert server.get(path).status in (401, 404), path
        for name, value, expected in [("Authorization", "Bearer secret", 200), ("Authorization", "bearer secret", 200), ("X-API-Key", "secret", 200),
                                      ("Authorization", "Basic c2VjcmV0", 401), ("X-API-Key", "Secret", 401), ("X-API-Key", "secre", 401),
                                      ("X-API-Key", "", 401), ("X-API-Key", hashlib.sha256(b"secret").hexdigest(), 401)]:
            answer = server.get("/metrics", {name: value})
            assert answer.status == expected and (expected == 200 or answer.headers["WWW-Authenticate"].startswith("Bearer")), (name, value)
