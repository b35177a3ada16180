"use strict";

// Two pictures, or a picture and words, side by side: how near their vectors are. And the camera, for either card.

const compared = { files: [null, null], asking: null };

function takeToCompare(which, file) {
  if (!file) return;
  const view = $(`compare-view-${which}`);
  if (compared.files[which]) URL.revokeObjectURL(view.src);
  compared.files[which] = file;
  view.src = URL.createObjectURL(file);
  view.alt = `Picture ${which + 1} to compare: ${file.name || "picture"}`;
  view.hidden = false;
  $(`compare-drop-${which}`).classList.add("full");
  if (which === 1) $("compare-text").value = "";
  compare();
}

const dataUri = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(new Error(`${file.name || "The picture"} could not be read.`));
  reader.readAsDataURL(file);
});

/// The cosine of two vectors of length 1.
const cosine = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

async function compare() {
  const words = $("compare-text").value.trim();
  if (compared.asking) compared.asking.abort();
  compared.asking = null;
  say("compare-problem", "");
  if (!compared.files[0] || !(words || compared.files[1])) return;
  const mine = compared.asking = new AbortController();
  const begin = performance.now();
  try {
    const input = [await dataUri(compared.files[0]), words || await dataUri(compared.files[1])];
    const answer = await ask("/v1/embeddings", {
      method: "POST", headers: { "Content-Type": "application/json" }, signal: mine.signal, body: JSON.stringify({ input }),
    });
    const [a, b] = answer.data.map((row) => row.embedding);
    const value = cosine(a, b);
    $("compare-verdict").textContent = `cosine ${value.toFixed(4)} · ${milliseconds(begin)}`;
    $("compare-meter").value = Math.max(0, value);
    $("compare-meter").hidden = false;
  } catch (error) {
    if (error.name === "AbortError") return;
    $("compare-verdict").textContent = "";
    $("compare-meter").hidden = true;
    say("compare-problem", error.message);
  } finally {
    if (compared.asking === mine) compared.asking = null;
  }
}

for (const which of [0, 1]) {
  $(`compare-file-${which}`).addEventListener("change", (event) => takeToCompare(which, event.target.files[0]));
}
$("compare-text").addEventListener("input", later(300, compare));

// ---- camera ----

let stream = null;

function closeCamera() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera-view").srcObject = null;
  if (!$("camera").hidden) $("camera-open").focus();
  $("camera").hidden = true;
}

async function openCamera() {
  if (stream) return closeCamera();
  try {
    if (!navigator.mediaDevices) throw new Error("The browser gives the camera only to pages from this machine or over HTTPS.");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    $("camera-view").srcObject = stream;
    $("camera").hidden = false;
    await $("camera-view").play();
    $("camera-take").focus();
    say("label-problem", "");
  } catch (error) {
    closeCamera();
    say("label-problem", `No picture from the camera: ${error.message}`);
  }
}

function takePicture() {
  const view = $("camera-view"), canvas = document.createElement("canvas");
  if (!view.videoWidth) return;
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  closeCamera();
  canvas.toBlob((blob) => takeFile(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
}

$("camera-open").addEventListener("click", openCamera);
$("camera-take").addEventListener("click", takePicture);
$("camera-close").addEventListener("click", closeCamera);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && stream) closeCamera();
});
