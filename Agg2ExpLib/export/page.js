"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const el = (id) => document.getElementById(id);
const [nx, ny, nz] = data.shape;
const volumes = {};
// The patient's right is on the left of axial and coronal slices, the front on the left of sagittal ones.
const PLANES = [
  { name: "Axial", across: 0, down: 1, through: 2, letters: "RLAP" },
  { name: "Coronal", across: 0, down: 2, through: 1, letters: "RLSI" },
  { name: "Sagittal", across: 1, down: 2, through: 0, letters: "APSI" },
];
const COLUMNS = [["name", "Region"], ["mass", "Share"], ["size", "Size alone"], ["enrichment", "For its size"],
  ["positive", "Share of what speaks for"], ["negative", "Share of what speaks against"]];
let at = [nx >> 1, ny >> 1, nz >> 1], current = 0, chosen = -1, sorted = { column: "mass", up: false };

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const index = (v) => (v[0] * ny + v[1]) * nz + v[2];
const labelAt = (i) => data.wide ? volumes.labels[2 * i] | (volumes.labels[2 * i + 1] << 8) : volumes.labels[i];
const inRegion = (r, i) => (volumes.regions[r >> 3][i] >> (r & 7)) & 1;

function windowNow() {
  const name = el("window").value;
  return data.windows[name === "auto" ? data.classes[current].window : name];
}

function greys() {
  const [level, width] = windowNow();
  return data.levels.map((hu) => Math.max(0, Math.min(255, 255 * (hu - level + width / 2) / width)));
}

function colourOf(value) {
  const threshold = el("threshold").value / 100, side = el("side").value, strength = Math.abs(value) / 127;
  if (value === 0 || strength < threshold || side === "none" || (side === "for" && value < 0) || (side === "against" && value > 0)) return null;
  const s = (strength - threshold) / (1 - threshold);
  const [low, high] = value > 0 ? [[190, 70, 0], [255, 232, 120]] : [[20, 70, 190], [150, 220, 255]];
  const mixed = low.map((one, k) => one + s * (high[k] - one));
  return [...mixed, (0.35 + 0.65 * Math.sqrt(s)) * el("opacity").value / 100];
}

// Of a plane: voxel of column x and row y; every axis runs against the reading direction.
function voxel(plane, x, y) {
  const v = at.slice();
  v[plane.across] = data.shape[plane.across] - 1 - x;
  v[plane.down] = data.shape[plane.down] - 1 - y;
  return v;
}

function draw(plane) {
  const w = data.shape[plane.across], h = data.shape[plane.down];
  const room = Math.max(200, Math.min(el("views").clientWidth, 1200));
  const wide = room > 700 ? (room - 24) / data.widest : room / (w * data.spacing[plane.across]);
  const scale = Math.min(wide, 460 / (h * data.spacing[plane.down]));
  const width = Math.round(w * data.spacing[plane.across] * scale), height = Math.round(h * data.spacing[plane.down] * scale);
  const canvas = plane.canvas, dense = window.devicePixelRatio || 1, ctx = canvas.getContext("2d");
  canvas.width = width * dense; canvas.height = height * dense;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  plane.figure.style.width = `${width}px`;
  const small = new ImageData(w, h), grey = greys(), table = Array.from({ length: 255 }, (_, k) => colourOf(k - 127));
  const map = volumes.maps[current], where = new Uint32Array(w * h);
  for (let y = 0, p = 0; y < h; y++) for (let x = 0; x < w; x++, p++) {
    const i = index(voxel(plane, x, y)), g = grey[volumes.image[i]], c = table[map[i] + 127];
    where[p] = i;
    for (let k = 0; k < 3; k++) small.data[4 * p + k] = c ? g * (1 - c[3]) + c[k] * c[3] : g;
    small.data[4 * p + 3] = 255;
  }
  const bitmap = document.createElement("canvas");
  bitmap.width = w; bitmap.height = h;
  bitmap.getContext("2d").putImageData(small, 0, 0);
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const sx = canvas.width / w, sy = canvas.height / h;
  if (el("outlines").checked) {
    const labels = Uint16Array.from(where, labelAt), own = data.classes[current].label;
    edges(ctx, w, h, sx, sy, dense, labels, own);
    data.rois.forEach((roi, k) => {
      if (roi.region >= 0) edge(ctx, w, h, sx, sy, Uint8Array.from(where, (i) => inRegion(roi.region, i)), 1, roi.colour, (k === chosen ? 3 : 1.4) * dense, [5 * dense, 3 * dense]);
    });
  }
  marks(ctx, plane, canvas, sx, sy, dense);
  plane.slider.value = at[plane.through];
  const told = `slice ${at[plane.through] + 1} of ${data.shape[plane.through]}`;
  plane.told.textContent = told;
  plane.slider.setAttribute("aria-valuetext", told);
}

function edges(ctx, w, h, sx, sy, dense, labels, own) {
  for (const value of [...new Set(labels)].sort((a, b) => (a === own) - (b === own))) {
    const k = data.rois.findIndex((roi) => roi.label === value);
    if (value === data.background || k < 0) continue;
    if (value === own) edge(ctx, w, h, sx, sy, labels, value, "#ffffff", 4 * dense, []);
    edge(ctx, w, h, sx, sy, labels, value, data.rois[k].colour, (value === own || k === chosen ? 2.6 : 1) * dense, []);
  }
}

function edge(ctx, w, h, sx, sy, field, value, colour, width, dash) {
  ctx.beginPath();
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
    if (field[y * w + x] !== value) continue;
    if (x === 0 || field[y * w + x - 1] !== value) { ctx.moveTo(x * sx, y * sy); ctx.lineTo(x * sx, (y + 1) * sy); }
    if (x === w - 1 || field[y * w + x + 1] !== value) { ctx.moveTo((x + 1) * sx, y * sy); ctx.lineTo((x + 1) * sx, (y + 1) * sy); }
    if (y === 0 || field[(y - 1) * w + x] !== value) { ctx.moveTo(x * sx, y * sy); ctx.lineTo((x + 1) * sx, y * sy); }
    if (y === h - 1 || field[(y + 1) * w + x] !== value) { ctx.moveTo(x * sx, (y + 1) * sy); ctx.lineTo((x + 1) * sx, (y + 1) * sy); }
  }
  ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.setLineDash(dash); ctx.stroke(); ctx.setLineDash([]);
}

// In green: warm colours speak for, blue ones against.
function marks(ctx, plane, canvas, sx, sy, dense) {
  const x = (data.shape[plane.across] - 0.5 - at[plane.across]) * sx, y = (data.shape[plane.down] - 0.5 - at[plane.down]) * sy;
  for (const [colour, width] of [["#000", 4], ["#6dff4a", 2]]) {
    ctx.strokeStyle = colour; ctx.lineWidth = width * dense; ctx.beginPath();
    for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { ctx.moveTo(x + 7 * a * dense, y + 7 * b * dense); ctx.lineTo(x + 16 * a * dense, y + 16 * b * dense); }
    ctx.stroke();
  }
  ctx.font = `bold ${13 * dense}px system-ui, sans-serif`; ctx.textBaseline = "middle"; ctx.textAlign = "center";
  const edge = 10 * dense, places = [[edge, canvas.height / 2], [canvas.width - edge, canvas.height / 2], [canvas.width / 2, edge], [canvas.width / 2, canvas.height - edge]];
  places.forEach(([px, py], k) => {
    // Thin slabs have no room for head and feet.
    if (k > 1 && canvas.height < 60 * dense) return;
    ctx.strokeStyle = "#000"; ctx.lineWidth = 3 * dense; ctx.strokeText(plane.letters[k], px, py);
    ctx.fillStyle = "#fff"; ctx.fillText(plane.letters[k], px, py);
  });
}

function drawAll() {
  el("threshold-told").textContent = `${el("threshold").value} %`;
  el("opacity-told").textContent = `${el("opacity").value} %`;
  PLANES.forEach(draw);
}

function go(axis, value) {
  at[axis] = Math.max(0, Math.min(data.shape[axis] - 1, value));
  drawAll();
}

function goTo(spot) {
  if (spot) at = spot.slice();
  drawAll();
}

function add(parent, kind, text = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  parent.append(made);
  return made;
}

function fillTable() {
  const rows = data.classes[current].rows.slice(), { column, up } = sorted;
  const value = (row) => column === "name" ? data.rois[row.roi].name.toLowerCase() : row[column][0];
  rows.sort((a, b) => {
    const [p, q] = [value(a), value(b)];
    if (p === null || q === null) return (p === null) - (q === null);
    return (p < q ? -1 : p > q ? 1 : 0) * (up ? 1 : -1);
  });
  el("head").replaceChildren();
  for (const [key, title] of COLUMNS) {
    const head = add(el("head"), "th"), button = add(head, "button", title + (key === column ? (up ? " ▲" : " ▼") : ""));
    head.scope = "col"; button.type = "button";
    head.setAttribute("aria-sort", key === column ? (up ? "ascending" : "descending") : "none");
    button.onclick = () => { sorted = { column: key, up: key === column ? !up : key === "name" }; fillTable(); el("head").children[COLUMNS.findIndex((one) => one[0] === key)].firstChild.focus(); };
  }
  el("rows").replaceChildren();
  for (const row of rows) {
    const roi = data.rois[row.roi], line = add(el("rows"), "tr"), name = add(line, "td");
    if (roi.label === data.classes[current].label && roi.region < 0) line.className = "own";
    if (row.roi === chosen) line.className += " chosen";
    const key = add(name, "span");
    key.className = "key"; key.style.background = roi.colour;
    const button = add(name, "button", roi.name);
    button.type = "button";
    button.onclick = () => { chosen = row.roi; goTo(row.spot); fillTable(); };
    for (const [column_] of COLUMNS.slice(1)) {
      const cell = add(line, "td", row[column_][1]);
      if (row[column_][0] !== null) cell.title = String(row[column_][0]);
      if (column_ === "mass" && row.mass[0]) {
        cell.className = "share";
        cell.style.backgroundImage = "linear-gradient(rgba(80,140,200,0.3), rgba(80,140,200,0.3))";
        cell.style.backgroundSize = `${Math.max(1, 100 * row.mass[0])}% 80%`;
      }
    }
  }
}

function show(number) {
  current = number; chosen = -1;
  el("sentence").textContent = data.classes[number].sentence;
  el("table-title").textContent = `What the model relied on for: ${data.classes[number].name}`;
  goTo(data.classes[number].spot);
  fillTable();
}

function build(plane) {
  plane.figure = add(el("views"), "figure");
  plane.canvas = add(plane.figure, "canvas");
  plane.canvas.tabIndex = 0;
  plane.canvas.setAttribute("role", "img");
  plane.canvas.setAttribute("aria-label", `${plane.name} slice with the attribution; arrow keys scroll`);
  const caption = add(plane.figure, "figcaption");
  add(caption, "span", plane.name);
  plane.told = add(caption, "span");
  plane.slider = add(plane.figure, "input");
  Object.assign(plane.slider, { type: "range", min: 0, max: data.shape[plane.through] - 1 });
  plane.slider.setAttribute("aria-label", `${plane.name} slice`);
  plane.slider.oninput = () => go(plane.through, Number(plane.slider.value));
  let rest = 0;
  plane.canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    rest += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(rest / 40);
    if (steps) { rest -= steps * 40; go(plane.through, at[plane.through] - steps); }
  }, { passive: false });
  plane.canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 }[event.key];
    if (steps) { event.preventDefault(); go(plane.through, at[plane.through] + steps); }
  });
  plane.canvas.addEventListener("click", (event) => {
    const box = plane.canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * data.shape[plane.across]);
    const y = Math.floor((event.clientY - box.top) / box.height * data.shape[plane.down]);
    at = voxel(plane, x, y).map((one, axis) => Math.max(0, Math.min(data.shape[axis] - 1, one)));
    drawAll();
  });
}

async function start() {
  el("notes").textContent = data.notes;
  volumes.image = await unpack(data.image);
  volumes.labels = await unpack(data.labels);
  volumes.regions = await Promise.all(data.regions.map(unpack));
  volumes.maps = (await Promise.all(data.classes.map((one) => unpack(one.map)))).map((one) => new Int8Array(one.buffer));
  data.widest = PLANES.reduce((sum, plane) => sum + data.shape[plane.across] * data.spacing[plane.across], 0);
  data.classes.forEach((one, number) => { add(el("structure"), "option", one.name).value = number; });
  if (data.ct) add(el("window"), "option", "as suits the structure").value = "auto";
  for (const name of Object.keys(data.windows)) add(el("window"), "option", name).value = name;
  PLANES.forEach(build);
  el("structure").onchange = () => show(Number(el("structure").value));
  el("strongest").onclick = () => goTo(data.classes[current].spot);
  for (const id of ["window", "side", "threshold", "opacity", "outlines"]) el(id).addEventListener("input", drawAll);
  new ResizeObserver(drawAll).observe(el("views"));
  show(0);
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  el("wrong").hidden = false;
  el("wrong").textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old to show the pictures; open the page in a current Chrome, Edge, Firefox or Safari."
    : `The page cannot be shown (${error.message}); write it again with agg2exp export --html.`;
});
