"""What clients of other servers send and read, to the letter: TEI, infinity, Cohere and Jina, immich, weaviate, Roboflow,
and the older contracts /infer and /api."""
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


def form(**fields):
    """A form; bytes are files."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, value in fields.items():
        extra = '; filename="f"' if isinstance(value, bytes) else ""
        value = value if isinstance(value, bytes) else value.encode()
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def ok(answer):
    assert answer.status == 200, answer.body
    return answer.json


def same(a, b, within=1e-5):
    return numpy.allclose(numpy.float32(a), numpy.float32(b), atol=within)


TEI_HEADERS = ["x-compute-type", "x-compute-time", "x-compute-characters", "x-compute-tokens", "x-total-time",
               "x-tokenization-time", "x-queue-time", "x-inference-time"]


def test_tei_embed(server):
    answer = server.post("/embed", {"inputs": ["a cat", "zwei Wörter"], "normalize": True, "truncate": None,
                                    "truncation_direction": "Right", "prompt_name": None, "dimensions": None})
    assert same(ok(answer), server.embed(["a cat", "zwei Wörter"]))
    for name in TEI_HEADERS:
        assert answer.headers[name] is not None, name
    assert answer.headers["x-compute-characters"] == "16" and int(answer.headers["x-compute-tokens"]) > 4
    assert answer.headers["x-total-time"].isdigit()
    assert same(ok(server.post("/embed", {"inputs": "a cat"})), server.embed(["a cat"]))
    ids, = served.tandem("tokenize", "--model", served.TINY, "--json", "a cat")
    assert same(ok(server.post("/embed", {"inputs": ids["ids"]})), server.embed(["a cat"]))
    assert numpy.linalg.norm(ok(server.post("/embed", {"inputs": "a cat", "normalize": False}))) != pytest.approx(1, abs=1e-3)
    assert same(ok(server.post("/embed", {"inputs": "a cat", "dimensions": 3})), server.embed(["a cat"], dimensions=3))


def test_tei_says_what_is_wrong_as_tei_does(server):
    long = " ".join(["word"] * 200)
    for body, status, kind in [({"inputs": []}, 400, "Empty"), ({}, 422, "Validation"), ("{", 422, "Validation"),
                               ({"inputs": ["a"] * 3000}, 413, "Validation"), ({"inputs": 1}, 422, "Validation"),
                               ({"inputs": long, "truncate": False}, 422, "Validation"),
                               ({"inputs": "a", "dimensions": 99}, 422, "Validation")]:
        answer = server.post("/embed", body)
        assert answer.status == status and set(answer.json) == {"error", "error_type"}, (body, answer.body)
        assert answer.json["error_type"] == kind and isinstance(answer.json["error"], str)
    assert server.post("/embed", {"inputs": long}).status == 200


def test_tei_tokenize(server):
    got, = ok(server.post("/tokenize", {"inputs": "A cat,  zwei", "add_special_tokens": True}))
    ids, = served.tandem("tokenize", "--model", served.TINY, "--json", "A cat,  zwei")
    assert [token["id"] for token in got] == ids["ids"]
    assert all(set(token) == {"id", "text", "special", "start", "stop"} for token in got)
    assert [token["special"] for token in got] == [True] + [False] * (len(got) - 2) + [True]
    assert got[0]["start"] is None and got[-1]["stop"] is None
    for token in got[1:-1]:
        assert "A cat,  zwei"[token["start"]:token["stop"]] == token["text"]
    two = ok(server.post("/tokenize", {"inputs": ["a", "b"], "add_special_tokens": False}))
    assert [[token["special"] for token in one] for one in two] == [[False], [False]]
    answer = server.post("/tokenize", {"inputs": "é Ⓐ"})
    assert answer.status == 200 and answer.headers["x-compute-tokens"] is not None
    assert server.post("/tokenize", {"inputs": 7}).json["error_type"] == "Validation"


def test_tei_info(server):
    info = server.get("/info").json
    for name in ["model_id", "model_sha", "model_dtype", "served_model_name", "model_type", "max_concurrent_requests",
                 "max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate",
                 "tokenization_workers", "version", "sha", "docker_label"]:
        assert name in info, name
    assert info["model_id"] == "hf_quickgelu" and info["model_dtype"] == "float32" and "embedding" in info["model_type"]


def cosines(server, query, documents):
    vectors = numpy.float32(server.embed([query, *documents]))
    return vectors[1:] @ vectors[0]


def test_rerank_as_tei(server):
    texts = ["a dog", "a cat", "something else"]
    expected = cosines(server, "a cat", texts)
    answer = server.post("/rerank", {"query": "a cat", "texts": texts, "raw_scores": False, "return_text": True, "truncate": None})
    got = ok(answer)
    assert [set(one) for one in got] == [{"index", "text", "score"}] * 3
    assert [one["index"] for one in got] == list(numpy.argsort(-expected)) and got[0]["text"] == "a cat"
    assert same([one["score"] for one in got], sorted(expected, reverse=True))
    assert all(answer.headers[name] for name in TEI_HEADERS)
    assert set(ok(server.post("/rerank", {"query": "a cat", "texts": texts}))[0]) == {"index", "score"}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/reranking", "/v2/rerank"])
def test_rerank_as_cohere_jina_and_infinity(server, path):
    documents = ["a dog", data_uri(picture()), {"text": "a cat"}, {"image": plain(picture("JPEG"))}]
    expected = cosines(server, "a cat", documents)
    body = {"model": "hf_quickgelu", "query": "a cat", "documents": documents, "top_n": 3, "return_documents": True}
    got = ok(server.post(path, body))
    assert {"object", "results", "model", "usage", "id", "created"} <= set(got) and got["object"] == "rerank"
    assert set(got["usage"]) == {"prompt_tokens", "total_tokens"} and got["usage"]["total_tokens"] > 0
    order = list(numpy.argsort(-expected)[:3])
    assert [one["index"] for one in got["results"]] == order
    assert same([one["relevance_score"] for one in got["results"]], expected[order])
    repeated = [{"text": one} if path[1] == "v" and isinstance(one, str) else one for one in documents]
    assert [one["document"] for one in got["results"]] == [repeated[i] for i in order]
    plainly = ok(server.post(path, {"query": data_uri(picture()), "documents": ["a", "b"], "raw_scores": True}))
    assert [set(one) for one in plainly["results"]] == [{"index", "relevance_score"}] * 2


def test_rerank_refuses(server):
    for body in [{"query": "a"}, {"documents": ["a"]}, {"query": "a", "documents": []}, {"query": "a", "documents": [1, 2]},
                 {"query": "a", "documents": "b"}, {"query": "a", "documents": ["a"], "texts": ["b"]},
                 {"query": "a", "documents": ["a"], "top_n": 0}, {"query": "a", "documents": ["a", {"image": "!"}]}]:
        assert server.post("/rerank", body).status == 400, body


def test_rerank_says_what_is_wrong_as_tei_does(server):
    for body in [{"texts": ["a"]}, {"query": "a", "texts": []}, {"query": "a", "texts": "b"}, {"query": "a", "texts": [1]}, '{"texts":']:
        answer = server.post("/rerank", body)
        assert answer.status == 422 and set(answer.json) == {"error", "error_type"}, answer.body
    assert "error_type" not in server.post("/rerank", {"query": "texts", "documents": []}).json


def test_infinitys_classify_beside_ours(server):
    labels = ["a red thing", "something blue"]
    answer = ok(server.post("/classify", {"model": "hf_quickgelu", "input": ["a cat", data_uri(picture())], "labels": labels}))
    assert set(answer) == {"object", "data", "model", "usage", "id", "created"} and answer["object"] == "classify"
    ours = ok(server.post("/classify", {"image": data_uri(picture()), "labels": labels}))["results"][0]["labels"]
    assert len(answer["data"]) == 2 and [set(one) for one in answer["data"][1]] == [{"score", "label"}] * 2
    for one, other in zip(answer["data"][1], ours):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["probability"], abs=1e-5)
    raw = ok(server.post("/classify", {"input": [data_uri(picture())], "labels": labels, "raw_scores": True}))
    assert raw["data"][0][0]["score"] == pytest.approx(ours[0]["logit"], abs=1e-3)
    assert server.post("/classify", {"input": ["a"], "image": "Zg==", "labels": labels}).status == 400


def test_infinitys_models(server):
    got = server.get("/models").json
    one, = got["data"]
    assert got["object"] == "list" and one["id"] == "hf_quickgelu" and one["object"] == "model"
    assert set(one) == {"id", "object", "owned_by", "created", "backend", "capabilities", "stats"}
    assert set(one["stats"]) == {"queue_fraction", "queue_absolute", "results_pending", "batch_size"}
    assert one["stats"]["batch_size"] > 0


def test_similarity(server):
    texts, uri = ["a cat", "two words"], data_uri(picture())
    vectors = numpy.float32(server.embed([*texts, uri]))
    answer = server.post("/similarity", {"inputs": {"source_sentence": "a cat", "sentences": texts}, "parameters": {}})
    assert same(ok(answer), vectors[:2] @ vectors[0]) and answer.headers["x-compute-tokens"]
    got = ok(server.post("/similarity", {"a": [uri, "a cat"], "b": texts}))
    assert same(got["similarity"], vectors[[2, 0]] @ vectors[:2].T) and got["model"] == "hf_quickgelu"
    assert same(ok(server.post("/similarity", {"image": plain(picture()), "text": "a cat"}))["similarity"], [[vectors[2] @ vectors[0]]])
    for body in [{}, {"a": "x"}, {"a": "x", "b": []}, {"a": ["x"] * 2000, "b": ["y"] * 2000}]:
        assert server.post("/similarity", body).status in (400, 413), str(body)[:80]
    for body in [{"inputs": {"source_sentence": "x"}}, {"inputs": ["x"]}, {"inputs": {"source_sentence": "x", "sentences": []}}]:
        answer = server.post("/similarity", body)
        assert answer.status == 422 and answer.json["error_type"] == "Validation", answer.body


def test_immich(server):
    ask = json.dumps({"clip": {"visual": {"modelName": "ViT-B-32__openai"}}})
    got = ok(server.post("/predict", *form(entries=ask, image=picture("JPEG", (70, 50)))))
    assert set(got) == {"clip", "imageHeight", "imageWidth"} and (got["imageWidth"], got["imageHeight"]) == (70, 50)
    assert isinstance(got["clip"], str)
    assert same(json.loads(got["clip"]), server.embed([data_uri(picture("JPEG", (70, 50)), "jpeg")])[0])
    ask = json.dumps({"clip": {"textual": {"modelName": "ViT-B-32__openai", "options": {"language": "en"}}}})
    got = ok(server.post("/predict", *form(entries=ask, text="a cat")))
    assert set(got) == {"clip"} and same(json.loads(got["clip"]), server.embed(["a cat"])[0])
    ping = server.get("/ping")
    assert ping.status == 200 and ping.body == b"pong"
    for fields in [dict(entries=ask), dict(text="x"), dict(entries="{", text="x"), dict(entries="{}", text="x"),
                   dict(entries='{"facial-recognition":{}}', image=b"x"), dict(entries='{"clip":{}}', text="x")]:
        assert server.post("/predict", *form(**fields)).status == 400, fields
    assert server.post("/predict", {}).status == 400


def test_immich_hears_of_a_turned_picture_as_it_is_seen(server):
    out = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 20), (10, 200, 30)).save(out, "JPEG", exif=turned)
    ask = json.dumps({"clip": {"visual": {"modelName": "x"}}})
    got = ok(server.post("/predict", *form(entries=ask, image=out.getvalue())))
    assert (got["imageWidth"], got["imageHeight"]) == (20, 60)


def test_weaviate(server):
    got = ok(server.post("/vectorize", {"texts": ["a cat", "two words"], "images": [plain(picture())]}))
    assert set(got) == {"textVectors", "imageVectors"}
    assert same(got["textVectors"], server.embed(["a cat", "two words"]))
    assert same(got["imageVectors"], server.embed([data_uri(picture())]))
    assert ok(server.post("/vectorize", {"texts": ["a cat"], "images": []}))["imageVectors"] == []
    assert ok(server.post("/vectorize", {"texts": None, "images": [plain(picture())]}))["textVectors"] == []
    for path in "/.well-known/live", "/.well-known/ready":
        answer = server.get(path)
        assert answer.status == 204 and answer.body == b""
    assert server.get("/meta").json["projection_dim"] == 24
    for body in [{}, {"images": [plain(picture()[:50])]}, {"texts": "a cat"}, {"texts": [1]}]:
        answer = server.post("/vectorize", body)
        assert answer.status == 400 and set(answer.json) == {"error"}, answer.body


def test_roboflow(server):
    image = {"type": "base64", "value": plain(picture())}
    vectors = numpy.float32(server.embed([data_uri(picture()), "a cat", "two words"]))
    got = ok(server.post("/clip/embed_image", {"api_key": "k", "image": image}))
    assert {"embeddings", "time", "frame_id"} <= set(got) and same(got["embeddings"], vectors[:1])
    assert same(ok(server.post("/clip/embed_image", {"image": [image, image]}))["embeddings"], vectors[[0, 0]])
    assert same(ok(server.post("/clip/embed_text", {"text": "a cat"}))["embeddings"], vectors[1:2])
    assert same(ok(server.post("/clip/embed_text", {"text": ["a cat", "two words"]}))["embeddings"], vectors[1:])
    got = ok(server.post("/clip/compare", {"subject": image, "subject_type": "image", "prompt": ["a cat", "two words"],
                                           "prompt_type": "text"}))
    assert same(got["similarity"], vectors[1:] @ vectors[0]) and "time" in got
    got = ok(server.post("/clip/compare", {"subject": image, "prompt": {"cat": "a cat", "words": "two words"}}))
    assert same([got["similarity"]["cat"], got["similarity"]["words"]], vectors[1:] @ vectors[0])
    got = ok(server.post("/clip/compare", {"subject": "a cat", "subject_type": "text", "prompt": image, "prompt_type": "image"}))
    assert same(got["similarity"], [vectors[1] @ vectors[0]])
    for path, body in [("embed_image", {}), ("embed_image", {"image": {"type": "numpy", "value": "x"}}),
                       ("embed_image", {"image": {"type": "url", "value": "http://127.0.0.1/a.png"}}), ("embed_text", {"text": []}),
                       ("compare", {"subject": image}), ("compare", {"subject": image, "prompt": "x", "prompt_type": "audio"})]:
        answer = server.post("/clip/" + path, body)
        assert answer.status == 400 and set(answer.json) == {"message"}, (path, body, answer.body)


def test_infer(server):
    pixels = numpy.asarray(Image.open(io.BytesIO(picture())).convert("RGB"))
    texts = ["a cat", "two words", "red"]
    vectors = numpy.float32(server.embed([data_uri(picture()), *texts]))
    cosine = vectors[1:] @ vectors[0]
    for image in plain(picture()), data_uri(picture()), pixels.tolist(), pixels.astype(float).tolist(), [pixels.tolist()]:
        got = ok(server.post("/infer", {"image": image, "text": texts}))
        assert same(got["image_embeddings"], vectors[:1]) and same(got["text_embeddings"], vectors[1:])
        logits = numpy.float64(got["logits"])
        assert logits.shape == (1, 3)
        scale = logits[0] / cosine
        assert numpy.allclose(scale, scale[0], rtol=1e-3) and scale[0] > 1
        assert same(got["probabilities"], numpy.exp(logits - logits.max()) / numpy.exp(logits - logits.max()).sum())
    two = ok(server.post("/infer", {"images": [plain(picture("JPEG", (70, 50))), pixels.tolist()], "texts": "a cat"}))
    assert numpy.shape(two["logits"]) == (2, 1) and same(two["image_embeddings"][1], vectors[0])


def test_infer_takes_a_full_size_picture_as_numbers(server):
    pixels = numpy.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=numpy.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    got = ok(server.post("/infer", {"image": pixels.tolist(), "text": ["x"]}))
    assert same(got["image_embeddings"], server.embed([data_uri(out.getvalue())]))


def test_infer_refuses(server):
    for image, says in [([[[1, 2, 256]]], "0 to 255"), ([[[1, 2]]], "height x width x 3"), ([[[1, 2, 3], [1, 2, 3]], [[1, 2, 3]]], "row 1"),
                        ([[1, 2, 3]], "height x width x 3"), ([], "empty"), ([[[-1, 2, 3]]], "0 to 255"), ("!", "base64"),
                        ("\x01" + "7", "no picture"), ("\x01", "no picture"), (7, "must be")]:
        answer = server.post("/infer", {"image": image, "text": ["x"]})
        assert answer.status == 400 and says in answer.error["message"], (image, answer.body)
    for body in '{"image":[[[1,2,3', '{"image":[[[01,2,3]]]}', '{"image":[[[1,2,3]]],}', "{}", '{"image":[[[1,2,3]]],"text":[]}':
        assert server.post("/infer", body).status == 400, body


def test_api_gives_one_feature_vector(server):
    width = server.get("/info").json["model"]["embed_dim"]
    got = ok(server.post("/api", {"image": plain(picture()), "feature": "projected"}))
    assert got["feature"] == "projected" and got["dimension"] == width and same(got["vector"], server.embed([data_uri(picture())])[0])
    pooled = ok(server.post("/api", {"image": data_uri(picture())}))
    assert pooled["feature"] == "pooled" and len(pooled["vector"]) == pooled["dimension"] == server.get("/meta").json["vision_config"]["hidden_size"]
    assert same(ok(server.post("/api", *form(image=picture())))["vector"], pooled["vector"])
    assert same(ok(server.post("/api?feature=pooled", picture(), {"Content-Type": "image/png"}))["vector"], pooled["vector"])
    for body in [{}, {"image": plain(picture()), "feature": "x"}, {"image": "!"}]:
        assert server.post("/api", body).status == 400


def test_models_that_clients_cannot_choose_are_not_asked_for(server):
    assert server.post("/vectorize", {"texts": ["a"], "model": "other"}).status == 200
    assert server.post("/infer", {"image": plain(picture()), "text": "a", "model": "other"}).status == 200
    assert server.post("/api", {"image": plain(picture()), "model": "other"}).status == 200
    assert server.post("/embed", {"inputs": "a", "model": "other"}).status == 200
    assert server.post("/rerank", {"query": "a", "documents": ["a"], "model": "other"}).status == 404


def test_a_query_parameter_given_twice_is_refused(server):
    twice = server.get("/gallery?limit=1&offset=2&limit=3")
    assert twice.status == 400 and "is given twice" in twice.json["error"]["message"]


def test_the_description_and_its_page(server):
    api = server.get("/openapi.json").json
    assert api["openapi"].startswith("3.1") and len(api["paths"]) > 25
    assert api["components"]["schemas"]["Model"]["enum"] == ["hf_quickgelu", "default"]
    example, = api["components"]["schemas"]["Picture"]["examples"]
    assert len(server.embed([example])[0]) == 24
    for shape in api["paths"]["/classify"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]:
        assert shape["required"][1:] == ["labels"]  # this model has none of its own
    page = server.get("/docs")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    for path in "/assets/docs.js", "/assets/docs.css":
        assert path.encode() in page.body and server.get(path).status == 200
    assert b"http://" not in page.body and b"https://" not in page.body


def test_urls_are_fetched_only_where_it_is_allowed_and_never_from_inside(server):
    inside = f"http://127.0.0.1:{server.port}/assets/icon.svg"
    answer = server.post("/v1/embeddings", {"input": [{"image": inside}]})
    assert answer.status == 400 and "fetches no URLs" in answer.error["message"]
    with Served("--allow-urls") as open_server:
        said = set()
        for url in inside, f"http://localhost:{server.port}/", "http://[::1]/a", "http://169.254.169.254/latest", "http://0/a", \
                "http://127.0.0.1:1/nobody-listens", "http://a..b/no-name":
            answer = open_server.post("/v1/embeddings", {"input": [{"image": url}]})
            assert answer.status == 400 and "not fetched" in answer.error["message"], answer.body
            said.add(answer.body)
        assert len(said) == 1, said  # nobody learns what is inside from how it is refused
        answer = open_server.post("/v1/embeddings", {"input": ["a", {"image": inside}], "item_errors": True})
        assert answer.status == 200 and answer.json["data"][1]["error"]["code"] == "invalid_argument"
        assert open_server.post("/v1/embeddings", {"input": [{"image": "file:///etc/passwd"}]}).status == 400
        assert len(open_server.embed([data_uri(picture()), "http://a.text/that/is/one"])) == 2
