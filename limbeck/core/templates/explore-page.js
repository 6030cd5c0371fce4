// The page around the map: pointer, keys, search, the panel.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
const announce = (text) => { $("status").textContent = text; };
const nameOf = (i) => (later.names ? later.names[i] : `image ${i + 1}`);
const labelOf = (i) => (labeled && labels[i] >= 0 ? about.labels[labels[i]] : "");
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function photo(i, side, element = make("canvas", { className: "photo" })) {
  const [w, h] = size(i, side);
  [element.width, element.height] = [Math.max(1, w * ratio), Math.max(1, h * ratio)];
  [element.style.width, element.style.height] = [`${w}px`, `${h}px`];
  const target = element.getContext("2d");
  target.imageSmoothingQuality = "high";
  drawPhoto(target, i, 0, 0, element.width, element.height);
  return element;
}
function tile(i, side, note = "", kind = "") {
  const button = make("button", { type: "button", className: kind, title: nameOf(i) }, photo(i, side));
  button.setAttribute("aria-label", `Select ${nameOf(i)}${note ? `, ${note}` : ""}`);
  if (note) button.append(make("span", { textContent: note }));
  button.onclick = () => choose(i);
  return button;
}

// Tabs
const tabs = ["image", "groups", "list"];
function open(name) {
  for (const tab of tabs) {
    $(tab).hidden = tab !== name;
    $(`tab-${tab}`).setAttribute("aria-selected", tab === name);
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
}
tabs.forEach((tab, k) => {
  $(`tab-${tab}`).onclick = () => open(tab);
  $(`tab-${tab}`).onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(k + step + tabs.length) % tabs.length];
    open(next);
    $(`tab-${next}`).focus();
  };
});

// One image
function choose(i) {
  state.chosen = i;
  showImage();
  open("image");
  goTo(i);
  announce(`${nameOf(i)} ${labelOf(i)}`);
}
function fact(text, value, kind = "") { return make("div", { className: kind }, text, make("b", { textContent: value })); }
function showImage() {
  const i = state.chosen, place = $("image");
  if (i < 0) {
    place.replaceChildren(make("h2", { textContent: "Every point is an image" }),
      make("p", { className: "note", textContent: "Points that lie close together have similar features. Point at one to see it, select it to see what is nearest at each depth, or draw around some with the lasso to list their files." }),
      make("h2", { textContent: "Most unusual" }), make("div", { className: "grid" }, ...mostUnusual(12).map((j) => tile(j, 76, labelOf(j)))));
    return;
  }
  const facts = make("div", { className: "facts" });
  if (labelOf(i)) facts.append(fact("label ", labelOf(i)));
  if (labeled && labels[i] >= 0 && votes[i] >= 0 && votes[i] !== labels[i]) facts.append(fact("its neighbors are ", about.labels[votes[i]], "wrong"));
  if (labeled && labels[i] >= 0 && probed[i] >= 0 && probed[i] !== labels[i]) facts.append(fact("a linear probe says ", about.labels[probed[i]], "wrong"));
  facts.append(fact("cluster ", clusters[i] + 1), fact("more unusual than ", percent(outliers[i] / 255)));
  place.replaceChildren(
    make("div", { className: "chosen" }, photo(i, 128), make("div", {}, make("h2", { textContent: nameOf(i) }), facts)),
    depthSlider(), make("div", { className: "grid", id: "near" }));
  showNeighbors();
}
function depthSlider() {
  const slider = make("input", { type: "range", id: "depth", min: 0, max: about.depths.length - 1, value: state.depth });
  slider.disabled = about.depths.length < 2;
  slider.oninput = () => setDepth(+slider.value);
  return make("div", { className: "depth" },
    make("label", { htmlFor: "depth" }, make("span", { textContent: "Nearest images" }), make("output", { id: "at" })),
    slider, make("p", { className: "note", id: "share" }));
}
function setDepth(depth) {
  state.depth = Math.min(about.depths.length - 1, Math.max(0, depth));
  if (state.chosen >= 0) showNeighbors();
  redraw();
}
function showNeighbors() {
  const at = `depth ${about.depths[state.depth]} of ${about.depths[about.depths.length - 1]}`;
  $("depth").value = state.depth;
  $("depth").setAttribute("aria-valuetext", at);
  $("at").textContent = at;
  const share = about.agreement[state.depth];
  $("share").textContent = share === undefined ? "" : `Over all images, ${percent(share)} of the ${about.shown} nearest have the label of their image.`;
  const i = state.chosen, own = labelOf(i);
  $("near").replaceChildren(...neighborsOf(i).map((j) => tile(j, 76, labelOf(j), own && labelOf(j) ? (own === labelOf(j) ? "same" : "other") : "")));
}
function mostUnusual(most) {
  const ranked = Array.from({ length: count }, (_, i) => i).filter((i) => outliers[i] > 250 || count < 500);
  return ranked.sort((a, b) => outliers[b] - outliers[a]).slice(0, most);
}

// Clusters
function showClusters() {
  $("groups").replaceChildren(...about.clusters.map((cluster, number) => {
    const [rgb, shape] = [palette.series[number % 6], Math.floor(number / 6) % 4];
    const swatch = make("i", { className: `swatch shape-${shape}` });
    swatch.style.setProperty("--swatch", css(rgb));
    const mostly = cluster.label >= 0 ? `${percent(cluster.share)} ${about.labels[cluster.label]}` : "";
    const list = make("button", { type: "button", textContent: "List" });
    list.setAttribute("aria-label", `List cluster ${number + 1}`);
    list.onclick = () => { setList((i) => clusters[i] === number, `cluster ${number + 1}`); open("list"); };
    return make("div", { className: "cluster" },
      make("h3", {}, swatch, `${number + 1}`, make("span", { textContent: `${cluster.size.toLocaleString("en")} images  ${mostly}` }), list),
      make("div", { className: "row" }, ...cluster.typical.map((i) => tile(i, 56))));
  }));
}

// The list: what a lasso, a search or a cluster found
function setList(test, what) {
  const chosen = new Uint8Array(count);
  let found = 0;
  for (let i = 0; i < count; i++) if (test(i)) { chosen[i] = 1; found++; }
  state.listed = chosen;
  showList(found, what);
  repaint();
  announce(`${found} ${found === 1 ? "image" : "images"}`);
}
function clearList() {
  state.listed = null;
  showList(0, "");
  repaint();
}
function listedRows() { return state.listed ? Array.from(state.listed.keys()).filter((i) => state.listed[i]) : []; }
function showList(found, what) {
  const place = $("list");
  $("listed").textContent = state.listed ? found.toLocaleString("en") : "";
  if (!state.listed) {
    const draw = make("button", { type: "button", className: "main", textContent: "Draw a lasso", onclick: () => setLasso(true) });
    place.replaceChildren(make("p", { className: "note", textContent: "Nothing is listed. Draw around images, search for a name, or list a cluster." }), make("div", { className: "actions" }, draw));
    return;
  }
  const rows = listedRows(), text = make("textarea", { readOnly: true, value: rows.map(nameOf).join("\n") });
  text.setAttribute("aria-label", "Names of the listed images");
  if (!found) {
    place.replaceChildren(make("h2", { textContent: "Nothing found" }), make("p", { className: "note", textContent: `No image belongs to ${what}.` }));
    return;
  }
  const button = (label, onclick, kind = "") => make("button", { type: "button", textContent: label, onclick, className: kind });
  place.replaceChildren(
    make("h2", { textContent: `${found.toLocaleString("en")} images` }), make("p", { className: "note", textContent: `from ${what}` }),
    make("div", { className: "actions" },
      button("Copy names", () => copy(text), "main"), button("Download .txt", () => download(text.value)), button("Clear", clearList)),
    make("div", { className: "grid" }, ...rows.slice(0, 48).map((i) => tile(i, 76, labelOf(i)))), text);
}
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text.value);
  } catch {
    text.select();
    document.execCommand("copy");
  }
  announce("copied");
}
function download(text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text + "\n"], { type: "text/plain" })), download: "images.txt" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Lasso
function setLasso(on) {
  state.drawing = on;
  $("lasso").setAttribute("aria-pressed", on);
  overlay.classList.toggle("lasso", on);
}
function within(polygon) {
  return (i) => {
    const [x, y] = toScreen(i);
    let inside = false;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [ax, ay] = polygon[a], [bx, by] = polygon[b];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  };
}
function endLasso() {
  const polygon = state.lasso;
  state.lasso = null;
  setLasso(false);
  if (polygon.length > 2) {
    setList(within(polygon), "the lasso");
    open("list");
  }
  redraw();
}

// Pointer
const touches = new Map();
let travelled = 0;
const where = (event) => { const box = overlay.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
function under(x, y) {
  for (let k = photographs.length - 1; k >= 0; k--) {
    const [i, px, py, w, h] = photographs[k];
    if (Math.abs(px - x) < w / 2 + 2 && Math.abs(py - y) < h / 2 + 2) return i;
  }
  return nearest(x, y, 14);
}
overlay.onpointerdown = (event) => {
  overlay.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, where(event));
  travelled = 0;
  if (state.drawing) state.lasso = [where(event)];
};
overlay.onpointermove = (event) => {
  const at = where(event), before = touches.get(event.pointerId);
  if (!before) return hover(under(...at), at);
  const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
  travelled += Math.abs(dx) + Math.abs(dy);
  if (state.lasso) {
    state.lasso.push(at);
    redraw();
  } else if (touches.size === 2) {
    const [other] = [...touches].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    zoomBy(far(at) / far(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  } else {
    overlay.classList.add("moving");
    moveBy(dx, dy);
  }
  touches.set(event.pointerId, at);
  hover(-1);
  return undefined;
};
overlay.onpointerup = overlay.onpointercancel = (event) => {
  const at = where(event);
  touches.delete(event.pointerId);
  overlay.classList.remove("moving");
  if (state.lasso) return endLasso();
  const found = travelled < 8 ? under(...at) : -1;
  if (found >= 0) choose(found);
  return undefined;
};
overlay.onpointerleave = () => hover(-1);
overlay.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...where(event));
}, { passive: false });
overlay.ondblclick = (event) => zoomBy(2, ...where(event));
function hover(i, at) {
  const tip = $("tip");
  overlay.classList.toggle("over", i >= 0);
  if (i < 0) {
    tip.hidden = true;
  } else {
    if (i !== state.hover) {
      photo(i, Math.max(96, Math.min(180, about.tile * 2)), tip.firstElementChild);
      tip.lastElementChild.textContent = [nameOf(i), labelOf(i)].filter(Boolean).join("  ·  ");
    }
    tip.hidden = false;
    const [w, h] = [tip.offsetWidth, tip.offsetHeight];
    tip.style.left = `${at[0] + 18 + w > width ? Math.max(4, at[0] - 18 - w) : at[0] + 18}px`;
    tip.style.top = `${Math.max(4, Math.min(height - h - 4, at[1] - h / 2))}px`;
  }
  if (i !== state.hover) {
    state.hover = i;
    redraw();
  }
}

// Keys
overlay.onkeydown = (event) => {
  const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
  if (step) moveBy(...step);
  else if (event.key === "Enter") { const i = nearest(width / 2, height / 2, Math.max(width, height)); if (i >= 0) choose(i); }
  else return;
  event.preventDefault();
};
const keys = { "+": () => zoomBy(1.4), "=": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4), 0: showAll, l: () => setLasso(!state.drawing),
  t: () => $("photos").click(), "[": () => setDepth(state.depth - 1), "]": () => setDepth(state.depth + 1), "/": () => $("search").focus() };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return clearAll();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search], textarea, select")) return undefined;
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
  return undefined;
});
function clearAll() {
  $("search").value = "";
  state.chosen = -1;
  state.lasso = null;
  setLasso(false);
  setOnly(-1);
  showImage();
  clearList();
}

// Search, colors, legend
$("search").oninput = () => {
  const wanted = $("search").value.trim().toLowerCase();
  if (!wanted) return clearList();
  setList((i) => nameOf(i).toLowerCase().includes(wanted) || labelOf(i).toLowerCase().includes(wanted), `the search for “${wanted}”`);
  open("list");
  return undefined;
};
function setOnly(value) {
  state.only = value;
  for (const entry of $("legend").children) entry.setAttribute("aria-pressed", +entry.dataset.value === value);
  repaint();
}
function showLegend() {
  const names = modes[state.color].names;
  if (!names) {
    $("legend").replaceChildren(make("div", { className: "key" }, "usual", make("span", { className: "ramp" }), "unusual"));
    return;
  }
  const used = new Set();
  for (let i = 0; i < count; i++) used.add(modes[state.color].of(i));
  $("legend").replaceChildren(...names.map((name, value) => {
    const [rgb, shape] = modes[state.color].marks ? (value ? [palette.bad, 2] : [palette.quiet, 0]) : [palette.series[value % 6], Math.floor(value / 6) % 4];
    const swatch = make("i", { className: `shape-${shape}` });
    swatch.style.setProperty("--swatch", css(rgb));
    const button = make("button", { type: "button", title: "Show only these" }, swatch, name);
    button.dataset.value = value;
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => setOnly(state.only === value ? -1 : value);
    return button;
  }).filter((button) => used.has(+button.dataset.value)).slice(0, 60));
}
function setColor(mode) {
  state.color = mode;
  state.only = -1;
  showLegend();
  repaint();
}
for (const [name, mode] of Object.entries(modes)) {
  if (labeled || !["label", "mistakes", "probe"].includes(name)) $("color").append(make("option", { value: name, textContent: mode.title }));
}
$("color").onchange = () => setColor($("color").value);
$("lasso").onclick = () => setLasso(!state.drawing);
$("photos").onclick = () => {
  state.photos = !state.photos;
  $("photos").setAttribute("aria-pressed", state.photos);
  redraw();
};
$("closer").onclick = () => zoomBy(1.4);
$("farther").onclick = () => zoomBy(1 / 1.4);
$("whole").onclick = showAll;

// Start: first the points, then, once the rest of the file is there, names, neighbors and photographs
function start() {
  readPalette();
  index();
  resize();
  setColor(labeled ? "label" : "cluster");
  open("image");
}
async function finish() {
  const raw = decode("neighbors");
  later.neighbors = about.wide ? new Uint32Array(raw.buffer) : new Uint16Array(raw.buffer);
  const names = new Blob([decode("names")]).stream().pipeThrough(new DecompressionStream("gzip"));
  later.names = JSON.parse(await new Response(names).text());
  later.sheets = Array.from({ length: about.sheets }, (_, k) => {
    const sheet = new Image(), element = $(`sheet-${k}`);
    sheet.src = `data:image/webp;base64,${element.textContent}`;
    element.remove();
    return sheet;
  });
  await Promise.all(later.sheets.map((sheet) => sheet.decode().catch(() => undefined)));
  showImage();
  showClusters();
  showList(0, "");
  redraw();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}
start();
addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalette(); showLegend(); showClusters(); repaint(); });
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", finish) : finish();
