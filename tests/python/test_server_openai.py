"""OpenAI's own Python client against the server: it asks for base64 and decodes it itself."""
import numpy
import pytest

from served import Served, data_uri, picture

openai = pytest.importorskip("openai", reason="the openai package is not installed: pip install openai")


def test_the_real_client():
    with Served() as server:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        assert [one.id for one in client.models.list()] == ["hf_quickgelu"]
        answer = client.embeddings.create(model="hf_quickgelu", input=["a cat", data_uri(picture())])
        assert [row.index for row in answer.data] == [0, 1]
        assert numpy.allclose([row.embedding for row in answer.data], server.embed(["a cat", data_uri(picture())]), atol=1e-6)
        assert answer.usage.total_tokens > 0
        cut = client.embeddings.create(model="hf_quickgelu", input="a cat", dimensions=4, encoding_format="float")
        assert len(cut.data[0].embedding) == 4
        with pytest.raises(openai.NotFoundError, match="not served"):
            client.embeddings.create(model="other", input="a cat")
        with pytest.raises(openai.BadRequestError, match=r"input\[1\]"):
            client.embeddings.create(model="hf_quickgelu", input=["a", "data:image/png;base64,Zm9v"])
