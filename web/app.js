"use strict";

// The page's whole behaviour: find out what is served, label a picture, search the gallery. Every text that comes from
// the server or a file goes in as text, never as markup.

const $ = (id) => document.getElementById(id);
const shown = 8;  // labels with bars
const samples = 10;  // pictures offered to label
const state = { info: null, names: 0, picture: null, pictureName: "", labelling: null, searching: null, lastQuery: "" };

// For a model that knows photographs and has no labels of its own.
const everyday = ["a cat", "a dog", "a bird", "a horse", "a person", "a group of people", "a child", "a face", "food",
  "a drink", "a flower", "a tree", "a forest", "a mountain", "the sea", "the sky", "a city street", "a building",
  "a room", "a car", "a bicycle", "a computer", "a book", "a drawing", "a map", "a page of text"];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(id, message) {
  $(id).textContent = message || "";
  $(id).hidden = !message;
}

/// The key that the server asks for, if it does; kept until the tab is closed.
const key = () => sessionStorage.getItem("key");

/// fetch() with that key.
const get = (path, options = {}) => fetch(path, key() ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${key()}` } } : options);

/// Shows a picture of the server's; an <img> cannot send a key, so with one it is fetched.
async function showImage(image, url) {
  if (!key()) {
    image.src = url;
    return;
  }
  const answer = await get(url);
  if (!answer.ok) return;
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.src = URL.createObjectURL(await answer.blob());
}

/// The answer as JSON, or an Error with the server's own message.
async function ask(path, options) {
  let answer;
  try {
    answer = await get(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  let body = null;
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Error("The server's answer could not be read.");
  }
  if (answer.status === 401) $("key-form").hidden = false;
  if (!answer.ok) {
    const error = new Error(body && body.error ? body.error.message : `The server answered ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return body;
}

const later = (wait, act) => {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
};
/// Copies what `source` shows; where the browser does not allow it, selects it.
async function copyText(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  await pause(1600);
  button.textContent = "Copy";
}
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const milliseconds = (begin) => `${Math.max(1, Math.round(performance.now() - begin))} ms`;
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const number = (value) => value.toLocaleString("en");

// ---- what is served ----

function showStatus(kind, text) {
  $("status").dataset.state = kind;
  $("status-text").textContent = text;
}

function showModel(info) {
  const model = info.model;
  const where = [model.device, model.precision].filter(Boolean).join(" · ");
  showStatus("ready", `${model.demo ? "demo model: emoji" : model.id} · ${where}`);
  $("status").title = [model.device_name, model.isa].filter(Boolean).join(", ");
  $("demo").hidden = !model.demo;
  if (info.load_another) $("command").textContent = info.load_another;
  $("about").textContent = `Tandem ${info.version} · ${model.embed_dim} dimensions · ${(model.parameters / 1e6).toFixed(1)} M parameters`;
  state.names = info.default_labels;
  $("labels").placeholder = state.names ? `all ${number(state.names)} emoji names` : "a cat\na dog";
  if (!state.names && !$("labels").value) {
    $("labels").value = everyday.join("\n");
    $("templates").value = "a photo of {}";
  }
  $("templates").placeholder = info.default_templates.join("\n") || "{}";
  noteLabels();
  const examples = model.demo ? ["red heart", "a doctor", "money", "rain", "a sleeping face", "fruit"] : [];
  $("chips").replaceChildren(...examples.map((text) => {
    const chip = element("button", "", text);
    chip.type = "button";
    chip.addEventListener("click", () => {
      $("query").value = text;
      search();
    });
    return chip;
  }));
  $("chips").hidden = examples.length === 0;
}

async function follow() {
  for (;;) {
    try {
      const info = await ask("/info");
      say("problem", info.status === "failed" || info.reason ? info.reason : "");
      if (info.status === "ready" && !info.reason) {
        const first = !state.info || state.info.model.hash !== info.model.hash;
        state.info = info;
        if (first || $("status").dataset.state !== "ready") {
          showModel(info);
          await showGallery();
          if (state.picture) label();
        }
        noteGallery(info.gallery);
      } else {
        const texts = { loading: "loading the model…", draining: "the server is stopping", failed: "the model failed", ready: "the model is not well" };
        showStatus(info.status === "loading" ? "loading" : "failed", texts[info.status] || info.status);
      }
    } catch (error) {
      showStatus("failed", "no connection");
      say("problem", error.message);
    }
    const settled = state.info && $("status").dataset.state === "ready" && state.info.gallery.done >= state.info.gallery.count;
    await pause(settled ? 5000 : 700);
  }
}

// ---- label a picture ----

function noteLabels() {
  const own = lines($("labels").value).length, templates = lines($("templates").value).length;
  const untouched = $("labels").value === everyday.join("\n");
  $("labels-note").textContent = (untouched ? `${own} everyday things` : own ? `${own} of your own` : state.names ? `all ${number(state.names)} emoji names` : "none yet") +
    (templates ? ` · ${templates} template${templates > 1 ? "s" : ""}` : "");
}

function setPicture(blob, name) {
  if (state.picture) URL.revokeObjectURL($("preview").src);
  state.picture = blob;
  state.pictureName = name;
  $("preview").src = URL.createObjectURL(blob);
  $("preview").alt = `The picture to label: ${name}`;
  $("preview").hidden = false;
  $("drop-text").hidden = true;
  $("drop").classList.add("full");
  label();
}

function showBars(list) {
  // Rows are kept, so that bars move from their old length to the new one.
  const bars = $("bars");
  while (bars.children.length > list.length) bars.lastChild.remove();
  list.forEach((item, i) => {
    let row = bars.children[i];
    if (!row) {
      row = element("li");
      const track = element("div", "track");
      track.setAttribute("aria-hidden", "true");
      track.append(element("div", "fill"));
      row.append(element("span", "name"), element("span", "share"), track);
      bars.append(row);
      row.offsetWidth;  // lay out at length 0 first
    }
    const name = row.querySelector(".name");
    name.replaceChildren();
    if (item.emoji) {
      const sign = element("span", "sign", item.emoji);
      sign.setAttribute("aria-hidden", "true");
      name.append(sign);
    }
    name.append(item.label);
    name.title = item.label;
    const percent = item.probability * 100;
    row.querySelector(".share").textContent = `${percent >= 10 ? percent.toFixed(1) : percent >= .01 ? percent.toPrecision(2) : "< 0.01"} %`;
    row.querySelector(".fill").style.setProperty("--share", item.probability);
  });
}

async function label() {
  if (!state.picture || !state.info) return;
  if (state.labelling) state.labelling.abort();
  const mine = state.labelling = new AbortController();
  const form = new FormData();
  form.append("image", state.picture, "picture");
  const own = lines($("labels").value);
  if (own.length) form.append("labels", own.join("\n") + "\n");
  for (const template of lines($("templates").value)) form.append("template", template);
  form.append("top", String(shown));
  $("drop").classList.add("busy");
  const begin = performance.now();
  try {
    const answer = await ask("/classify", { method: "POST", body: form, signal: mine.signal });
    const best = answer.results[0].labels;
    say("label-problem", "");
    showBars(best);
    $("label-meta").textContent = `${best[0].label} · ${own.length ? own.length : number(state.names)} labels in ${milliseconds(begin)}`;
  } catch (error) {
    if (error.name === "AbortError") return;
    showBars([]);
    $("label-meta").textContent = "";
    say("label-problem", error.message);
  } finally {
    if (state.labelling === mine) {
      state.labelling = null;
      $("drop").classList.remove("busy");
    }
  }
}

async function labelFromGallery(picture) {
  for (const other of $("samples").children) other.setAttribute("aria-pressed", String(other.dataset.id === String(picture.id)));
  try {
    const answer = await get(picture.url);
    if (!answer.ok) throw new Error(`${picture.name} could not be fetched.`);
    setPicture(await answer.blob(), picture.name);
  } catch (error) {
    say("label-problem", error.message);
  }
}

function takeFile(file) {
  if (!file) return;
  for (const other of $("samples").children) other.setAttribute("aria-pressed", "false");
  setPicture(file, file.name || "pasted picture");
}

// ---- search the gallery ----

function noteGallery(gallery) {
  $("gallery-note").textContent = gallery.count === 0 ? "" :
    gallery.done < gallery.count ? `reading ${number(gallery.done)} of ${number(gallery.count)} pictures…` : `${number(gallery.count)} pictures`;
}

function tile(picture) {
  const item = element("li"), button = element("button"), image = element("img"), caption = element("span", "caption");
  button.type = "button";
  image.alt = "";
  image.loading = "lazy";
  showImage(image, picture.url);
  image.width = image.height = 128;
  caption.append(element("span", "", picture.name));
  caption.firstChild.title = picture.name;
  if (picture.score !== undefined) caption.append(element("span", "score", picture.score.toFixed(3)));
  button.setAttribute("aria-label", picture.score === undefined ? `Label ${picture.name}` :
    `${picture.rank}: ${picture.name}, score ${picture.score.toFixed(3)}. Label it`);
  button.append(image, caption);
  button.addEventListener("click", () => {
    labelFromGallery(picture);
    $("label-title").scrollIntoView({ block: "start", behavior: "smooth" });
  });
  item.append(button);
  return item;
}

async function showGallery() {
  const answer = await ask("/gallery?limit=60");
  const some = answer.pictures;
  const step = Math.max(1, Math.floor(some.length / samples));
  $("samples").replaceChildren(...some.filter((_, i) => i % step === 0).slice(0, samples).map((picture) => {
    const button = element("button"), image = element("img");
    button.type = "button";
    button.dataset.id = picture.id;
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `Label the sample ${picture.name}`);
    image.alt = "";
    showImage(image, picture.url);
    button.append(image);
    button.addEventListener("click", () => labelFromGallery(picture));
    return button;
  }));
  $("samples").hidden = some.length === 0;
  if ($("query").value.trim()) search();
  else showTiles(some.slice(0, 24), false);
  if (!state.picture && $("samples").firstChild) $("samples").firstChild.click();
}

function showTiles(pictures, ranked) {
  $("grid").classList.toggle("ranked", ranked);
  if (pictures.length) {
    $("grid").replaceChildren(...pictures.map(tile));
  } else {
    $("grid").replaceChildren(element("li", "empty", ranked ? "Nothing found yet." : "No gallery. Start the server with --gallery FOLDER."));
  }
}

async function search() {
  const text = $("query").value.trim();
  if (state.searching) state.searching.abort();
  state.searching = null;
  say("search-problem", "");
  if (!text) {
    $("search-meta").textContent = "";
    if (state.info) showTiles((await ask("/gallery?limit=24")).pictures, false);
    return;
  }
  const mine = state.searching = new AbortController();
  const begin = performance.now();
  try {
    const answer = await ask("/search", {
      method: "POST", headers: { "Content-Type": "application/json" }, signal: mine.signal,
      body: JSON.stringify({ text, top: 15 }),
    });
    showTiles(answer.results, true);
    $("search-meta").textContent = `${number(answer.gallery.done)} pictures searched in ${milliseconds(begin)}`;
    $("search-said").textContent = answer.results.length ? `Best for ${text}: ${answer.results[0].name}` : "Nothing found";
  } catch (error) {
    if (error.name !== "AbortError") say("search-problem", error.message);
  } finally {
    if (state.searching === mine) state.searching = null;
  }
}

// ---- events ----

$("file").addEventListener("change", (event) => takeFile(event.target.files[0]));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  $("drop").classList.remove("over");
  const target = event.target.closest && event.target.closest(".pair .drop");
  if (target) takeToCompare(Number(target.id.slice(-1)), event.dataTransfer.files[0]);
  else takeFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (!file || $("try-panel").hidden) return;
  event.preventDefault();
  takeFile(file);
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  $("key").value = "";
  $("key-form").hidden = true;
});
const labelSoon = later(350, label);
for (const id of ["labels", "templates"]) {
  $(id).addEventListener("input", () => {
    noteLabels();
    labelSoon();
  });
}
$("reset").addEventListener("click", () => {
  $("labels").value = state.names ? "" : everyday.join("\n");
  $("templates").value = state.names ? "" : "a photo of {}";
  noteLabels();
  label();
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
$("query").addEventListener("input", later(180, search));
$("copy").addEventListener("click", () => copyText($("copy"), $("command")));

$("query").value = new URLSearchParams(location.search).get("q") || "";  // a search that can be linked to
$("edit").open = matchMedia("(min-width: 980px)").matches;
follow();
