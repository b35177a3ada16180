"use strict";

// Charts as SVG: lines over time, bars, a ring. Colours come from the style sheet by class, so that they follow the mode;
// every chart says in words (aria-label) what it shows.

const svgName = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text) {
  const made = document.createElementNS(svgName, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/// 1, 2 or 5 times a power of ten, so that `top` holds `most` steps at most.
function stepFor(top, most) {
  const base = 10 ** Math.floor(Math.log10(top / most));
  return [1, 2, 5, 10].map((times) => times * base).find((step) => top / step <= most) || 10 * base;
}

const short = (value) => value >= 1e9 ? `${(value / 1e9).toFixed(1)}G` : value >= 1e6 ? `${(value / 1e6).toFixed(1)}M` :
  value >= 1e4 ? `${(value / 1e3).toFixed(0)}k` : value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);

const bytesText = (value) => value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(0)} MB`;

/// Names and colours beside a chart.
function legend(entries) {
  const list = element("ul", "legend");
  entries.forEach(({ name, value, colour }) => {
    const item = element("li"), mark = element("span", `mark-${colour}`);
    mark.setAttribute("aria-hidden", "true");
    item.append(mark, element("span", "", name));
    if (value !== undefined) item.append(element("b", "", value));
    list.append(item);
  });
  return list;
}

/// lines: [{name, values (null: nothing known), colour, value (as text)}], one value a second, the last one now.
function drawLines(target, label, lines, unit, least = 1) {
  const width = 420, height = 150, left = 44, right = 6, top = 8, bottom = 18;
  const count = Math.max(2, ...lines.map((line) => line.values.length));
  const high = Math.max(least, ...lines.flatMap((line) => line.values.filter((v) => v !== null))) * 1.05;
  const x = (i) => left + (width - left - right) * i / (count - 1);
  const y = (value) => height - bottom - (height - top - bottom) * Math.min(1, value / high);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
    `${label}: ${lines.map((line) => `${line.name} ${line.value}`).join(", ")}` });
  const step = stepFor(high, 4);
  for (let value = 0; value <= high; value += step) {
    chart.append(svg("path", { class: "grid-line", d: `M${left} ${y(value)}H${width - right}` }));
    chart.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  chart.append(svg("text", { x: left, y: height - 3 }, `${count - 1} s ago`));
  chart.append(svg("text", { x: width - right, y: height - 3, "text-anchor": "end" }, unit));
  for (const line of lines) {
    let path = "", pen = "M";
    line.values.forEach((value, i) => {
      if (value === null) pen = "M";
      else {
        path += `${pen}${x(count - line.values.length + i).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      }
    });
    if (path) chart.append(svg("path", { class: `line line-${line.colour}`, d: path }));
  }
  target.replaceChildren(chart, legend(lines));
}

/// groups: [{name, parts: [{name, value, colour}]}]: bars beside each other.
function drawBars(target, label, groups, names) {
  const width = 420, height = 150, left = 44, right = 6, top = 8, bottom = 20;
  const high = Math.max(1, ...groups.flatMap((group) => group.parts.map((part) => part.value)));
  const room = (width - left - right) / Math.max(1, groups.length);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}: ${groups.map((group) =>
    `${group.name}: ${group.parts.map((part) => `${part.value} ${part.name}`).join(", ")}`).join("; ") || "nothing yet"}` });
  const step = stepFor(high, 4), y = (value) => height - bottom - (height - top - bottom) * value / high;
  for (let value = 0; value <= high; value += step) {
    chart.append(svg("path", { class: "grid-line", d: `M${left} ${y(value)}H${width - right}` }));
    chart.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  groups.forEach((group, i) => {
    const wide = room * .76 / group.parts.length;
    group.parts.forEach((part, k) => chart.append(svg("rect", { class: `bar-${part.colour}`, rx: 2, width: wide,
      x: left + room * (i + .12) + wide * k, y: y(part.value), height: Math.max(0, height - bottom - y(part.value)) })));
    chart.append(svg("text", { x: left + room * (i + .5), y: height - 5, "text-anchor": "middle" }, group.name));
  });
  target.replaceChildren(chart, legend(names));
}

/// parts: [{name, share (0 to 1), value, colour}]; the shares add up to 1, or to 0 when nothing is known.
function drawRing(target, label, parts) {
  const size = 150, radius = 54, around = 2 * Math.PI * radius;
  const chart = svg("svg", { viewBox: `0 0 ${size} ${size}`, class: "ring", role: "img", "aria-label":
    `${label}: ${parts.map((part) => `${part.name} ${part.value}`).join(", ")}` });
  chart.append(svg("circle", { class: "ring-ground", cx: size / 2, cy: size / 2, r: radius }));
  let begin = 0;
  for (const part of parts) {
    if (part.share > 0) {
      chart.append(svg("circle", { class: `ring-part line-${part.colour}`, cx: size / 2, cy: size / 2, r: radius,
        "stroke-dasharray": `${part.share * around} ${around}`, "stroke-dashoffset": -begin * around,
        transform: `rotate(-90 ${size / 2} ${size / 2})` }));
    }
    begin += part.share;
  }
  const both = element("div", "ring-and-legend");
  both.append(chart, legend(parts));
  target.replaceChildren(both);
}

/// rows: [{name, share (0 to 1), mark (0 to 1, or undefined), value}].
function drawMeters(target, rows) {
  target.replaceChildren(...rows.map((row) => {
    const item = element("div", "meter"), track = element("div", "track"), fill = element("div", "fill");
    item.append(element("span", "name", row.name), element("span", "share", row.value), track);
    track.setAttribute("role", "img");
    track.setAttribute("aria-label", `${row.name}: ${row.value}`);
    fill.style.setProperty("--share", Math.min(1, row.share));
    track.append(fill);
    if (row.mark !== undefined) {
      const peak = element("div", "peak");
      peak.style.setProperty("left", `${100 * Math.min(1, row.mark)}%`);
      track.append(peak);
    }
    return item;
  }));
}
