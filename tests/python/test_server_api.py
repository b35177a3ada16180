"""What the HTTP API answers: shapes, vectors equal to the command line's, one clear error for whatever is wrong."""
import base64
import json
import socket
import struct
import uuid
import zlib

import numpy
import pytest

import served
from served import Served, data_uri, picture, plain


@pytest.fixture(scope="module")
def server():
    with Served() as running:
        yield running


def from_base64(text):
    return numpy.frombuffer(base64.b64decode(text), "<f4")


def test_one_text(server):
    answer = server.post("/v1/embeddings", {"input": "a cat", "model": "hf_quickgelu", "user": "me"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json
    assert set(body) == {"object", "data", "model", "usage"} and body["object"] == "list"
    assert body["model"] == "hf_quickgelu"
    row, = body["data"]
    assert set(row) == {"object", "index", "embedding"} and row["object"] == "embedding" and row["index"] == 0
    assert len(row["embedding"]) == 24
    assert numpy.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)
    ids, = served.tandem("tokenize", "--model", served.TINY, "--json", "a cat")
    assert body["usage"] == {"prompt_tokens": len(ids["ids"]), "total_tokens": len(ids["ids"])}


def test_float_and_base64_are_the_same_bits(server):
    inputs = ["a cat", "", "zwei Wörter", data_uri(picture())]
    floats = numpy.float32(server.embed(inputs))
    codes = server.embed(inputs, encoding_format="base64")
    for row, code in zip(floats, codes):
        assert row.tobytes() == from_base64(code).tobytes()


def test_the_same_vectors_as_the_command_line(server, tmp_path):
    texts = ["a cat", "two words", "ein längerer Text mit Zeichen: é 漢字"]
    kinds = ["PNG", "JPEG", "WEBP", "BMP", "GIF"]
    files = []
    for kind in kinds:
        files.append(tmp_path / f"one.{kind.lower()}")
        files[-1].write_bytes(picture(kind))
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    rows = served.tandem("embed", "--model", served.TINY, "--json", "--images", *files, "--texts", tmp_path / "texts.txt")
    told = [row["embedding"] for row in rows]
    # Each alone: another batch may differ in the last bits, so that equal means within float32's rounding.
    got = [server.embed([data_uri(f.read_bytes(), f.suffix[1:])])[0] for f in files] + [server.embed(t)[0] for t in texts]
    assert numpy.abs(numpy.float32(told) - numpy.float32(got)).max() < 1e-6


def test_every_shape_of_input(server):
    ids, = served.tandem("tokenize", "--model", served.TINY, "--json", "a cat")
    text = server.embed("a cat")[0]
    assert numpy.allclose(server.embed(ids["ids"])[0], text, atol=1e-6)
    assert numpy.allclose(server.embed([ids["ids"], ids["ids"]])[1], text, atol=1e-6)
    assert numpy.allclose(server.embed([{"text": "a cat"}])[0], text, atol=1e-6)
    uri = data_uri(picture())
    image = server.embed(uri)[0]
    plain = uri.split(",")[1]
    mixed = server.embed(["a cat", uri, {"image": uri}, {"image": plain}, {"type": "image_url", "image_url": {"url": uri}},
                          {"type": "text", "text": "a cat"}])
    for row, expected in zip(mixed, [text, image, image, image, image, text]):
        assert numpy.allclose(row, expected, atol=1e-6)
    assert numpy.dot(text, image) < 0.99


def test_dimensions_are_cut_and_scaled_again(server):
    full, cut = numpy.array(server.embed("a cat")[0]), numpy.array(server.embed("a cat", dimensions=5)[0])
    assert len(cut) == 5
    assert numpy.allclose(cut, full[:5] / numpy.linalg.norm(full[:5]), atol=1e-6)


def test_classify(server):
    labels = ["a red thing", "something blue", "a cat, or a dog"]
    body = {"image": data_uri(picture()), "labels": labels}
    best = server.post("/classify", body).json["results"][0]["labels"]
    assert {one["label"] for one in best} == set(labels)
    assert sum(one["probability"] for one in best) == pytest.approx(1, abs=1e-5)
    assert [one["logit"] for one in best] == sorted((one["logit"] for one in best), reverse=True)
    two = server.post("/classify", {"images": [data_uri(picture()), plain(picture("JPEG"))],
                                    "labels": labels, "templates": ["a photo of {}", "{}"], "top": 2}).json["results"]
    assert len(two) == 2 and all(len(one["labels"]) == 2 for one in two)


def test_one_bad_picture_fails_alone(server):
    good, broken = data_uri(picture()), data_uri(picture()[:60])
    answer = server.post("/classify", {"images": [good, broken, "?", good], "labels": ["red", "blue"]})
    assert answer.status == 200, answer.body
    first, second, third, last = answer.json["results"]
    assert len(first["labels"]) == 2 and {one["label"] for one in last["labels"]} == {"red", "blue"}
    for index, failed in (1, second), (2, third):
        assert set(failed) == {"error"} and set(failed["error"]) == {"code", "message"}
        assert failed["error"]["message"].startswith(f"images[{index}]")
    # OpenAI's shape has no place for an item's error: there the request fails, and says whose fault it was.
    answer = server.post("/v1/embeddings", {"input": [good, broken]})
    assert answer.status == 400 and answer.error["message"].startswith("input[1]")


def test_classify_says_what_the_command_line_says(server, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(picture())
    told, = served.tandem("classify", "--model", served.TINY, "--json", path, "--labels", "red,green,blue",
                          "--template", "a {} thing", "--template", "{}")
    got = server.post("/classify", {"image": plain(path.read_bytes()),
                                    "labels": ["red", "green", "blue"], "templates": ["a {} thing", "{}"]})
    for one, other in zip(told["labels"], got.json["results"][0]["labels"]):
        assert one["label"] == other["label"]
        assert one["logit"] == pytest.approx(other["logit"], abs=1e-4)
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_without_a_template_both_use_the_same(server, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(picture())
    told, = served.tandem("classify", "--model", served.TINY, "--json", path, "--labels", "red,green,blue")
    got = server.post("/classify", {"image": plain(path.read_bytes()), "labels": ["red", "green", "blue"]})
    assert [one["label"] for one in told["labels"]] == [one["label"] for one in got.json["results"][0]["labels"]]
    for one, other in zip(told["labels"], got.json["results"][0]["labels"]):
        assert one["logit"] == pytest.approx(other["logit"], abs=1e-4)


def test_classify_by_form_and_by_picture(server):
    expected = server.post("/classify", {"image": plain(picture()), "labels": ["red", "blue"]}).json
    boundary = uuid.uuid4().hex
    form = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
        for name, extra, value in [("image", '; filename="a.png"', picture()), ("labels", "", b"red,blue")])
    form += f"--{boundary}--\r\n".encode()
    got = server.post("/classify", form, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert got.json["results"] == expected["results"]
    got = server.post("/classify?labels=red,blue", picture(), {"Content-Type": "image/png"})
    assert got.json["results"] == expected["results"]


def test_what_is_served(server):
    models = server.get("/v1/models").json
    assert models["object"] == "list" and models["data"][0]["id"] == "hf_quickgelu"
    assert set(models["data"][0]) == {"id", "object", "created", "owned_by"}
    info = server.get("/info").json
    assert info["status"] == "ready" and info["model"]["embed_dim"] == 24 and info["model"]["demo"] is False
    assert info["limits"]["max_body_bytes"] == 64 << 20


GOOD = {"input": "x"}
WRONG = [
    # path, body, status, code, what the message says
    ("/v1/embeddings", "", 400, "bad_data", "the body is empty"),
    ("/v1/embeddings", "{", 400, "bad_data", "not valid JSON"),
    ("/v1/embeddings", b'{"input": "\xff"}', 400, "bad_data", "not valid JSON"),
    ("/v1/embeddings", "[" * 100_000, 400, "bad_data", "not valid JSON"),
    ("/v1/embeddings", "[]", 400, "bad_data", "must be a JSON object"),
    ("/v1/embeddings", {}, 400, "invalid_argument", '"input" is missing'),
    ("/v1/embeddings", {"input": []}, 400, "invalid_argument", "empty list"),
    ("/v1/embeddings", {"input": ["a", None]}, 400, "invalid_argument", "input[1]"),
    ("/v1/embeddings", {"input": [[1, "a"]]}, 400, "invalid_argument", "input[0]"),
    ("/v1/embeddings", {"input": [[999999]]}, 400, None, "input"),
    ("/v1/embeddings", {"input": ["a", "data:image/png;base64,???"]}, 400, "bad_data", "input[1]: base64"),
    ("/v1/embeddings", {"input": ["a", "data:image/png;base64,Zm9v"]}, 400, None, "input[1]"),
    ("/v1/embeddings", {"input": [data_uri(picture()), data_uri(picture()[:60])]}, 400, None, "input[1]"),
    ("/v1/embeddings", {"input": {"image": "https://example.com/a.png"}}, 400, "unsupported", "fetches no URLs"),
    ("/v1/embeddings", {"input": {"image": "file:///etc/passwd"}}, 400, "invalid_argument", "data URI"),
    ("/v1/embeddings", {"input": "x", "model": "gpt"}, 404, "not_found", "not served"),
    ("/v1/embeddings", {"input": "x", "dimensions": 25}, 400, "invalid_argument", "dimensions"),
    ("/v1/embeddings", {"input": "x", "encoding_format": "int8"}, 400, "invalid_argument", "encoding_format"),
    ("/v1/embeddings", {"input": ["x"] * 2049}, 413, "too_large", "the limit is 2048"),
    ("/v1/embeddings", {"input": "x" * (1 << 20) + "y"}, 413, "too_large", "the limit is 1048576"),
    ("/classify", {"labels": ["a"]}, 400, "invalid_argument", "no picture"),
    ("/classify", {"image": data_uri(picture())}, 400, "invalid_argument", "labels"),
    ("/classify", {"image": data_uri(b""), "labels": ["a"]}, 400, None, "image"),
    ("/classify", {"image": data_uri(picture()), "labels": ["a"], "template": "none"}, 400, "invalid_argument", "{}"),
    # A small request whose answer would take gigabytes.
    ("/classify", {"images": [data_uri(picture())] * 200, "labels": [str(i) for i in range(30_000)]}, 413, "too_large", "top"),
    ("/search", {"text": "a", "image": "Zm9v"}, 400, "invalid_argument", "either"),
    ("/nothing", {}, 404, "not_found", "nothing at /nothing"),
    ("/health", {}, 405, "method_not_allowed", "GET"),
]


@pytest.mark.parametrize("path,body,status,code,says", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said(server, path, body, status, code, says):
    answer = server.post(path, body)
    assert answer.status == status, answer.body
    error = answer.error
    assert set(error) == {"message", "type", "code", "param"}
    assert says in error["message"] and "\n" not in error["message"]
    assert code is None or error["code"] == code
    assert server.embed("still here")


def test_a_picture_of_too_many_pixels_is_refused(server):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    answer = server.post("/v1/embeddings", {"input": data_uri(bomb)})
    assert answer.status == 413, answer.body
    assert "178956970" in answer.error["message"].replace(",", "")


def test_a_body_that_is_too_large_is_refused():
    with Served("--max-body", 1) as small:
        answer = small.post("/v1/embeddings", b" " * (1 << 20) + b"x")
        assert answer.status == 413 and "the limit is 1048576 bytes" in answer.error["message"]
        assert small.embed("still here")


def test_half_a_request_harms_nobody(server):
    for text in [b"", b"GET", b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", b"\x16\x03\x01\x02"]:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(text)
        connection.close()
    assert server.get("/health").status == 200


def test_numbers_survive_json(server):
    raw = server.post("/v1/embeddings", GOOD).body
    again = json.dumps(json.loads(raw))
    assert json.loads(again) == json.loads(raw)
