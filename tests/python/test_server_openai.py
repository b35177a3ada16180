"""OpenAI's own Python client against the server: it asks for base64 and decodes it itself."""
import base64
import hashlib

import numpy
import openai
import pytest

from served import Served, data_uri, picture

MODEL = "hf_quickgelu"


@pytest.fixture(scope="module")
def server():
    with Served() as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0) as client:
        yield client


def vectors(answer):
    return numpy.array([row.embedding for row in answer.data])


def test_the_real_client(server, client):
    assert [one.id for one in client.models.list()] == [MODEL]
    answer = client.embeddings.create(model=MODEL, input=["a cat", data_uri(picture())])
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.object == "list" and answer.model == MODEL
    assert numpy.allclose(vectors(answer), server.embed(["a cat", data_uri(picture())]), atol=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_pictures_as_data_urls(client):
    red, blue = data_uri(picture(colour=(200, 30, 30))), data_uri(picture(colour=(30, 30, 200)))
    together = vectors(client.embeddings.create(model=MODEL, input=[red, "a cat", blue, red]))
    alone = vectors(client.embeddings.create(model=MODEL, input=red))
    assert numpy.allclose(together[0], alone[0], atol=1e-5) and numpy.allclose(together[3], alone[0], atol=1e-5)
    assert not numpy.allclose(together[0], together[2], atol=1e-3)
    assert numpy.allclose(numpy.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_both_encodings_are_the_same_numbers(client):
    ask = {"model": MODEL, "input": ["a cat", "a dog"]}
    plain = client.embeddings.create(**ask, encoding_format="float")
    assert isinstance(plain.data[0].embedding, list)
    raw = client.embeddings.create(**ask, encoding_format="base64")  # asked for in so many words: not decoded
    assert isinstance(raw.data[0].embedding, str)
    decoded = [numpy.frombuffer(base64.b64decode(row.embedding), "<f4") for row in raw.data]
    assert numpy.array_equal(numpy.array(decoded), vectors(plain).astype(numpy.float32))
    assert numpy.array_equal(vectors(client.embeddings.create(**ask)).astype(numpy.float32), numpy.array(decoded))


def test_fewer_dimensions_are_the_first_ones_at_length_one(client):
    full = vectors(client.embeddings.create(model=MODEL, input="a cat"))[0]
    for encoding in ("float", "base64"):
        cut = client.embeddings.create(model=MODEL, input="a cat", dimensions=4, encoding_format=encoding)
        if encoding == "float":
            first = full[:4] / numpy.linalg.norm(full[:4])
            assert numpy.allclose(vectors(cut)[0], first, atol=1e-5)
        else:
            assert len(cut.data[0].embedding) == 24  # 16 bytes
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model=MODEL, input="a cat", dimensions=len(full) + 1)


def test_token_ids(client):
    one = client.embeddings.create(model=MODEL, input=[1, 2, 3])
    many = client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4, 5]])
    assert len(one.data) == 1 and len(many.data) == 2
    assert numpy.allclose(vectors(one)[0], vectors(many)[0], atol=1e-5)
    assert many.usage.prompt_tokens == 5
    for wrong in ([-1, 2], [[1], [10**6]], [[]], [[1] * 5000]):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, input=wrong)


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.embeddings.create(model="other", input="a cat")
    with pytest.raises(openai.BadRequestError, match=r"input\[1\]") as caught:
        client.embeddings.create(model=MODEL, input=["a", "data:image/png;base64,Zm9v"])
    assert caught.value.param == "input" and caught.value.type == "invalid_request_error" and caught.value.code
    for wrong in ([], None):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, input=wrong)
    with pytest.raises(openai.BadRequestError, match="encoding_format"):
        client.embeddings.create(model=MODEL, input="a", encoding_format="hex")
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model=MODEL, input=["a"] * 100_000)
    assert caught.value.status_code == 413 and "limit" in caught.value.message


def test_keys_and_quotas(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one " + hashlib.sha256(b"sk-one").hexdigest() + " 2\n")
    with Served("--api-key-file", keys) as server:
        base = f"http://127.0.0.1:{server.port}/v1"
        with openai.OpenAI(base_url=base, api_key="sk-two", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                client.embeddings.create(model=MODEL, input="a cat")
        with openai.OpenAI(base_url=base, api_key="sk-one", max_retries=0) as client:
            for _ in range(2):
                assert client.embeddings.create(model=MODEL, input="a cat").data
            with pytest.raises(openai.RateLimitError) as caught:
                client.embeddings.create(model=MODEL, input="a cat")
            assert int(caught.value.response.headers["Retry-After"]) >= 1
