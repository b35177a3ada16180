"""Locust load on POST /infer, the contract of the older load test: one picture as a nested list of numbers, some texts,
and back come logits, probabilities and both embeddings.

    pip install locust
    locust -f bench/locustfile.py --host http://127.0.0.1:7860                         # with its page on port 8089
    locust -f bench/locustfile.py --host http://127.0.0.1:7860 --headless -u 32 -r 8 -t 60s --csv infer

TANDEM_SIDE (224): height and width of the pictures. TANDEM_BASE64=1: the picture as base64 of a PNG instead, which is a
tenth of the bytes. TANDEM_KEY: sent as a bearer token. Bodies are made before the load begins, since making a nested list
costs this process more than the server takes to answer it; `tandem loadtest` sends more from one core.
"""
import base64
import json
import os
import random
import struct
import zlib

from locust import FastHttpUser, constant, task

SIDE = int(os.environ.get("TANDEM_SIDE", "224"))
TEXTS = ["a photo of a cat", "a photo of a dog", "a red car", "two people on a beach", "a page of text", "the sea at night"]
POOL = 32


def pixels(seed):
    """A gradient with grain, height x width x 3 of 0 to 255."""
    dice = random.Random(seed)
    ramp = [[dice.randrange(256) for _ in range(3)] for _ in range(3)]
    return [[[min(255, max(0, (ramp[0][c] * (SIDE - x) + ramp[1][c] * x + ramp[2][c] * y) // (2 * SIDE) + dice.randrange(16)))
              for c in range(3)] for x in range(SIDE)] for y in range(SIDE)]


def png(rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + bytes(v for pixel in row for v in pixel) for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def body(seed):
    dice = random.Random(seed)
    image = pixels(seed)
    if os.environ.get("TANDEM_BASE64", "") not in ("", "0"):
        image = base64.b64encode(png(image)).decode()
    return json.dumps({"image": image, "text": dice.sample(TEXTS, dice.randrange(1, 5))}).encode()


BODIES = [body(seed) for seed in range(POOL)]
COUNTS = [len(json.loads(one)["text"]) for one in BODIES]
HEADERS = {"Content-Type": "application/json"}
if os.environ.get("TANDEM_KEY"):
    HEADERS["Authorization"] = "Bearer " + os.environ["TANDEM_KEY"]


class Infer(FastHttpUser):
    wait_time = constant(0)

    @task
    def infer(self):
        which = random.randrange(POOL)
        with self.client.post("/infer", data=BODIES[which], headers=HEADERS, catch_response=True) as answer:
            if answer.status_code in (429, 503):
                return answer.failure(f"refused for want of room: {answer.status_code}")
            if answer.status_code != 200:
                return answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
            found = answer.json()
            values = found.get("probabilities", found.get("probs"))
            while isinstance(values, list) and values and isinstance(values[0], list):
                values = values[0]
            if values is None or len(values) != COUNTS[which] or abs(sum(values) - 1) > 0.01:
                answer.failure(f"no probabilities of {COUNTS[which]} texts in {sorted(found)}")
