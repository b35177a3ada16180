"""What published clients of other servers send, and what they insist on in the answer: Cohere's, infinity's, Hugging Face's,
Jina's, Roboflow's and OpenAI's, as their packages of 2026 were seen to do it."""
import base64

import numpy
import pytest

from served import Served, data_uri, picture, plain
from test_server_dialects import form, ok, same


@pytest.fixture(scope="module")
def server():
    with Served("--model-alias", "org/other=hf_quickgelu") as running:
        yield running


def test_openai_asks_for_one_model(server):
    listed = {one["id"]: one for one in server.get("/v1/models").json["data"]}
    for name, one in listed.items():
        assert ok(server.get("/v1/models/" + name.replace("/", "%2F"))) == one
    assert ok(server.get("/v1/models/org/other"))["root"] == "hf_quickgelu"
    assert ok(server.get("/v1/models/default"))["id"] == "hf_quickgelu"
    for name in "nope", "..%2f..%2fx", "%00", "%", "hf_quickgelu/":
        answer = server.get("/v1/models/" + name)
        assert answer.status == 404 and answer.error["param"] == "model" and "hf_quickgelu" in answer.error["message"], name


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_hugging_face_posts_to_the_address_itself(server, path):
    body = {"inputs": "a cat", "normalize": True, "prompt_name": None, "truncate": True, "truncation_direction": "Right"}
    answer = server.post(path, body)
    assert same(ok(answer), server.embed(["a cat"])) and answer.headers["x-compute-tokens"]
    answer = server.post(path, {"inputs": []})
    assert answer.status == 400 and answer.json["error_type"] == "Empty"
    assert server.get("/").headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("version", [1, 2])
def test_cohere_embed(server, version):
    def ask(**fields):
        return ok(server.post(f"/v{version}/embed", {"model": "hf_quickgelu", **fields}))
    texts, uri = ["a cat", 'zwei "Wörter"'], data_uri(picture())
    vectors = numpy.float32(server.embed([*texts, uri]))
    got = ask(texts=texts, input_type="search_document", embedding_types=["float"], truncate="END")
    assert set(got) == {"id", "embeddings", "texts", "meta", "response_type"} and got["response_type"] == "embeddings_by_type"
    assert set(got["embeddings"]) == {"float"} and same(got["embeddings"]["float"], vectors[:2]) and got["texts"] == texts
    assert got["meta"]["api_version"]["version"] == str(version) and got["meta"]["billed_units"]["input_tokens"] > 3
    got = ask(images=[uri], input_type="image", embedding_types=["float"])
    assert same(got["embeddings"]["float"], vectors[2:]) and got["texts"] == [] and got["meta"]["billed_units"]["images"] == 1
    mixed = [{"content": [{"type": "text", "text": "a cat"}]}, {"content": [{"type": "image_url", "image_url": {"url": uri}}]}]
    got = ask(inputs=mixed, input_type="search_query", embedding_types=["float", "base64", "binary", "ubinary", "float"])
    some = vectors[[0, 2]]
    assert set(got["embeddings"]) == {"float", "base64", "binary", "ubinary"} and same(got["embeddings"]["float"], some)
    assert same([numpy.frombuffer(base64.b64decode(one), "<f4") for one in got["embeddings"]["base64"]], some)
    bits = numpy.packbits(numpy.float32(got["embeddings"]["float"]) >= 0, axis=1)
    assert got["embeddings"]["ubinary"] == bits.tolist() and got["embeddings"]["binary"] == (bits.astype(int) - 128).tolist()
    short = ask(texts=["a cat"], output_dimension=8, embedding_types=["float"])["embeddings"]["float"]
    assert same(short, server.embed(["a cat"], dimensions=8))
    got = ask(texts=["a cat"])
    if version == 1:
        assert got["response_type"] == "embeddings_floats" and same(got["embeddings"], vectors[:1])
    else:
        assert same(got["embeddings"]["float"], vectors[:1])


def test_cohere_embed_says_what_is_wrong_as_cohere_does(server):
    uri = data_uri(picture())
    for body, status in [({}, 400), ({"texts": ["a"], "images": [uri]}, 400), ({"texts": "a"}, 400), ({"texts": []}, 400), ({"texts": [1]}, 400),
                         ({"texts": ["a", {"text": "b"}]}, 400), ({"texts": ["a"], "embedding_types": ["int8"]}, 400), ({"images": ["!"]}, 400),
                         ({"texts": ["a"], "truncate": "START"}, 400), ({"texts": ["word " * 200], "truncate": "NONE"}, 400),
                         ({"texts": ["a"], "output_dimension": 99999}, 400), ({"texts": ["a"], "output_dimension": 6, "embedding_types": ["binary"]}, 400),
                         ({"inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": uri}}]}]}, 400),
                         ({"texts": ["a"], "model": "other"}, 404), ({"texts": ["a"] * 3000}, 413), ("{", 400)]:
        answer = server.post("/v2/embed", body)
        assert answer.status == status and set(answer.json) == {"message"}, (str(body)[:80], answer.body)


def test_documents_are_repeated_as_each_client_reads_them(server):
    documents = ["two words", {"text": "a cat"}]
    for path in "/v1/rerank", "/v2/rerank":  # Cohere's and Jina's
        got = ok(server.post(path, {"query": "a cat", "documents": documents, "return_documents": True}))
        assert [one["document"] for one in got["results"]] == [{"text": "a cat"}, {"text": "two words"}]
        assert got["meta"]["api_version"]["version"] == path[2]
    got = ok(server.post("/rerank", {"query": "a cat", "documents": documents, "return_documents": True}))
    assert [one["document"] for one in got["results"]] == [{"text": "a cat"}, "two words"]


def test_infinitys_client_knows_one_owner_only(server):
    assert [one["owned_by"] for one in server.get("/models").json["data"]] == ["infinity"]


def test_roboflows_client_asks_who_this_is(server):
    info = server.get("/info").json
    assert info["name"] and info["version"] and info["uuid"] == server.get("/info").json["uuid"]


def test_a_part_that_says_it_is_a_picture_needs_no_file_name(server):
    boundary = b"b"
    for head in b'name="image"\r\nContent-Type: image/png', b"name=\"image\"; filename*=utf-8''a.png", b"name=image; filename=a.png":
        body = b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + picture() + b"\r\n--b--\r\n"
        got = ok(server.post("/v1/embeddings", body, {"Content-Type": "multipart/form-data; boundary=b"}))
        assert same(got["data"][0]["embedding"], server.embed([data_uri(picture())])[0]), head


def test_jinas_fields(server):
    uri = data_uri(picture())
    body = {"model": "hf_quickgelu", "input": [{"text": "a cat"}, {"image": uri}, {"image": plain(picture())}], "task": "retrieval.query",
            "normalized": True, "embedding_type": "float", "dimensions": 8, "late_chunking": False, "truncate": True}
    got = ok(server.post("/v1/embeddings", body))
    assert same([one["embedding"] for one in got["data"]], server.embed(["a cat", uri, uri], dimensions=8))
    for wanted in ["base64"], "base64":
        got = ok(server.post("/v1/embeddings", {**body, "embedding_type": wanted}))
        assert len(base64.b64decode(got["data"][0]["embedding"])) == 32
    assert server.post("/v1/embeddings", {**body, "embedding_type": ["float", "base64"]}).status == 400


def test_infinitys_client_sends_what_it_has_no_value_for(server):
    body = {"model": "default/not-specified", "input": ["a cat"], "dimensions": 0, "encoding_format": "float", "modality": "text", "user": None}
    got = ok(server.post("/embeddings", body))
    assert same(got["data"][0]["embedding"], server.embed("a cat")[0]) and got["object"] == "list" and got["id"].startswith("infinity-")
    pictures = {"model": "default/not-specified", "input": [data_uri(picture())], "dimensions": 0}
    assert same(ok(server.post("/embeddings_image", pictures))["data"][0]["embedding"], server.embed([data_uri(picture())])[0])
    assert ok(server.post("/rerank", {"model": "default/not-specified", "query": "a", "documents": ["a"], "top_n": None, "raw_scores": False}))
    assert server.post("/v1/embeddings", {"input": "a", "dimensions": 0}).error["param"] == "dimensions"  # OpenAI refuses it
