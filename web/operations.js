"use strict";

// The Operations tab: GET /stats once a second while the tab is seen, the last two minutes kept and drawn.

const kept = 121;  // seconds
const past = { requests: [], items: [], p50: [], p95: [], p99: [], queue: [], flight: [], last: null, timer: 0 };
const stageColours = { queue: "soft", decode: "word", resize: "green", copy: "amber", compute: "picture" };

const percent = (value) => `${(100 * value).toFixed(value > .0995 || value === 0 ? 0 : 1)} %`;
const ms = (value) => value >= 1000 ? `${(value / 1000).toFixed(2)} s` : value >= 10 ? `${value.toFixed(0)} ms` : `${value.toFixed(2)} ms`;
const duration = (seconds) => seconds < 120 ? `${Math.floor(seconds)} s` : seconds < 7200 ? `${Math.floor(seconds / 60)} min` :
  seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;

function remember(name, value) {
  past[name].push(value);
  if (past[name].length > kept) past[name].shift();
}

/// Notes what is now, and rates since the time before.
function noteStats(stats) {
  const items = stats.items.images + stats.items.texts, before = past.last;
  const now = { time: performance.now() / 1000, requests: stats.requests.total, items, uptime: stats.uptime_seconds };
  past.last = now;
  const passed = before ? now.time - before.time : 0;
  const known = before && passed > .2 && now.uptime >= before.uptime;  // another process began from 0
  remember("requests", known ? Math.max(0, now.requests - before.requests) / passed : null);
  remember("items", known ? Math.max(0, now.items - before.items) / passed : null);
  const recent = stats.latency.recent, any = recent.count > 0;
  for (const name of ["p50", "p95", "p99"]) remember(name, any ? recent[`${name}_ms`] : null);
  remember("queue", stats.queue.items);
  remember("flight", stats.requests.in_flight);
}

const latest = (name) => past[name][past[name].length - 1];
const rateText = (name) => latest(name) === null ? "–" : `${short(latest(name))}/s`;
const timeText = (name) => latest(name) === null ? "–" : ms(latest(name));

function drawTiles(stats) {
  const failed = stats.requests.routes.reduce((sum, route) => sum + route.failed, 0);
  const tiles = [
    ["State", stats.ready ? "ready" : stats.status], ["Requests", number(stats.requests.total)], ["Failed", number(failed)],
    ["Pictures", number(stats.items.images)], ["Texts", number(stats.items.texts)],
    ["Replicas", `${stats.replicas.working} of ${stats.replicas.total}`], ["Connections", number(stats.requests.connections)],
    ["Running for", duration(stats.uptime_seconds)],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = element("div");
    tile.append(element("dt", "", name), element("dd", "", value));
    return tile;
  }));
}

function drawBatches(batches) {
  const histogram = (which) => batches[which].histogram.map((one) => one.batches);
  const images = histogram("images"), texts = histogram("texts");
  const last = Math.max(0, ...images.map((n, i) => n + texts[i] ? i : 0));
  const names = batches.images.histogram.map((one, i) => one.most === null ? "more" :
    one.most <= 2 ? String(one.most) : `≤${batches.images.histogram[i].most}`);
  drawBars($("batches"), "Batches by their size", names.slice(0, last + 1).map((name, i) => ({ name, parts: [
    { name: "of pictures", value: images[i], colour: "picture" }, { name: "of texts", value: texts[i], colour: "word" }] })),
  [{ name: "pictures", colour: "picture", value: `${batches.images.mean_size.toFixed(1)} on average` },
    { name: "texts", colour: "word", value: `${batches.texts.mean_size.toFixed(1)} on average` }]);
  $("batches-note").textContent = batches.max ? `at most ${batches.max}` : "";
}

function drawMemory(memory) {
  const rows = memory.gpus.map((gpu) => ({ name: `GPU ${gpu.gpu} · ${percent(gpu.utilization > 1 ? gpu.utilization / 100 : gpu.utilization)} busy`,
    share: gpu.used_bytes / gpu.total_bytes, mark: gpu.peak_bytes / gpu.total_bytes,
    value: `${bytesText(gpu.used_bytes)} of ${bytesText(gpu.total_bytes)}, peak ${bytesText(gpu.peak_bytes)}` }));
  rows.push({ name: "Process", share: memory.resident_bytes / memory.peak_resident_bytes,
    value: `${bytesText(memory.resident_bytes)}, peak ${bytesText(memory.peak_resident_bytes)}` });
  rows.push({ name: "Requests under way", share: memory.requests_bytes / memory.requests_limit_bytes,
    value: `${bytesText(memory.requests_bytes)} of ${bytesText(memory.requests_limit_bytes)}` });
  drawMeters($("memory"), rows);
  const growth = memory.growth_bytes_per_1000_requests;
  $("memory-note").textContent = memory.growth_samples > 1 ? `${growth >= 0 ? "+" : "−"}${Math.abs(growth / 1000).toFixed(0)} kB per 1,000 requests` : "";
}

function drawRoutes(routes) {
  $("routes").replaceChildren(...[...routes].sort((a, b) => b.count - a.count).map((route) => {
    const row = element("tr"), name = element("th", "", `${route.method} ${route.path}`.trim());
    name.scope = "row";
    row.append(name, ...[number(route.count), number(route.failed), ms(route.p50_ms), ms(route.p99_ms)].map((text) => element("td", "", text)));
    return row;
  }));
}

function drawStats(stats) {
  drawTiles(stats);
  drawLines($("throughput"), "Throughput", [
    { name: "requests", values: past.requests, colour: "picture", value: rateText("requests") },
    { name: "pictures and texts", values: past.items, colour: "word", value: rateText("items") }], "per second");
  $("throughput-note").textContent = `${number(stats.requests.in_flight)} under way`;
  drawLines($("latency"), "Latency of the last minute", [
    { name: "p50", values: past.p50, colour: "word", value: timeText("p50") },
    { name: "p95", values: past.p95, colour: "picture", value: timeText("p95") },
    { name: "p99", values: past.p99, colour: "amber", value: timeText("p99") }], "ms");
  $("latency-note").textContent = "of the last minute";
  drawLines($("queue"), "Queue", [
    { name: "waiting items", values: past.queue, colour: "picture", value: number(stats.queue.items) },
    { name: "requests under way", values: past.flight, colour: "word", value: number(stats.requests.in_flight) }], "now", 4);
  $("queue-note").textContent = `room for ${number(stats.queue.limit)} items`;
  drawBatches(stats.batches);
  drawRing($("stages"), "Stages", Object.keys(stageColours).filter((name) => stats.stages[name]).map((name) => ({ name,
    share: stats.stages[name].share, colour: stageColours[name], value: percent(stats.stages[name].share) })));
  const caches = Object.entries(stats.caches);
  drawMeters($("caches"), caches.map(([name, cache]) => ({ name, share: cache.hit_rate,
    value: `${percent(cache.hit_rate)} of ${number(cache.hits + cache.misses)}, ${number(cache.entries)} kept` })));
  drawMemory(stats.memory);
  drawRoutes(stats.requests.routes);
}

async function refreshStats() {
  clearTimeout(past.timer);
  if ($("operations-panel").hidden || document.hidden) return;
  try {
    const stats = await ask("/stats");
    say("operations-problem", "");
    noteStats(stats);
    drawStats(stats);
  } catch (error) {
    say("operations-problem", error.message);
  }
  if (!$("operations-panel").hidden) past.timer = setTimeout(refreshStats, 1000);
}

document.addEventListener("visibilitychange", refreshStats);
