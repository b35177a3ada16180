"""The page's tabs in a real browser: live figures, commands to copy, comparing, camera, keyboard, phone, dark, names."""
import hashlib
import json
import subprocess

import pytest

import served
from browser import CHROMIUM, Browser
from served import Served, picture

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    for name, colour in [("red", (220, 30, 30)), ("green", (20, 200, 40)), ("blue", (20, 40, 220))]:
        (folder / f"{name}.png").write_bytes(picture(colour=colour))
    with Served("--gallery", folder) as running:
        running.gallery = folder
        load = [served.BINARY, "loadtest", f"http://127.0.0.1:{running.port}", "--requests", "300", "--texts", "0.5",
                "--size", "64x48", "--items", "2", "--corrupt", "0.05"]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        yield running


def opened(server, path="/", **more):
    return Browser(f"http://127.0.0.1:{server.port}{path}", **more)


def drawn(browser):
    browser.wait("document.querySelectorAll('#operations-panel svg').length >= 5 && !document.getElementById('routes').matches(':empty')")


TILES = "Object.fromEntries([...document.querySelectorAll('#tiles div')].map(tile => [...tile.children].map(e => e.textContent)))"


def agree(browser):
    """Waits until the tiles say what /stats says: the page itself asks for things while it opens, so both still move."""
    browser.wait("fetch('/stats').then(answer => answer.json()).then(({ items }) => { const tiles = " + TILES + "; return "
                 "tiles.Pictures === items.images.toLocaleString('en') && tiles.Texts === items.texts.toLocaleString('en'); })")
    return {name: int(value.replace(",", "")) for name, value in browser.js(TILES).items() if name in ("Pictures", "Texts")}


def test_operations_shows_what_stats_says(server):
    with opened(server, "/#operations") as browser:
        drawn(browser)
        shown = agree(browser)
        assert shown["Pictures"] > 100 and shown["Texts"] > 100
        tiles, replicas = browser.js(TILES), server.get("/ready").json["replicas"]
        assert tiles["State"] == "ready" and tiles["Replicas"] == f"{replicas['total']} of {replicas['total']}"
        assert browser.text("#routes tr th") == "POST /v1/embeddings"
        bars = browser.js("[...document.querySelectorAll('#batches rect')].filter(r => r.getAttribute('height') > 0).length")
        assert bars > 0
        label = browser.js("document.querySelector('#stages svg').getAttribute('aria-label')")
        for stage in ("queue", "decode", "compute"):
            assert stage in label
        assert browser.js("document.querySelectorAll('#stages .ring-part').length") >= 3
        assert "ms" in browser.js("document.querySelector('#latency svg').getAttribute('aria-label')")
        assert browser.js("window.scrollY") == 0
        assert not browser.problems, browser.problems


def test_operations_is_live(server):
    with opened(server, "/#operations") as browser:
        drawn(browser)
        before = int(browser.js("past.requests.length"))
        texts_before = agree(browser)["Texts"]
        server.embed([f"another text {i}" for i in range(7)])
        browser.wait(f"fetch('/stats').then(answer => answer.json()).then(stats => stats.items.texts >= {texts_before + 7})")
        assert agree(browser)["Texts"] >= texts_before + 7
        browser.wait(f"past.requests.length >= {before + 2}")
        assert browser.js("document.querySelectorAll('#throughput path.line').length") == 2
        # Unseen, it asks for nothing.
        browser.click("#tab-try")
        count = browser.js("new Promise(done => { const n = past.requests.length; setTimeout(() => done(past.requests.length - n), 2500); })")
        assert count <= 1


def test_api_tab_names_this_server_and_its_commands_work(server):
    with opened(server, "/#api") as browser:
        browser.wait("document.querySelectorAll('#recipes pre').length >= 6")
        browser.wait("state.info !== null")
        browser.click("#tab-try")
        browser.click("#tab-api")
        commands = browser.js("[...document.querySelectorAll('#recipes pre')].map(e => e.textContent)")
        assert all(f"127.0.0.1:{server.port}" in one for one in commands)
        (server.gallery.parent / "cat.jpg").write_bytes(picture("JPEG"))
        for command in (c for c in commands if c.startswith(("curl", "(printf")) and "/search" not in c):
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=server.gallery.parent, timeout=60)
            assert done.returncode == 0 and '"error"' not in done.stdout, (command, done.stdout, done.stderr)
        script = next(c for c in commands if "urllib" in c)
        done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, cwd=server.gallery.parent, timeout=60)
        assert done.stdout.startswith("cosine "), done.stderr
        names = [name for role, name in browser.nodes() if role == "button" and name.startswith("Copy: ")]
        assert len(names) == len(commands) and len(set(names)) == len(names)
        browser.click("#recipes button")
        browser.wait("['Copied', 'Selected'].includes(document.querySelector('#recipes button').textContent)")
        assert not browser.problems, browser.problems


def test_two_pictures_are_compared(server):
    with opened(server) as browser:
        browser.wait("document.getElementById('status').dataset.state === 'ready'")
        browser.files("#compare-file-0", server.gallery / "red.png")
        browser.files("#compare-file-1", server.gallery / "red.png")
        browser.wait("document.getElementById('compare-verdict').textContent.startsWith('cosine 1.000')")
        browser.files("#compare-file-1", server.gallery / "blue.png")
        browser.wait("!document.getElementById('compare-verdict').textContent.startsWith('cosine 1.000')")
        a, b = server.embed([served.data_uri((server.gallery / f"{name}.png").read_bytes()) for name in ("red", "blue")])
        shown = browser.text("#compare-verdict").split()[1]
        assert float(shown) == pytest.approx(sum(x * y for x, y in zip(a, b)), abs=2e-4)
        browser.js("document.getElementById('compare-text').value = 'a red one'; compare()")
        browser.wait("!document.getElementById('compare-verdict').textContent.includes(%s)" % json.dumps(shown))
        broken = server.gallery.parent / "broken.png"
        broken.write_bytes(b"no picture")
        browser.files("#compare-file-0", broken)
        browser.wait("!document.getElementById('compare-problem').hidden")
        assert not [p for p in browser.problems if "exception" in p], browser.problems


def test_the_camera_takes_a_picture(server):
    with opened(server, flags=["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]) as browser:
        browser.wait("document.getElementById('status').dataset.state === 'ready'")
        browser.click("#camera-open")
        browser.wait("document.getElementById('camera-view').videoWidth > 0")
        browser.click("#camera-take")
        browser.wait("document.getElementById('preview').alt.includes('camera.jpg') && document.getElementById('camera').hidden")
        browser.wait("/labels in/.test(document.getElementById('label-meta').textContent)")


def test_tabs_by_keyboard(server):
    with opened(server) as browser:
        browser.js("document.getElementById('tab-try').focus()")
        for key, name in [("ArrowRight", "operations"), ("ArrowRight", "api"), ("ArrowRight", "try"), ("ArrowLeft", "api"), ("Home", "try"), ("End", "api")]:
            browser.press(key)
            assert browser.js("document.activeElement.id") == f"tab-{name}"
            assert browser.js("[...document.querySelectorAll('[role=tabpanel]:not([hidden])')].map(e => e.id)") == [f"{name}-panel"]
            assert browser.js("[...document.querySelectorAll('[role=tab][aria-selected=true]')].map(e => e.id)") == [f"tab-{name}"]
        browser.press("Tab")
        assert browser.js("document.activeElement.closest('#api-panel') !== null")


@pytest.mark.parametrize("width, dark", [(320, False), (320, True), (390, True), (1280, True)])
def test_nothing_is_cut_off_and_everything_has_a_name(server, width, dark):
    with opened(server, width=width, height=800, dark=dark) as browser:
        for tab in ("try", "operations", "api"):
            browser.click(f"#tab-{tab}")
            if tab == "operations":
                drawn(browser)
            assert browser.js("document.documentElement.scrollWidth <= window.innerWidth"), (tab, browser.js(
                "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className + '#' + e.id).slice(0, 9)"))
            for role, name in browser.nodes():
                if role in ("button", "link", "textbox", "searchbox", "tab", "image", "img", "heading", "meter", "tabpanel"):
                    assert name.strip(), (tab, role)
        lightness = browser.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)")
        assert lightness < 150 if dark else lightness > 600


def test_a_key_can_be_given(tmp_path):
    secret = "secret-key-of-the-test"
    keys = tmp_path / "keys"
    keys.write_text(f"reader {hashlib.sha256(secret.encode()).hexdigest()}\n")
    with Served("--api-key-file", keys) as server, opened(server) as browser:
        browser.wait("!document.getElementById('key-form').hidden")
        browser.js(f"document.getElementById('key').value = '{secret}'; document.getElementById('key-form').requestSubmit()")
        browser.wait("document.getElementById('status').dataset.state === 'ready'")
        browser.click("#tab-api")
        assert secret not in browser.text("#recipes") and "TANDEM_KEY" in browser.text("#recipes")
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/docs")
        browser.wait("document.querySelectorAll('#routes details').length > 30")


def test_the_description_asks_for_a_key_itself(tmp_path):
    secret = "secret-key-of-the-test"
    keys = tmp_path / "keys"
    keys.write_text(f"reader {hashlib.sha256(secret.encode()).hexdigest()}\n")
    with Served("--api-key-file", keys) as server, opened(server, "/docs") as browser:
        browser.wait("!document.getElementById('key-form').hidden")
        browser.js(f"document.getElementById('key').value = '{secret}'; document.getElementById('key-form').requestSubmit()")
        browser.wait("document.querySelectorAll('#routes details').length > 30")
