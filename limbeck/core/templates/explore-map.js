"use strict";
// The map: points in WebGL (or on a plain canvas where there is none), photographs and lines above them.

const $ = (id) => document.getElementById(id);
const about = JSON.parse($("about").textContent);
const count = about.count, labeled = about.labels.length > 0;

function decode(id) {
  const element = $(id), text = element.textContent;
  element.remove();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const positions = new Uint16Array(decode("positions").buffer);
const labels = new Int32Array(decode("labels").buffer), votes = new Int32Array(decode("votes").buffer), probed = new Int32Array(decode("probed").buffer);
const clusters = new Uint16Array(decode("clusters").buffer);
const outliers = decode("outliers"), shapes = decode("shapes");

const state = { x: 0.5, y: 0.5, zoom: 1, color: "", only: -1, chosen: -1, hover: -1, depth: about.depths.length - 1,
  listed: null, lasso: null, drawing: false, photos: true };
const later = { neighbors: null, names: null, sheets: [] };

const points = $("points"), overlay = $("overlay"), ink = overlay.getContext("2d");
let width = 1, height = 1, ratio = 1, scale = 1, palette = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => {
    const hex = style.getPropertyValue("--" + name).trim().slice(1);
    return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  };
  palette = { series: [0, 1, 2, 3, 4, 5].map((i) => rgb("series-" + i)), ramp: [rgb("ramp-0"), rgb("ramp-1")] };
  for (const name of ["ink", "quiet", "card", "line", "accent", "bad"]) palette[name] = rgb(name);
}
const css = (rgb, alpha = 1) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]} / ${alpha})`;

// Six colors that people with any color vision can tell apart, times four shapes.
const modes = {
  label: { title: "Color by label", of: (i) => labels[i], names: about.labels },
  cluster: { title: "Color by cluster", of: (i) => clusters[i], names: about.clusters.map((_, i) => `Cluster ${i + 1}`) },
  unusual: { title: "Color by how unusual" },
  mistakes: { title: "Color by mistakes of k-NN", of: (i) => (labels[i] < 0 ? -1 : votes[i] === labels[i] ? 0 : 1),
    names: ["as its neighbors", "unlike its neighbors"], marks: true },
  probe: { title: "Color by mistakes of a linear probe", of: (i) => (labels[i] < 0 || probed[i] < 0 ? -1 : probed[i] === labels[i] ? 0 : 1),
    names: ["as the probe says", "unlike the probe"], marks: true },
};
function styleOf(i) {
  if (state.color === "unusual") {
    const t = outliers[i] / 255;
    return [palette.ramp[0].map((low, c) => low + t * t * t * (palette.ramp[1][c] - low)), 0, 1];
  }
  const value = modes[state.color].of(i);
  if (value < 0) return [palette.quiet, 0, 0.8];
  if (modes[state.color].marks) return value ? [palette.bad, 2, 1.7] : [palette.quiet, 0, 0.75];
  return [palette.series[value % 6], Math.floor(value / 6) % 4, 1];
}
function shown(i) {
  if (state.listed && !state.listed[i]) return false;
  return state.only < 0 || modes[state.color].of(i) === state.only;
}

// Points
const paint = new Uint8Array(4 * count), mark = new Uint8Array(2 * count), order = new Uint32Array(count);
function repaint() {
  let back = 0, front = count;
  for (let i = 0; i < count; i++) {
    const [rgb, shape, size] = styleOf(i), visible = shown(i);
    paint.set(rgb, 4 * i);
    paint[4 * i + 3] = visible ? 220 : 26;
    mark[2 * i] = 32 * size;
    mark[2 * i + 1] = shape;
    if (visible) order[--front] = i; else order[back++] = i;
  }
  renderer.update();
  redraw();
}
const VERTEX = `#version 300 es
in vec2 place; in vec4 paint; in vec2 mark; uniform vec4 view; uniform float size; out vec4 color; flat out int shape;
void main() {
  gl_Position = vec4((place - view.xy) * view.zw, 0, 1);
  gl_PointSize = size * mark.x / 32.0; color = paint; shape = int(mark.y + 0.5);
}`;
const FRAGMENT = `#version 300 es
precision highp float; in vec4 color; flat in int shape; uniform float size; out vec4 result;
void main() {
  vec2 p = 2.0 * gl_PointCoord - 1.0, a = abs(p);
  float d = shape == 0 ? length(p) : shape == 1 ? 1.18 * max(a.x, a.y) : shape == 2 ? max(a.x * 1.05 - 0.5 * p.y + 0.5, p.y) : a.x + a.y;
  float alpha = color.a * (1.0 - smoothstep(1.0 - 2.5 / size, 1.0, d));
  if (alpha < 0.01) discard;
  result = vec4(color.rgb * alpha, alpha);
}`;
function webgl() {
  const gl = points.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  const attribute = (name, data, size, type, normalized) => {
    const buffer = gl.createBuffer(), place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, normalized, 0, 0);
    return () => { gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferSubData(gl.ARRAY_BUFFER, 0, data); };
  };
  attribute("place", positions, 2, gl.UNSIGNED_SHORT, true);
  const send = [attribute("paint", paint, 4, gl.UNSIGNED_BYTE, true), attribute("mark", mark, 2, gl.UNSIGNED_BYTE, false)];
  const view = gl.getUniformLocation(program, "view"), size = gl.getUniformLocation(program, "size");
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  return {
    update() { send.forEach((f) => f()); gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.DYNAMIC_DRAW); },
    draw() {
      gl.viewport(0, 0, points.width, points.height);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform4f(view, state.x, state.y, (2 * scale) / width, (-2 * scale) / height);
      gl.uniform1f(size, pointSize() * ratio);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
    },
  };
}
function trace(ink, shape, x, y, r) {
  if (shape === 0) return ink.arc(x, y, r, 0, 7);
  const corners = shape === 1 ? [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]]
    : shape === 2 ? [[0, -1], [0.95, 1], [-0.95, 1]] : [[0, -1], [1, 0], [0, 1], [-1, 0]];
  corners.forEach(([dx, dy], k) => (k ? ink.lineTo : ink.moveTo).call(ink, x + r * dx, y + r * dy));
}
function canvas() {
  const plain = points.getContext("2d");
  return {
    update() {},
    draw() {
      const size = pointSize() * ratio;
      plain.clearRect(0, 0, points.width, points.height);
      for (const i of order) {
        const [x, y] = toScreen(i);
        plain.fillStyle = css(paint.subarray(4 * i, 4 * i + 3), paint[4 * i + 3] / 255);
        plain.beginPath();
        trace(plain, mark[2 * i + 1], x * ratio, y * ratio, (size * mark[2 * i]) / 64);
        plain.fill();
      }
    },
  };
}
const renderer = webgl() || canvas();
const pointSize = () => Math.min(16, Math.max(3, 260 / Math.sqrt(count + 400)) * (width < 600 ? 0.7 : 1) * state.zoom ** 0.3);

// Coordinates
const toScreen = (i) => [width / 2 + (positions[2 * i] / 65535 - state.x) * scale, height / 2 + (positions[2 * i + 1] / 65535 - state.y) * scale];
const toWorld = (x, y) => [state.x + (x - width / 2) / scale, state.y + (y - height / 2) / scale];
function resize() {
  const box = overlay.getBoundingClientRect();
  [width, height, ratio] = [Math.max(1, box.width), Math.max(1, box.height), Math.min(2, devicePixelRatio || 1)];
  for (const layer of [points, overlay]) { layer.width = width * ratio; layer.height = height * ratio; }
  redraw();
}
function zoomBy(factor, x = width / 2, y = height / 2) {
  const [before, zoom] = [toWorld(x, y), Math.min(400, Math.max(0.7, state.zoom * factor))];
  state.zoom = zoom;
  measure();
  const after = toWorld(x, y);
  state.x += before[0] - after[0];
  state.y += before[1] - after[1];
  redraw();
}
function moveBy(dx, dy) {
  state.x = Math.min(1, Math.max(0, state.x - dx / scale));
  state.y = Math.min(1, Math.max(0, state.y - dy / scale));
  redraw();
}
function goTo(i) {
  const [x, y] = toScreen(i);
  if (x < 60 || y < 60 || x > width - 60 || y > height - 60) {
    [state.x, state.y] = [positions[2 * i] / 65535, positions[2 * i + 1] / 65535];
  }
  redraw();
}
function showAll() { Object.assign(state, { x: 0.5, y: 0.5, zoom: 1 }); redraw(); }
const measure = () => { scale = state.zoom * Math.max(100, Math.min(width, height) - 110); };

// The nearest point, by cells of a grid
const CELLS = 256, starts = new Uint32Array(CELLS * CELLS + 1), members = new Uint32Array(count);
const cellOf = (i) => (positions[2 * i + 1] >> 8) * CELLS + (positions[2 * i] >> 8);
function index() {
  for (let i = 0; i < count; i++) starts[cellOf(i) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < count; i++) members[next[cellOf(i)]++] = i;
}
function nearest(x, y, reach) {
  const [wx, wy] = toWorld(x, y), r = reach / scale, clamp = (v) => Math.min(CELLS - 1, Math.max(0, Math.floor(v * CELLS)));
  let best = -1, least = reach * reach;
  for (let row = clamp(wy - r); row <= clamp(wy + r); row++) {
    for (let cell = row * CELLS + clamp(wx - r); cell <= row * CELLS + clamp(wx + r); cell++) {
      for (let k = starts[cell]; k < starts[cell + 1]; k++) {
        const i = members[k], [px, py] = toScreen(i), d = (px - x) ** 2 + (py - y) ** 2;
        if (d < least && shown(i)) [best, least] = [i, d];
      }
    }
  }
  return best;
}

// Photographs
function size(i, side) {
  const aspect = 2 ** ((shapes[i] - 128) / 32);
  return aspect >= 1 ? [side, side / aspect] : [side * aspect, side];
}
function drawPhoto(target, i, x, y, w, h) {
  const each = about.columns * about.columns, sheet = later.sheets[Math.floor(i / each)], t = about.tile, n = i % each;
  if (!sheet || !sheet.complete || !sheet.naturalWidth) return false;
  target.drawImage(sheet, (n % about.columns) * t, Math.floor(n / about.columns) * t, t, t, x, y, w, h);
  return true;
}
let photographs = [];
function placePhotos() {
  photographs = [];
  if (!state.photos || !later.sheets.length) return;
  const side = width < 600 ? 34 : 46, visible = [];
  for (let i = 0; i < count; i++) {
    const [x, y] = toScreen(i);
    if (x > -side && y > -side && x < width + side && y < height + side && shown(i)) visible.push(i);
  }
  const gap = side * (visible.length > 250 ? 1.7 : 1.14), taken = new Map();
  for (let k = 0; k < visible.length; k++) {
    const i = visible[(k * 7919) % visible.length], [x, y] = toScreen(i), cx = Math.floor(x / gap), cy = Math.floor(y / gap);
    let free = true;
    for (let dy = -1; dy <= 1 && free; dy++) for (let dx = -1; dx <= 1 && free; dx++) {
      const other = taken.get((cy + dy) * 4096 + cx + dx);
      if (other && Math.abs(other[0] - x) < gap && Math.abs(other[1] - y) < gap) free = false;
    }
    if (!free) continue;
    taken.set(cy * 4096 + cx, [x, y]);
    photographs.push([i, x, y, ...size(i, side)]);
  }
}
function drawPhotos() {
  for (const [i, x, y, w, h] of photographs) {
    const [rgb] = styleOf(i);
    ink.fillStyle = css(rgb);
    ink.beginPath();
    ink.roundRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4, 5);
    ink.fill();
    drawPhoto(ink, i, x - w / 2, y - h / 2, w, h);
  }
}

// Above the points: photographs, the chosen image with its neighbors, the lasso
function ring(i, radius, rgb, line) {
  const [x, y] = toScreen(i);
  ink.beginPath();
  ink.arc(x, y, radius + 1.5, 0, 7);
  ink.lineWidth = line + 3;
  ink.strokeStyle = css(palette.card, 0.9);
  ink.stroke();
  ink.lineWidth = line;
  ink.strokeStyle = css(rgb);
  ink.stroke();
}
function drawOverlay() {
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  ink.clearRect(0, 0, width, height);
  drawPhotos();
  const r = Math.max(6, pointSize() / 2 + 2);
  if (state.chosen >= 0) {
    const from = toScreen(state.chosen), near = neighborsOf(state.chosen);
    ink.lineWidth = 1.4;
    ink.strokeStyle = css(palette.accent, 0.75);
    ink.beginPath();
    for (const j of near) { ink.moveTo(...from); ink.lineTo(...toScreen(j)); }
    ink.stroke();
    for (const j of near) ring(j, r, palette.accent, 2);
    ring(state.chosen, r + 3, palette.ink, 3);
  }
  if (state.hover >= 0) ring(state.hover, r, palette.ink, 2);
  if (state.lasso && state.lasso.length > 1) {
    ink.beginPath();
    state.lasso.forEach(([x, y]) => ink.lineTo(x, y));
    ink.closePath();
    ink.fillStyle = css(palette.accent, 0.12);
    ink.fill();
    ink.lineWidth = 2;
    ink.strokeStyle = css(palette.accent);
    ink.stroke();
  }
}
let pending = false;
function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    measure();
    renderer.draw();
    placePhotos();
    drawOverlay();
    if (!performance.getEntriesByName("points").length) performance.mark("points");
  });
}
function neighborsOf(i) {
  if (!later.neighbors) return [];
  const start = (state.depth * count + i) * about.shown;
  return Array.from(later.neighbors.subarray(start, start + about.shown));
}
