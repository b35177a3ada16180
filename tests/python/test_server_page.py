"""The page in a real browser: it loads, labels a sample by itself, and finds its model's state. Needs Chromium."""
import html
import re
import shutil
import subprocess

import pytest

from served import EMOJI, Served, data_uri, picture

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")


@pytest.fixture
def gallery(tmp_path):
    for name, colour in [("a_red_one", (220, 30, 30)), ("a_green_one", (20, 200, 40)), ("<b>bold", (20, 40, 220))]:
        (tmp_path / f"{name}.png").write_bytes(picture(colour=colour))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path


def shown(server, path="/", size="1280,900"):
    """The page's text after it has settled."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--virtual-time-budget=6000",
         "--dump-dom", f"http://127.0.0.1:{server.port}{path}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_gallery_and_its_search(gallery):
    with Served("--gallery", gallery) as server:
        for _ in range(200):
            if server.get("/gallery").json["gallery"]["done"] == 4:
                break
        listed = server.get("/gallery").json
        assert listed["gallery"] == {"count": 4, "done": 4, "failed": 1}
        assert [one["name"] for one in listed["pictures"]] == ["<b>bold", "a green one", "a red one", "broken"]
        found = server.post("/search", {"text": "a red one"}).json
        assert [one["rank"] for one in found["results"]] == [1, 2, 3]
        scores = [one["score"] for one in found["results"]]
        assert scores == sorted(scores, reverse=True)
        one = server.get(found["results"][0]["url"])
        assert one.status == 200 and one.headers["Content-Type"] == "image/png"
        # A picture is nearest to itself.
        again = server.post("/search", {"image": data_uri(one.body), "top": 1})
        assert again.json["results"][0]["id"] == found["results"][0]["id"]
        assert again.json["results"][0]["score"] == pytest.approx(1, abs=1e-5)
        assert server.get("/gallery/4").status == 404 and server.get("/gallery/..%2fx").status == 404


def test_without_a_gallery_search_says_what_to_do():
    with Served("--gallery", "/no/such/folder") as server:
        answer = server.post("/search", {"text": "x"})
        assert answer.status == 404 and "--gallery" in answer.error["message"]
        assert server.get("/gallery").json["pictures"] == []


@needs_browser
@pytest.mark.parametrize("size", ["1280,900", "320,700"])
def test_the_page_labels_a_sample(gallery, size):
    with Served("--gallery", gallery) as server:
        page = shown(server, size=size)
    assert 'data-state="ready"' in page
    bars = re.search(r'<ol class="bars".*?</ol>', page, re.S)[0]
    names = re.findall(r'<span class="name"[^>]*>(.*?)</span>', bars)
    shares = [html.unescape(s) for s in re.findall(r'<span class="share">(.*?)</span>', bars)]
    assert len(names) == len(shares) == 8 and all(s.endswith(" %") for s in shares)
    assert re.search(r"\d+ labels in \d+ ms", page)
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page


@needs_browser
@pytest.mark.skipif(not (EMOJI / "config.json").exists(), reason="models/emoji is not in this checkout")
def test_the_page_says_that_the_model_is_a_demo():
    with Served(model="emoji") as server:
        page = shown(server)
    assert "demo model: emoji" in page and "tandem serve --model openai/clip-vit-base-patch32" in page
    assert not re.search(r'<aside class="demo"[^>]*hidden', page)
    assert re.search(r"1,870 labels in", page)
