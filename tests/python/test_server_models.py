"""Several models in one server: the field `model` chooses, and each answers as it does alone."""
import io
import subprocess

import numpy
import pytest

import served
from served import Served, data_uri, picture

RANDOM = "random:ViT-B-32"
MISSING = "/no/such/model"


@pytest.fixture(scope="module")
def server():
    # No gallery: its pictures are computed beside, and would be counted among those of the tests.
    with Served("--model", RANDOM, "--model", served.TINY, "--model", MISSING, "--model-alias", "clip=" + RANDOM,
                "--model-alias", "small=hf_quickgelu", "--measure-seconds", "0.2", "--gallery", "/no/such/folder",
                model="emoji") as running:
        yield running


def vectors_alone(model, *inputs):
    with Served("--measure-seconds", "0.2", model=model) as alone:
        return numpy.array(alone.embed(list(inputs)))


def test_each_model_answers_as_it_does_alone(server):
    shown = data_uri(picture())
    for name, model, inputs in (("emoji", "emoji", ["a cat", shown]), ("small", served.TINY, ["a cat", shown]), ("clip", RANDOM, [shown])):
        together = numpy.array(server.embed(inputs, model=name))
        alone = vectors_alone(model, *inputs)
        assert together.shape == alone.shape
        assert (together * alone).sum(1).min() > 0.99999, name
    assert len(server.embed(shown, model="clip")[0]) == 512


def test_the_first_is_meant_where_none_is_named(server):
    assert server.embed("a cat") == server.embed("a cat", model="emoji") == server.embed("a cat", model="default")
    assert server.post("/v1/embeddings", {"input": "a cat"}).json["model"] == "emoji"
    # A client of TEI, weaviate or immich cannot choose.
    assert server.post("/embed", {"inputs": "a cat", "model": "nobody"}).status == 200


def test_forms_pictures_and_pixels_choose_too(server):
    form = ("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsmall\r\n--b\r\nContent-Disposition: form-data; "
            "name=\"text\"\r\n\r\na cat\r\n--b--\r\n").encode()
    got = server.post("/v1/embeddings", form, {"Content-Type": "multipart/form-data; boundary=b"})
    assert got.status == 200 and got.json["model"] == "hf_quickgelu", got.body
    got = server.post("/v1/embeddings?model=clip", picture(), {"Content-Type": "image/png"})
    assert got.status == 200 and got.json["model"] == RANDOM and len(got.json["data"][0]["embedding"]) == 512
    got = server.post("/v1/embeddings?model=nobody", picture(), {"Content-Type": "image/png"})
    assert got.status == 404
    pixels = io.BytesIO()
    numpy.save(pixels, numpy.zeros((1, 32, 32, 3), numpy.uint8))
    got = server.post("/v1/embeddings?model=clip", pixels.getvalue(), {"Content-Type": "application/x-npy"})
    assert got.status == 200 and got.json["model"] == RANDOM, got.body


def test_an_unknown_name_is_answered_with_those_there_are(server):
    got = server.post("/v1/embeddings", {"input": "x", "model": "nobody"})
    assert got.status == 404
    for name in ("nobody", "emoji", RANDOM, "clip", "hf_quickgelu", "small"):
        assert f'"{name}"' in got.error["message"]


def test_one_that_could_not_be_loaded_is_said_and_the_others_answer(server):
    ready = server.get("/ready")
    assert ready.status == 200 and ready.json["status"] == "degraded"
    assert [model["status"] for model in ready.json["models"]] == ["ok", "ok", "ok", "failed"]
    assert MISSING in ready.json["models"][3]["reason"]
    got = server.post("/v1/embeddings", {"input": "x", "model": MISSING})
    assert got.status == 503 and MISSING in got.error["message"]
    metrics = server.get("/metrics").body.decode()
    assert "tandem_degraded 1\n" in metrics
    assert f'tandem_model_ready{{model="{MISSING}"}} 0\n' in metrics
    assert f'tandem_model_ready{{model="{RANDOM}"}} 1\n' in metrics
    assert MISSING in server.said()


def test_all_are_listed_and_counted_apart(server):
    before = {model["model"]: model["items"]["images"] for model in server.get("/stats").json["models"]}
    server.embed(data_uri(picture(colour=(1, 2, 3))), model="clip")
    after = {model["model"]: model["items"]["images"] for model in server.get("/stats").json["models"]}
    assert after[RANDOM] == before[RANDOM] + 1 and after["hf_quickgelu"] == before["hf_quickgelu"]
    assert [one["id"] for one in server.get("/v1/models").json["data"]] == ["emoji", RANDOM, "clip", "hf_quickgelu", "small", MISSING]
    assert [one["id"] for one in server.get("/models").json["data"]] == ["emoji", RANDOM, "hf_quickgelu", MISSING]
    info = server.get("/info").json
    assert info["model"]["id"] == "emoji" and info["models"][1]["embed_dim"] == 512


def test_wrong_names_are_refused_at_the_start():
    for args, word in ((["--model-alias", "x"], "NAME=MODEL"), (["--model-alias", "x=nobody"], "nobody"),
                       (["--model", "emoji", "--model", "emoji"], "two models")):
        done = subprocess.run([served.BINARY, "serve", "--port", "0", *args], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and word in done.stderr, done.stderr
