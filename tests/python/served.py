"""A running `tandem serve` for the tests: started on a free port of this machine, stopped by SIGTERM."""
import base64
import http.client
import io
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("TANDEM_BINARY", ROOT / "build/tandem")).resolve()
TINY = ROOT / "tests/golden/tiny/hf_quickgelu"
EMOJI = ROOT / "models/emoji"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


class Served:
    """The process; `wait` None: return as soon as it listens, else wait until it is ready for so many seconds. `before`
    is called in the new process first."""

    def __init__(self, *args, model=TINY, wait=120, before=None):
        self.folder = tempfile.TemporaryDirectory()
        port_file = pathlib.Path(self.folder.name) / "port"
        self.log = open(pathlib.Path(self.folder.name) / "log", "w+")
        self.model = str(model)
        command = [BINARY, "serve", "--model", self.model, "--port", "0", "--port-file", port_file, *map(str, args)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, preexec_fn=before)
        end = time.time() + 60
        while not port_file.exists():
            assert self.process.poll() is None and time.time() < end, "it does not listen: " + self.said()
            time.sleep(0.01)
        self.port = int(port_file.read_text())
        end = time.time() + (wait or 0)
        while wait and self.get("/ready").status != 200:
            assert self.process.poll() is None and time.time() < end, "it does not get ready: " + self.said()
            time.sleep(0.02)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def request(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, headers=None):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        return self.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    def embed(self, inputs, **more):
        answer = self.post("/v1/embeddings", {"input": inputs, **more})
        assert answer.status == 200, answer.body
        return [row["embedding"] for row in answer.json["data"]]

    def stop(self, timeout=60):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.log.close()
            self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def picture(kind="PNG", size=(40, 30), colour=(200, 30, 60)):
    """Bytes of a picture with some structure."""
    image = Image.new("RGB", size, colour)
    for x in range(size[0]):
        image.putpixel((x, (x * 7) % size[1]), (x * 5 % 256, 255 - x * 3 % 256, 90))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def plain(content):
    """Base64, and nothing around it."""
    return base64.b64encode(content).decode()


def data_uri(content, kind="png"):
    return f"data:image/{kind};base64,{plain(content)}"


def tandem(*args, stdin=None):
    """Runs a command of the program; returns its JSON lines."""
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, input=stdin, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
