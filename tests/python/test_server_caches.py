"""What the server remembers and shares: equal inputs have equal bits, whether computed, remembered or asked for at the
same time; and it can be told to forget, or not to remember at all."""
import concurrent.futures
import io
import json

import numpy

import served
from served import Served, data_uri, picture


def cleared(server):
    answer = server.post("/cache/clear", b"")
    assert answer.status == 200, answer.body
    return answer.json["cleared"]


def test_equal_inputs_are_remembered_until_it_is_told_to_forget():
    with Served() as server:
        inputs = ["a cat", data_uri(picture()), "two words", data_uri(picture("JPEG"), "jpeg")]
        first = [server.embed(one)[0] for one in inputs]
        assert [server.embed(one)[0] for one in inputs] == first
        assert server.embed(inputs) == first
        before = cleared(server)
        assert before["texts"]["hits"] >= 4 and before["texts"]["entries"] >= 2
        assert before["embeddings"]["hits"] == 4 and before["embeddings"]["entries"] >= 2  # the demo's gallery as well
        assert cleared(server)["texts"]["entries"] == 0
        assert [server.embed(one)[0] for one in inputs] == first
        assert server.post("/clear_cache", b"").status == 200


def caches(server):
    return server.get("/stats").json["caches"]


def test_every_dialect_shares_what_is_remembered_and_the_figures_say_so():
    with Served() as server:
        first = server.embed("a cat")[0]
        before = caches(server)
        assert numpy.allclose(server.post("/embed", {"inputs": "a cat"}).json[0], first, atol=1e-6)
        assert numpy.allclose(server.post("/vectorize", {"texts": ["a cat"]}).json["textVectors"][0], first, atol=1e-6)
        after = caches(server)
        assert after["texts"]["hits"] == before["texts"]["hits"] + 2 and after["texts"]["misses"] == before["texts"]["misses"]
        assert after["texts"]["bytes"] > 4 * len(first) * after["texts"]["entries"]
        said = server.get("/metrics").body.decode()
        assert f'tandem_cache_hits_total{{cache="texts"}} {after["texts"]["hits"]}\n' in said
        # A picture has its size whether it was computed or remembered, and whichever dialect asked first.
        server.embed(data_uri(picture("PNG", (70, 50))))
        boundary = "b"
        parts = {"entries": json.dumps({"clip": {"visual": {"modelName": "x"}}}).encode(), "image": picture("PNG", (70, 50))}
        form = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
                        + content + b"\r\n" for name, content in parts.items()) + f"--{boundary}--\r\n".encode()
        hits = caches(server)["embeddings"]["hits"]
        got = server.post("/predict", form, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        assert got.status == 200 and (got.json["imageWidth"], got.json["imageHeight"]) == (70, 50)
        assert caches(server)["embeddings"]["hits"] == hits + 1


def test_pixels_are_known_by_what_they_show():
    def rows(server, pixels):
        out = io.BytesIO()
        numpy.save(out, pixels)
        answer = server.post("/v1/embeddings", out.getvalue(), {"Content-Type": "application/x-npy"})
        assert answer.status == 200, answer.body
        return [row["embedding"] for row in answer.json["data"]]

    with Served() as server:
        pixels = numpy.random.default_rng(0).integers(0, 255, (5, 40, 50, 3), numpy.uint8)
        first = rows(server, pixels)
        assert len({tuple(row) for row in first}) == 5
        hits = caches(server)["embeddings"]["hits"]
        assert rows(server, pixels[::-1].copy()) == first[::-1]
        assert caches(server)["embeddings"]["hits"] == hits + 5
        assert rows(server, pixels.reshape(5, 50, 40, 3)) != first


def test_it_remembers_nothing_where_it_is_told_so():
    with Served("--no-cache", "--no-coalescing") as server:
        first = server.embed("a cat")
        assert server.embed("a cat") == first
        counts = cleared(server)
        for kind in ("texts", "images", "embeddings"):
            assert counts[kind] == {"entries": 0, "hits": 0, "misses": 0}


def test_the_text_cache_has_the_size_that_it_is_given():
    with Served("--text-cache", "3") as server:
        for i in range(10):
            server.embed(f"text {i}")
        assert cleared(server)["texts"]["entries"] == 3


def test_many_clients_with_the_same_and_with_broken_pictures_all_get_theirs():
    with Served("--max-batch", "4", "--max-delay-us", "1000") as server:
        good = data_uri(picture("JPEG", (640, 480)), "jpeg")
        want = server.embed(good)[0]
        cleared(server)
        broken = data_uri(b"\xff\xd8\xff\xe0 no picture", "jpeg")

        def ask(i):
            return server.post("/v1/embeddings", {"input": broken if i % 5 == 0 else good})

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for i, answer in enumerate(pool.map(ask, range(200))):
                if i % 5 == 0:
                    assert answer.status == 400 and answer.error["code"] == "bad_data"
                else:
                    assert answer.status == 200 and answer.json["data"][0]["embedding"] == want


def test_little_memory_makes_caches_and_batches_smaller_and_no_failure():
    with Served("--memory-limit", "48", "--image-cache", "100000", model=served.EMOJI) as server:
        assert server.get("/ready").status == 200
        assert len(server.embed([data_uri(picture("PNG", (50 + i, 40))) for i in range(40)])) == 40
        assert "warning" in server.said() or "caches take" in server.said()


def test_two_devices_behind_one_queue():
    with Served("--device", "cpu,cpu", "--threads", "1") as server:
        assert server.get("/ready").json["replicas"]["total"] == 2
        assert len(server.embed([f"text {i}" for i in range(50)])) == 50
