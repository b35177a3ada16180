"""/v1/embeddings in every form that a request and an answer may have."""
import base64
import io
import json
import uuid

import numpy
import pytest
from PIL import Image

import served
from served import Served, data_uri, picture, plain


@pytest.fixture(scope="module")
def server():
    with Served() as running:
        yield running


def npy(array):
    out = io.BytesIO()
    numpy.save(out, array)
    return out.getvalue()


def form(parts):
    """(name, file name or None, bytes) of each part to a body and its type."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, file, content in parts:
        extra = f'; filename="{file}"\r\nContent-Type: application/octet-stream' if file else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def rows(answer):
    assert answer.status == 200, answer.body
    assert [row["index"] for row in answer.json["data"]] == list(range(len(answer.json["data"])))
    return numpy.float32([row["embedding"] for row in answer.json["data"]])


def same(a, b):
    return numpy.allclose(a, b, atol=1e-6)


def test_the_six_dialects_for_pictures(server):
    uri = data_uri(picture())
    image, text = server.embed([uri, "a cat"])
    other, = server.embed([data_uri(picture("JPEG", (70, 50)), "jpeg")])
    url = {"type": "image_url", "image_url": {"url": uri}}
    bodies = {
        "infinity": ({"modality": "image", "input": [uri, plain(picture())], "encoding_format": "float"}, [image, image]),
        "NV-CLIP NIM": ({"input": ["a cat", uri]}, [text, image]),
        "sglang": ({"input": [{"text": "a cat", "image": None}, {"text": None, "image": uri}]}, [text, image]),
        "Jina": ({"input": [{"text": "a cat"}, {"image": plain(picture())}, {"url": uri}, {"bytes": plain(picture())}],
                  "embedding_type": "float", "normalized": True, "task": "text-matching"}, [text, image, image, image]),
        "vLLM": ({"messages": [{"role": "user", "content": [url]}], "encoding_format": "float"}, [image]),
        "vLLM, several": ({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [url]},
                                        {"role": "user", "content": "a cat"}]}, [image, text]),
        "llama.cpp": ({"input": [{"content": [url]}, {"content": [{"type": "text", "text": "a cat"}]},
                                 {"content": [{"type": "image_url", "image_url": data_uri(picture("JPEG", (70, 50)), "jpeg")}]}]},
                      [image, text, other]),
    }
    for name, (body, expected) in bodies.items():
        assert same(rows(server.post("/v1/embeddings", {"model": "hf_quickgelu", **body})), expected), name
    # A string of text stays one where the client says so.
    assert not same(server.embed([uri], modality="text"), [image])


def test_what_a_dialect_does_not_allow(server):
    uri = data_uri(picture())
    part = {"type": "image_url", "image_url": {"url": uri}}
    for body, says in [({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "x"}]}]}, "2 parts"),
                       ({"input": [{"content": []}]}, "0 parts"),
                       ({"messages": [{"role": "assistant", "content": "x"}]}, "no message whose role"),
                       ({"messages": []}, "no message"),
                       ({"messages": [{"role": "user", "content": [part]}], "input": "x"}, "either"),
                       ({"input": "x", "modality": "audio"}, "modality"),
                       ({"input": [{"text": "a", "image": uri}]}, "exactly one"),
                       ({"input": ["a cat!"], "modality": "image"}, "base64"),
                       ({"input": [[1, 2]], "modality": "image"}, "must be a picture"),
                       ({"input": "x", "normalized": 1}, "true or false")]:
        answer = server.post("/v1/embeddings", body)
        assert answer.status == 400 and says in answer.error["message"], (body, answer.body)


def test_hundreds_in_one_request(server):
    pictures = [data_uri(picture("JPEG", (40 + i % 7, 30 + i % 5), (i % 256, 30, 60)), "jpeg") for i in range(300)]
    inputs = [one for i in range(300) for one in (pictures[i], f"text {i}")]
    got = numpy.float32(server.embed(inputs))
    assert got.shape == (600, 24)
    for i in 0, 1, 298, 599:
        assert numpy.allclose(got[i], server.embed([inputs[i]])[0], atol=1e-5)


def test_raw_pictures(server):
    for kind in "png", "jpeg", "webp":
        content = picture(kind.upper())
        answer = server.post("/v1/embeddings", content, {"Content-Type": f"image/{kind}"})
        assert same(rows(answer), server.embed([data_uri(content, kind)]))
    answer = server.post("/v1/embeddings?dimensions=5&encoding_format=base64", picture(), {"Content-Type": "image/png"})
    code, = [row["embedding"] for row in answer.json["data"]]
    assert same(numpy.frombuffer(base64.b64decode(code), "<f4"), server.embed([data_uri(picture())], dimensions=5)[0])
    for body, query in [(b"", ""), (b"not a picture", ""), (picture(), "?dimensions=x"), (picture(), "?encoding_format=f")]:
        answer = server.post("/v1/embeddings" + query, body, {"Content-Type": "image/png"})
        assert answer.status == 400, (body[:9], query)


def test_forms(server):
    body, head = form([("image", "a.png", picture()), ("text", None, b"a cat"), ("image", None, plain(picture()).encode()),
                       ("model", None, b"hf_quickgelu"), ("dimensions", None, b"7")])
    expected = server.embed([data_uri(picture()), "a cat", data_uri(picture())], dimensions=7)
    assert same(rows(server.post("/v1/embeddings", body, head)), expected)
    body, head = form([("model", None, b"hf_quickgelu")])
    assert server.post("/v1/embeddings", body, head).status == 400


def test_decoded_pixels_need_no_file(server):
    random = numpy.random.default_rng(3)
    for side in (28, 28), (45, 61):
        pixels = random.integers(0, 256, (5, *side, 3), dtype=numpy.uint8)
        files = []
        for one in pixels:
            out = io.BytesIO()
            Image.fromarray(one).save(out, "PNG")
            files.append(data_uri(out.getvalue()))
        expected = server.embed(files)
        head = {"Content-Type": "application/x-npy"}
        assert same(rows(server.post("/v1/embeddings", npy(pixels), head)), expected)
        assert same(rows(server.post("/v1/embeddings", npy(pixels[2]), head)), expected[2:3])


def test_pixels_that_are_none(server):
    pixels = numpy.zeros((2, 28, 28, 3), numpy.uint8)
    good = npy(pixels)
    for body, says in [(npy(pixels.astype(numpy.float32)), "uint8"), (npy(pixels[..., :1]), "shape"), (good[:-1], "does not fit"),
                       (npy(numpy.asfortranarray(pixels)), "Fortran"), (npy(pixels[:0]), "shape"), (b"", "npy"), (good[:60], "npy"),
                       (good + b"x", "does not fit"), (npy(numpy.zeros((3000, 1, 1, 3), numpy.uint8)), "limit is 2048"),
                       (good.replace(b"(2, 28, 28, 3)", b"(2, 28, 28, 9)"), "shape")]:
        answer = server.post("/v1/embeddings", body, {"Content-Type": "application/x-npy"})
        assert answer.status in (400, 413) and says in answer.error["message"], (says, answer.body)


def test_answers_by_accept(server):
    inputs = ["a cat", data_uri(picture()), "two words"]
    expected = numpy.float32(server.embed(inputs))
    body = {"input": inputs}

    def ask(accept, **more):
        answer = server.post("/v1/embeddings", {**body, **more}, {"Accept": accept})
        assert answer.status == 200, answer.body
        return answer

    answer = ask("application/x-npy")
    got = numpy.load(io.BytesIO(answer.body))
    assert got.dtype == numpy.float32 and got.tobytes() == expected.tobytes()
    assert answer.headers["Content-Type"] == "application/x-npy" and answer.headers["X-Shape"] == "3,24"
    assert int(answer.headers["X-Prompt-Tokens"]) == server.post("/v1/embeddings", body).json["usage"]["prompt_tokens"]
    half = numpy.load(io.BytesIO(ask("application/x-npy; dtype=float16").body))
    assert half.dtype == numpy.float16 and half.tobytes() == expected.astype(numpy.float16).tobytes()
    raw = ask("application/octet-stream")
    assert raw.body == expected.tobytes() and raw.headers["X-Dtype"] == "float32"
    assert ask("application/octet-stream;dtype=f16").body == expected.astype("<f2").tobytes()
    assert ask("application/octet-stream", dimensions=4).headers["X-Shape"] == "3,4"
    for accept in "application/json", "*/*", "text/html", "application/x-npy;q=0.1, application/json", "":
        assert rows(ask(accept)).tobytes() == expected.tobytes(), accept
    assert ask("application/json;q=0.5, application/x-npy").headers["Content-Type"] == "application/x-npy"
    assert server.post("/v1/embeddings", {"input": 1}, {"Accept": "application/x-npy"}).error["param"] == "input"


def test_errors_item_by_item_where_they_are_wanted(server):
    inputs = ["a cat", data_uri(picture()[:60]), data_uri(picture()), {"image": "???"}, {"image": "https://x/a.png"}, [1, 10**6]]
    good = server.embed(["a cat", data_uri(picture())])
    answer = server.post("/v1/embeddings", {"input": inputs, "item_errors": True})
    assert answer.status == 200, answer.body
    data = answer.json["data"]
    assert same(data[0]["embedding"], good[0]) and same(data[2]["embedding"], good[1])
    for i, code in (1, "bad_data"), (3, "bad_data"), (4, "unsupported"), (5, "invalid_argument"):
        assert data[i]["embedding"] is None and data[i]["error"]["code"] == code, data[i]
        assert data[i]["error"]["message"].startswith(f"input[{i}]")
    answer = server.post("/v1/embeddings", {"input": inputs, "item_errors": True}, {"Accept": "application/x-npy"})
    table = numpy.load(io.BytesIO(answer.body))
    assert numpy.isnan(table).all(axis=1).tolist() == [False, True, False, True, True, True]
    assert answer.headers["X-Failed-Items"] == "1,3,4,5"
    # Nobody asked: all or nothing, and the first that failed is named.
    answer = server.post("/v1/embeddings", {"input": inputs})
    assert answer.status == 400 and answer.error["message"].startswith("input[3]") and answer.error["param"] == "input"
    answer = server.post("/v1/embeddings", {"input": ["a", data_uri(picture()[:60])]})
    assert answer.status == 400 and answer.error["message"].startswith("input[1]")


def test_lengths(server):
    assert numpy.linalg.norm(server.embed("a cat", normalized=False)[0]) != pytest.approx(1, abs=1e-3)
    assert server.post("/v1/embeddings", {"input": "x", "dimensions": 25}).error["param"] == "dimensions"
    assert served.tandem("tokenize", "--model", served.TINY, "--json", "a cat")[0]["ids"]


def test_infinitys_path_adds_what_infinity_adds(server):
    answer = server.post("/embeddings", {"model": "hf_quickgelu", "input": "a cat"}).json
    assert answer["id"].startswith("infinity-") and len(answer["id"]) == 45 and answer["created"] > 1_600_000_000
    assert set(answer) == {"object", "data", "model", "usage", "id", "created"}
    one = server.post("/embeddings_image", {"model": "hf_quickgelu", "input": [data_uri(picture()), plain(picture())]})
    assert same(rows(one), server.embed([data_uri(picture())] * 2))
    assert server.post("/embeddings_image", {"input": ["a cat"]}).status == 400
    assert json.loads(one.body)["usage"]["prompt_tokens"] == 0
