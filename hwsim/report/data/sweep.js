// The page of a sweep: one state (a filter per column, the point under the pointer), drawn by every part of the page.
// Data is columns of docs/contracts/sweep.md; a row is the number of a point among those that the page holds.
"use strict";

const sweep = JSON.parse(document.getElementById("sweep").textContent);
const columns = sweep.columns;
const rows = sweep.point.length;
const feasible = Array.from(sweep.feasible, (c) => c === "1");
const onFront = Array.from(sweep.front, (c) => c === "1");
const byName = new Map(columns.map((c) => [c.name, c]));
const knobs = columns.filter((c) => c.role === "knob");
const objectives = columns.filter((c) => c.role === "objective");
const parts = columns.filter((c) => c.role === "component");
const differing = (c) => c.data.some((v) => v !== c.data[0]);

const state = {
  filters: new Map(), // column -> {low, high} in the column's own unit, or a Set of the codes that are shown
  infeasible: true,
  shown: new Uint8Array(rows).fill(1),
  hovered: -1,
  colour: null, // column that colours points, or none
  sort: { column: objectives[0], up: !objectives[0]?.maximised },
};

// ---- small helpers --------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v === null) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return low <= high ? [low, high] : [0, 1];
}

// ---- numbers for people ---------------------------------------------------------------------------------------------

function digits(x, count = 4) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size < 1e-3 || size >= 1e9) return x.toExponential(2).replace("e+", "e");
  const decimals = Math.max(0, count - 1 - Math.floor(Math.log10(size)));
  return x.toLocaleString("en-US", { maximumFractionDigits: decimals });
}

function bytes(x) {
  let power = 0;
  while (Math.abs(x) >= 1023.5 && power < 5) { x /= 1024; power += 1; }
  return `${digits(x)} ${["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"][power]}`;
}

function number(column, value) {
  if (column.kind === "text") return column.values[value];
  if (value === null) return "none";
  if (column.kind === "bytes") return bytes(value);
  if (column.name === "utilization") return `${digits(100 * value)} %`;
  return column.role === "knob" ? digits(value, 7) : digits(value * column.factor);
}

const unitOf = (column) => (["text", "bytes"].includes(column.kind) || column.name === "utilization" ? "" : column.unit);

function quantity(column, value) {
  const unit = unitOf(column);
  return number(column, value) + (unit ? ` ${unit}` : "");
}

const titleOf = (column) => column.label + (unitOf(column) ? ` [${unitOf(column)}]` : "");
const better = (column) => (column.maximised ? "more is better" : "less is better");

// ---- axes: from values to 0 … 1 and back ----------------------------------------------------------------------------

function makeAxis(column, { padded = false, values = column.data } = {}) {
  if (column.kind === "text") {
    const count = column.values.length;
    const at = (code) => (code + 0.5) / count;
    return { at, ticks: () => column.values.map((text, code) => ({ at: at(code), text })) };
  }
  let [low, high] = extent(values);
  const distinct = [...new Set(column.data)].filter((v) => v !== null).sort((a, b) => a - b);
  const few = column.role === "knob" && distinct.length <= 9;
  const geometric = few && distinct.length > 2 && low > 0 && distinct.every((v) => Number.isInteger(Math.log2(v)));
  const logarithmic = low > 0 && (high / low > 30 || geometric);
  const to = logarithmic ? Math.log : (v) => v;
  const from = logarithmic ? Math.exp : (v) => v;
  let [a, b] = [to(low), to(high)];
  if (a === b) [a, b] = logarithmic ? [a - 0.5, b + 0.5] : [a - (Math.abs(a) || 1) / 2, b + (Math.abs(b) || 1) / 2];
  const margin = padded ? 0.05 * (b - a) : 0;
  [a, b] = [a - margin, b + margin];
  if (padded && !logarithmic && low >= 0 && a < 0) a = 0;
  const at = (v) => (to(v) - a) / (b - a);
  const back = (t) => from(a + t * (b - a));
  const label = (v) => ({ at: at(v), text: column.role === "knob" && column.kind === "number" ? digits(v) : number(column, v) });
  const ticks = (most) => {
    if (few && distinct.length <= Math.max(most, 6)) return distinct.map(label);
    const chosen = logarithmic ? logTicks(back(0), back(1), column, most) : linearTicks(back(0), back(1), column, most);
    return chosen.map(label);
  };
  return { at, back, ticks, logarithmic, low: back(0), high: back(1) };
}

function linearTicks(low, high, column, most) {
  const factor = column.kind === "bytes" ? 1024 ** -Math.floor(Math.log(high) / Math.log(1024)) : column.name === "utilization" ? 100 : column.factor;
  const [a, b] = [low * factor, high * factor];
  const rough = (b - a) / Math.max(1, most);
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * ten).find((s) => s >= rough * 0.999) ?? 10 * ten;
  const ticks = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + 1e-9 * step; k += 1) ticks.push((k * step) / factor);
  return ticks;
}

function logTicks(low, high, column, most) {
  const base = column.kind === "bytes" ? 2 : 10;
  const factor = base === 2 ? 1 : column.factor;
  const [a, b] = [Math.log(low * factor) / Math.log(base), Math.log(high * factor) / Math.log(base)];
  const powers = [];
  const stride = Math.max(1, Math.ceil((b - a) / most));
  for (let k = Math.ceil(a - 1e-9); k <= b + 1e-9; k += 1) if (k % stride === 0) powers.push(base ** k / factor);
  if (base === 2 || b - a > most * 0.6) return powers;
  const multiples = b - a > most * 0.4 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let k = Math.floor(a); k <= b; k += 1) {
    for (const m of multiples) {
      const v = (m * 10 ** k) / factor;
      if (v >= low && v <= high) ticks.push(v);
    }
  }
  return ticks;
}

// ---- filters --------------------------------------------------------------------------------------------------------

function admits(filter, value) {
  if (filter instanceof Set) return filter.has(value);
  return value !== null && value >= filter.low && value <= filter.high;
}

function applyFilters() {
  const active = [...state.filters];
  for (let row = 0; row < rows; row += 1) {
    let keep = state.infeasible || feasible[row];
    for (let k = 0; keep && k < active.length; k += 1) keep = admits(active[k][1], active[k][0].data[row]);
    state.shown[row] = keep ? 1 : 0;
  }
  if (state.hovered >= 0 && !state.shown[state.hovered]) hover(-1);
  redraw();
}

function setFilter(column, filter) {
  const trivial = !filter || (filter instanceof Set ? filter.size === column.values.length : filter.low === -Infinity && filter.high === Infinity);
  if (trivial) state.filters.delete(column);
  else state.filters.set(column, filter);
  column.showFilter?.();
  applyFilters();
}

// ---- copying --------------------------------------------------------------------------------------------------------

const inToml = (value) => JSON.stringify(value).replaceAll("\u007f", "\\u007f");

/** The complete hardware description of a point; knobs of the workload are in a comment. */
function toml(row) {
  const set = new Map();
  const lines = new Set(sweep.hardware.map(([name]) => name));
  const workload = [];
  for (const knob of knobs) {
    const value = knob.kind === "text" ? knob.values[knob.data[row]] : knob.data[row];
    if (lines.has(knob.name)) set.set(knob.name, value);
    else workload.push(`${knob.name} = ${inToml(value)}`);
  }
  const precision = byName.get("precision");
  if (precision?.role === "knob") {
    const met = set.get("array.operand_format") ?? Object.keys(sweep.brought)[0];
    const brought = sweep.brought[met][precision.values[precision.data[row]]];
    for (const [name, value] of Object.entries(brought)) set.set(name, value);
  }
  const head = [`# point ${sweep.point[row]} of the sweep ${inToml(sweep.title)}`];
  if (workload.length) head.push(`# workload ${workload.join(", ")}`);
  head.push(`# ${objectives.map((c) => `${c.label} ${withInterval(c, row)}`).join(", ")}`, "");
  const body = sweep.hardware.map(([name, text]) => {
    if (!name) return text;
    return `${name.split(".").at(-1)} = ${set.has(name) ? inToml(set.get(name)) : text}`;
  });
  return [...head, ...body, ""].join("\n");
}

function withInterval(column, row) {
  const text = quantity(column, column.data[row]);
  return column.low ? `${text} (${number(column, column.low[row])} … ${number(column, column.high[row])})` : text;
}

const toast = element("div", { class: "toast", role: "status", "aria-live": "polite" });
const copied = element("textarea", { readonly: true, "aria-label": "Description in TOML", spellcheck: "false" });
const dialog = element("dialog", { "aria-labelledby": "copy-title" },
  element("h2", { id: "copy-title" }, "Copy this description"),
  element("p", { class: "quiet" }, "The browser does not let this page write to the clipboard: the text below is selected, press Ctrl+C or Cmd+C."),
  copied,
  element("button", { onclick: () => dialog.close() }, "Close"));

let toastTimer = 0;
function say(text) {
  toast.textContent = text;
  toast.classList.add("open");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("open"), 2600);
}

async function copy(row) {
  const text = toml(row);
  try {
    await navigator.clipboard.writeText(text);
    say(`Point ${sweep.point[row]} is in the clipboard, as TOML`);
  } catch {
    copied.value = text;
    hover(-1);
    dialog.showModal();
    copied.focus();
    copied.select();
    copied.scrollTop = 0;
  }
}

// ---- the card of a point --------------------------------------------------------------------------------------------

const card = element("div", { class: "card", id: "card", role: "tooltip" });

function list(title, chosen, row, text) {
  if (!chosen.length) return [];
  const entries = chosen.flatMap((c) => {
    const shown = element("dd", {}, quantity(c, c.data[row]));
    if (c.low) shown.append(element("small", {}, ` ${number(c, c.low[row])} … ${number(c, c.high[row])}`));
    return [element("dt", {}, text(c)), shown];
  });
  return [element("h3", {}, title), element("dl", {}, ...entries)];
}

function energyParts(row) {
  const total = parts.reduce((sum, c) => sum + (c.data[row] || 0), 0);
  if (!total) return [];
  const ordered = parts.map((c, i) => ({ share: c.data[row] / total, name: c.label.replace(/^energy /, ""), colour: palette()[i % palette().length] }));
  const bar = element("div", { class: "parts" });
  const names = element("div", { class: "names" });
  for (const { share, name, colour } of ordered) {
    const piece = element("i");
    piece.style.cssText = `width:${100 * share}%;background:${colour}`;
    bar.append(piece);
    names.append(element("span", {}, swatch(colour), `${name} ${digits(100 * share, 2)} %`));
  }
  return [element("h3", {}, "energy by component"), bar, names];
}

function hover(row, x = 0, y = 0) {
  const changed = row !== state.hovered;
  state.hovered = row;
  if (changed) {
    card.classList.toggle("open", row >= 0);
    if (row >= 0) fillCard(row);
    highlight();
  }
  if (row >= 0) placeCard(x, y);
}

function fillCard(row) {
  const kind = onFront[row] ? "on the front" : feasible[row] ? "not on the front" : "breaks a constraint";
  card.replaceChildren(
    element("h2", {}, `Point ${sweep.point[row]} `, element("span", { class: "quiet" }, kind)),
    ...list("configuration", knobs, row, (c) => c.label),
    ...list("objectives", objectives, row, (c) => c.label),
    ...list("other figures", columns.filter((c) => c.role === "figure"), row, (c) => c.label),
    ...energyParts(row),
    element("footer", {}, "Click copies the hardware description as TOML"));
}

function placeCard(x, y) {
  const { width, height } = card.getBoundingClientRect();
  const left = x + 18 + width < innerWidth - 8 ? x + 18 : x - 18 - width;
  card.style.left = `${clamp(left, 8, Math.max(8, innerWidth - width - 8))}px`;
  card.style.top = `${clamp(y - height / 3, 8, Math.max(8, innerHeight - height - 8))}px`;
}

// ---- colours --------------------------------------------------------------------------------------------------------

const palette = () => dark()
  ? ["#56b4e9", "#e69f00", "#00b488", "#d98bb5", "#f0e442", "#4f9bd9", "#e8743b", "#c9ced6"]
  : ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#b8a900", "#56b4e9", "#d55e00", "#444b54"];
const ramps = { light: ["#c9b04a", "#7d8a63", "#3f7a86", "#205a9c", "#1b2a6b"], dark: ["#3d6fc4", "#5f93b8", "#8fae98", "#c7c06a", "#ffe945"] };

function ramp(t) {
  const stops = ramps[dark() ? "dark" : "light"];
  const place = clamp(t, 0, 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const channel = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mixed = [0, 1, 2].map((k) => Math.round(channel(stops[i], k) + (place - i) * (channel(stops[i + 1], k) - channel(stops[i], k))));
  return `rgb(${mixed.join(" ")})`;
}

/** Colours of all points by a column, and the legend's entries. */
function colouring() {
  const column = state.colour;
  if (!column) return { of: () => null, legend: [] };
  if (column.kind === "text") {
    const colours = palette();
    return { of: (row) => colours[column.data[row] % colours.length], legend: column.values.map((text, i) => [colours[i % colours.length], text]) };
  }
  const axis = makeAxis(column);
  const distinct = [...new Set(column.data)].filter((v) => v !== null).sort((a, b) => a - b);
  const samples = distinct.length <= 9 ? distinct : [0, 0.25, 0.5, 0.75, 1].map(axis.back);
  return { of: (row) => ramp(axis.at(column.data[row])), legend: samples.map((v) => [ramp(axis.at(v)), quantity(column, v)]) };
}

function swatch(colour) {
  const made = element("i", { class: "swatch" });
  made.style.background = colour;
  return made;
}

// ---- drawing on a canvas --------------------------------------------------------------------------------------------

class Plot {
  constructor(label) {
    this.canvas = element("canvas");
    this.svg = drawn("svg", { role: "img", "aria-label": label });
    this.node = element("div", { class: "plot" }, this.canvas, this.svg);
    this.node.addEventListener("pointermove", (event) => this.point(event));
    this.node.addEventListener("pointerleave", () => hover(-1));
    this.node.addEventListener("click", (event) => {
      if (event.target.classList.contains("handle")) return;
      const row = this.nearest(...this.place(event));
      if (row >= 0) copy(row);
    });
  }

  place(event) {
    const box = this.node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  point(event) {
    if (event.buttons && event.pointerType === "mouse") return; // a drag is a brush
    hover(this.nearest(...this.place(event)), event.clientX, event.clientY);
  }

  /** Fit the canvas to its box; gives a context in CSS pixels. */
  begin() {
    const ratio = devicePixelRatio || 1;
    this.width = this.node.clientWidth;
    this.height = this.node.clientHeight;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    return context;
  }
}

// ---- two objectives against each other ------------------------------------------------------------------------------

const intervalValues = (c) => (c.low ? c.data.concat(c.low.filter((_, row) => onFront[row]), c.high.filter((_, row) => onFront[row])) : c.data);

class Scatter extends Plot {
  constructor(x, y) {
    super(`${y.label} against ${x.label}`);
    Object.assign(this, { x, y });
    this.axes = [x, y].map((c) => makeAxis(c, { padded: true, values: intervalValues(c) }));
    this.margin = { left: 62, right: 14, top: 10, bottom: 40 };
  }

  across(v) { return this.margin.left + this.axes[0].at(v) * (this.width - this.margin.left - this.margin.right); }
  up(v) { return this.height - this.margin.bottom - this.axes[1].at(v) * (this.height - this.margin.top - this.margin.bottom); }

  draw() {
    const context = this.begin();
    this.xs = this.x.data.map((v) => (v === null ? NaN : this.across(v)));
    this.ys = this.y.data.map((v) => (v === null ? NaN : this.up(v)));
    const { of } = colouring();
    const groups = { out: [], broken: [], plain: [], front: [] };
    for (let row = 0; row < rows; row += 1) {
      const kind = !state.shown[row] ? "out" : onFront[row] ? "front" : feasible[row] ? "plain" : "broken";
      groups[kind].push(row);
    }
    this.grid(context);
    const faint = variable("--faint");
    this.dots(context, groups.out, 1.1, () => faint, 0.22);
    this.rings(context, groups.broken);
    const plain = variable("--point");
    this.dots(context, groups.plain, 2.3, (row) => of(row) ?? plain, state.colour ? 0.75 : 0.42);
    this.errors(context, groups.front);
    this.diamonds(context, groups.front, of);
    this.frame(groups.front);
    this.highlight();
  }

  /** Lines at the ticks, beneath the points. */
  grid(context) {
    const { left, right, top, bottom } = this.margin;
    const [w, h] = [this.width - left - right, this.height - top - bottom];
    const within = ({ at }) => at > -0.002 && at < 1.002;
    const across = this.axes[0].ticks(Math.max(3, Math.floor(w / 58))).filter(within).map((t) => ({ x: left + t.at * w, text: t.text }));
    const up = this.axes[1].ticks(Math.max(3, Math.floor(h / 42))).filter(within).map((t) => ({ y: top + (1 - t.at) * h, text: t.text }));
    this.ticks = [across, up];
    context.strokeStyle = variable("--grid");
    context.lineWidth = 1;
    context.beginPath();
    for (const { x } of across) { context.moveTo(x, top); context.lineTo(x, top + h); }
    for (const { y } of up) { context.moveTo(left, y); context.lineTo(left + w, y); }
    context.stroke();
  }

  dots(context, chosen, radius, colour, alpha) {
    context.globalAlpha = alpha;
    for (const [fill, members] of grouped(chosen, colour)) {
      context.fillStyle = fill;
      for (const row of members) {
        context.beginPath();
        context.arc(this.xs[row], this.ys[row], radius, 0, 7);
        context.fill();
      }
    }
    context.globalAlpha = 1;
  }

  rings(context, chosen) {
    context.strokeStyle = variable("--faint");
    context.globalAlpha = 0.5;
    context.lineWidth = 0.8;
    for (const row of chosen) {
      context.beginPath();
      context.arc(this.xs[row], this.ys[row], 2, 0, 7);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  errors(context, chosen) {
    context.strokeStyle = variable("--front");
    context.globalAlpha = clamp(12 / chosen.length, 0.12, 0.6);
    context.lineWidth = 1;
    for (const row of chosen) for (const [x1, y1, x2, y2] of this.bars(row)) {
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  /** A point's intervals as lines, along x and along y. */
  bars(row) {
    const lines = [];
    const [x, y] = [this.xs[row], this.ys[row]];
    if (this.x.low) lines.push([this.across(this.x.low[row]), y, this.across(this.x.high[row]), y]);
    if (this.y.low) lines.push([x, this.up(this.y.low[row]), x, this.up(this.y.high[row])]);
    return lines;
  }

  diamonds(context, chosen, of) {
    const front = variable("--front");
    context.strokeStyle = state.colour ? variable("--text") : variable("--edge");
    context.lineWidth = 0.9;
    for (const row of chosen) {
      const [x, y, r] = [this.xs[row], this.ys[row], 4.6];
      context.fillStyle = of(row) ?? front;
      context.beginPath();
      context.moveTo(x, y - r);
      context.lineTo(x + r, y);
      context.lineTo(x, y + r);
      context.lineTo(x - r, y);
      context.closePath();
      context.fill();
      context.stroke();
    }
  }

  frame(front) {
    const { left, right, top, bottom } = this.margin;
    const [w, h] = [this.width, this.height];
    this.svg.replaceChildren();
    const add = (...args) => this.svg.append(drawn(...args));
    for (const { x, text } of this.ticks[0]) add("text", { class: "tick", x, y: h - bottom + 14, "text-anchor": "middle" }, text);
    for (const { y, text } of this.ticks[1]) add("text", { class: "tick", x: left - 6, y: y + 3.5, "text-anchor": "end" }, text);
    add("path", { class: "axis", d: `M${left} ${top}V${h - bottom}H${w - right}` });
    const name = (c, i) => `${titleOf(c)}${this.axes[i].logarithmic ? ", log" : ""}`;
    add("text", { x: (left + w - right) / 2, y: h - 6, "text-anchor": "middle" }, name(this.x, 0));
    add("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(top + h - bottom) / 2}) rotate(-90)` }, name(this.y, 1));
    const stairs = this.stairs(front);
    if (stairs) add("path", { class: "stairs", d: stairs });
    this.over = drawn("g");
    this.svg.append(this.over);
  }

  /** The best trade-offs of these two objectives alone among the front's points that are shown. */
  stairs(front) {
    const sign = [this.x, this.y].map((c) => (c.maximised ? -1 : 1));
    const ordered = front.map((row) => [sign[0] * this.x.data[row], sign[1] * this.y.data[row], row]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let best = Infinity, path = "";
    for (const [, cost, row] of ordered) {
      if (cost >= best) continue;
      best = cost;
      path += path ? `H${this.xs[row]}V${this.ys[row]}` : `M${this.xs[row]} ${this.ys[row]}`;
    }
    return path;
  }

  nearest(x, y) {
    let found = -1, least = 14 * 14;
    for (let row = 0; row < rows; row += 1) {
      if (!state.shown[row]) continue;
      const dx = this.xs[row] - x, dy = this.ys[row] - y;
      const distance = (dx * dx + dy * dy) * (onFront[row] ? 0.5 : 1); // the front is what one aims at
      if (distance < least) { least = distance; found = row; }
    }
    return found;
  }

  highlight() {
    const row = state.hovered;
    this.over.replaceChildren();
    if (row < 0) return;
    for (const [x1, y1, x2, y2] of this.bars(row)) {
      const [cx, cy] = [y1 === y2 ? 0 : 4, y1 === y2 ? 4 : 0];
      this.over.append(drawn("path", { class: "interval", d: `M${x1} ${y1}L${x2} ${y2}M${x1 - cx} ${y1 - cy}L${x1 + cx} ${y1 + cy}M${x2 - cx} ${y2 - cy}L${x2 + cx} ${y2 + cy}` }));
    }
    this.over.append(drawn("circle", { class: "ring", cx: this.xs[row], cy: this.ys[row], r: 7 }));
  }
}

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const k = key(item);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(item);
  }
  return groups;
}

// ---- parallel coordinates -------------------------------------------------------------------------------------------

/** Lines through one value of a knob are spread over a part of its axis, so that one sees how many there are. */
function spreadOf(column) {
  const distinct = column.role === "knob" ? new Set(column.data).size : 0;
  return distinct > 0 && distinct <= 9 ? Math.min(0.09, 0.4 / distinct) : 0;
}

/** A number of -0.5 … 0.5 for a row, evenly spread over the rows (Weyl's sequence of the golden ratio). */
const offset = (row) => ((row * 0.6180339887498949) % 1) - 0.5;

class Parallel extends Plot {
  constructor(chosen) {
    super("Parallel coordinates of knobs and objectives");
    this.chosen = chosen;
    this.spread = chosen.map(spreadOf);
    this.axes = chosen.map((c, i) => makeAxis(c, { padded: this.spread[i] > 0 }));
    this.margin = { left: 64, right: 40, top: 40, bottom: 14 };
    this.node.style.minWidth = `${Math.max(300, 92 * chosen.length)}px`;
    this.svg.style.pointerEvents = "none";
  }

  across(i) {
    const { left, right } = this.margin;
    return this.chosen.length < 2 ? this.width / 2 : left + (i * (this.width - left - right)) / (this.chosen.length - 1);
  }

  /** Up is better: axes of what is minimised have their least value at the top. */
  flipped(i) { return this.chosen[i].role === "objective" && !this.chosen[i].maximised; }
  y(i, t) {
    const inner = this.height - this.margin.top - this.margin.bottom;
    return this.margin.top + (this.flipped(i) ? t : 1 - t) * inner;
  }
  place01(i, y) {
    const t = clamp((y - this.margin.top) / (this.height - this.margin.top - this.margin.bottom), 0, 1);
    return this.flipped(i) ? t : 1 - t;
  }

  draw() {
    const context = this.begin();
    this.ys = this.chosen.map((c, i) => c.data.map((v, row) => (v === null ? NaN : this.y(i, this.axes[i].at(v) + this.spread[i] * offset(row)))));
    this.xs = this.chosen.map((_, i) => this.across(i));
    const { of } = colouring();
    const groups = { out: [], broken: [], plain: [], front: [] };
    for (let row = 0; row < rows; row += 1) groups[!state.shown[row] ? "out" : onFront[row] ? "front" : feasible[row] ? "plain" : "broken"].push(row);
    const alpha = clamp(60 / Math.max(1, groups.plain.length), 0.045, 0.5) * (dark() ? 1.3 : 1);
    this.lines(context, groups.out, () => variable("--grid"), 0.25, 0.6);
    this.lines(context, groups.broken, () => variable("--faint"), alpha * 0.7, 0.7);
    const [plain, front] = [variable("--point"), variable("--front")];
    this.lines(context, groups.plain, (row) => of(row) ?? plain, state.colour ? clamp(alpha * 2, 0, 0.7) : alpha, 0.9);
    this.lines(context, groups.front, (row) => of(row) ?? front, clamp(25 / Math.max(1, groups.front.length), 0.35, 0.95), 1.4);
    this.frame();
    this.highlight();
  }

  lines(context, chosen, colour, alpha, width) {
    context.globalAlpha = alpha;
    context.lineWidth = width;
    for (const row of chosen) {
      context.strokeStyle = colour(row);
      context.beginPath();
      for (let i = 0; i < this.xs.length; i += 1) context.lineTo(this.xs[i], this.ys[i][row]);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  frame() {
    const { top, bottom } = this.margin;
    this.svg.replaceChildren();
    this.chosen.forEach((c, i) => {
      const x = this.xs[i];
      const add = (...args) => { const made = drawn(...args); this.svg.append(made); return made; };
      add("line", { class: "axis", x1: x, x2: x, y1: top, y2: this.height - bottom });
      for (const { at, text } of this.axes[i].ticks(6)) {
        const y = this.y(i, at);
        add("line", { class: "axis", x1: x - 4, x2: x, y1: y, y2: y });
        add("text", { class: "tick halo", x: x - 6, y: y + 3.5, "text-anchor": "end" }, text);
      }
      const words = c.role === "knob" ? splitName(c.label) : [c.label];
      const unit = unitOf(c) ? `[${unitOf(c)}]` : "";
      const second = [words[1], unit].filter(Boolean).join(" ");
      add("text", { x, y: second ? 13 : 26, "text-anchor": "middle", "font-weight": c.role === "objective" ? 700 : 400 }, words[0]);
      if (second) add("text", { x, y: 26, "text-anchor": "middle", "font-weight": c.role === "objective" ? 700 : 400 }, second);
      this.selection(c, i).forEach(([from, to]) => {
        const [y1, y2] = [this.y(i, from), this.y(i, to)].sort((a, b) => a - b);
        add("rect", { class: "brush", x: x - 7, width: 14, y: y1, height: Math.max(2, y2 - y1) });
      });
      this.brushable(add("rect", { class: "handle", x: x - 14, width: 28, y: top - 6, height: this.height - top - bottom + 12, "data-axis": c.name }), c, i);
    });
    this.over = drawn("g");
    this.svg.insertBefore(this.over, this.svg.querySelector(".handle"));
  }

  /** What a column's filter selects, as stretches of its axis. */
  selection(column, i) {
    const filter = state.filters.get(column);
    if (!filter) return [];
    const count = column.values?.length;
    if (filter instanceof Set) return [...filter].map((code) => [code / count, (code + 1) / count]);
    const at = (v) => clamp(this.axes[i].at(clamp(v, this.axes[i].low, this.axes[i].high)), 0, 1);
    return [[at(filter.low), at(filter.high)]];
  }

  brushable(handle, column, i) {
    handle.addEventListener("pointerdown", (event) => {
      const start = this.place(event)[1];
      hover(-1);
      const move = (moved) => {
        const end = this.place(moved)[1];
        if (Math.abs(end - start) < 3) return; // a click
        const [from, to] = [this.place01(i, start), this.place01(i, end)].sort((a, b) => a - b);
        setFilter(column, this.picked(column, i, from, to));
      };
      const stop = () => {
        removeEventListener("pointermove", move);
        removeEventListener("pointerup", stop);
        removeEventListener("pointercancel", stop);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", stop);
      addEventListener("pointercancel", stop);
      event.preventDefault();
    });
    handle.addEventListener("dblclick", () => setFilter(column, null));
  }

  picked(column, i, from, to) {
    if (column.kind !== "text") {
      return { low: from <= 0 ? -Infinity : this.axes[i].back(from), high: to >= 1 ? Infinity : this.axes[i].back(to) };
    }
    const share = 1 / column.values.length; // a value is picked where the drag touches its part of the axis
    return new Set(column.values.map((_, code) => code).filter((code) => (code + 1) * share > from && code * share < to));
  }

  nearest(x, y) {
    let i = this.xs.findIndex((at) => at > x);
    if (i < 0) i = this.xs.length - 1;
    i = Math.max(1, i);
    const t = (x - this.xs[i - 1]) / (this.xs[i] - this.xs[i - 1]);
    if (!(t >= -0.1 && t <= 1.1)) return -1;
    let found = -1, least = 6;
    for (let row = 0; row < rows; row += 1) {
      if (!state.shown[row]) continue;
      const at = this.ys[i - 1][row] + t * (this.ys[i][row] - this.ys[i - 1][row]);
      const distance = Math.abs(at - y) * (onFront[row] ? 0.6 : 1);
      if (distance < least) { least = distance; found = row; }
    }
    return found;
  }

  highlight() {
    const row = state.hovered;
    this.over.replaceChildren();
    if (row < 0) return;
    const d = this.xs.map((x, i) => [x, this.ys[i][row]]).filter(([, y]) => !Number.isNaN(y)).map(([x, y]) => `${x} ${y}`).join("L");
    this.over.append(drawn("path", { d: `M${d}`, fill: "none", stroke: variable("--panel"), "stroke-width": 5 }));
    this.over.append(drawn("path", { class: "ring", d: `M${d}` }));
  }
}

/** A dotted name on two lines, without its unit, which stands apart. */
function splitName(name) {
  const dot = name.lastIndexOf(".");
  const field = name.slice(dot + 1).replace(/_(bytes|mhz|nm|cycles)$/, "").replaceAll("_", " ");
  return dot < 0 ? [field] : [name.slice(0, dot), field];
}

// ---- the panel of filters -------------------------------------------------------------------------------------------

function rangeFilter(column) {
  const factor = column.name === "utilization" ? 100 : column.factor;
  const unit = column.name === "utilization" ? "%" : column.unit;
  const [least, most] = extent(column.data);
  const shownAs = (v) => String(Number((v * factor).toPrecision(column.role === "knob" ? 12 : 4)));
  const field = (side, ends) => element("input", {
    type: "number", step: "any", placeholder: shownAs(ends), "aria-label": `${column.label}, ${side}${unit ? `, in ${unit}` : ""}`,
    oninput: (event) => {
      const now = state.filters.get(column) ?? { low: -Infinity, high: Infinity };
      const typed = event.target.value === "" ? (side === "least" ? -Infinity : Infinity) : Number(event.target.value) / factor;
      column.typing = event.target;
      setFilter(column, side === "least" ? { ...now, low: typed * (1 - 1e-12) } : { ...now, high: typed * (1 + 1e-12) });
      column.typing = null;
    },
  });
  const [low, high] = [field("least", least), field("most", most)];
  const box = element("fieldset", { class: "filter", "data-column": column.name },
    element("legend", {}, column.label, element("span", { class: "unit" }, unit ? ` [${unit}]` : "")), low, high);
  column.showFilter = () => {
    const filter = state.filters.get(column);
    const text = (v) => (filter && Number.isFinite(v) ? shownAs(v) : "");
    if (column.typing !== low) low.value = text(filter?.low);
    if (column.typing !== high) high.value = text(filter?.high);
    box.classList.toggle("active", Boolean(filter));
  };
  return box;
}

function choiceFilter(column) {
  const boxes = column.values.map((text, code) => element("input", { type: "checkbox", checked: true, value: code, onchange: () => {
    setFilter(column, new Set(boxes.filter((b) => b.checked).map((b) => Number(b.value))));
  } }));
  const box = element("fieldset", { class: "filter", "data-column": column.name }, element("legend", {}, column.label),
    ...column.values.map((text, code) => element("label", { class: "choice" }, boxes[code], text)));
  column.showFilter = () => {
    const filter = state.filters.get(column);
    boxes.forEach((b, code) => { b.checked = !filter || filter.has(code); });
    box.classList.toggle("active", Boolean(filter));
  };
  return box;
}

const filterOf = (column) => (column.kind === "text" ? choiceFilter(column) : rangeFilter(column));
const count = element("output", { "aria-live": "polite" });

function showCount() {
  let shown = 0, front = 0;
  for (let row = 0; row < rows; row += 1) if (state.shown[row]) { shown += 1; front += onFront[row] ? 1 : 0; }
  count.replaceChildren(element("b", {}, shown.toLocaleString("en-US")), ` of ${rows.toLocaleString("en-US")} shown`,
    element("br"), element("span", { class: "quiet" }, `${front} on the front`));
}

function reset() {
  state.filters.clear();
  state.infeasible = true;
  for (const c of columns) c.showFilter?.();
  const box = document.getElementById("infeasible");
  if (box) box.checked = true;
  applyFilters();
}

function filterPanel() {
  const figures = columns.filter((c) => c.role === "figure" && differing(c));
  const broken = feasible.some((f) => !f);
  const toggle = element("input", { type: "checkbox", checked: true, id: "infeasible", onchange: (event) => {
    state.infeasible = event.target.checked;
    applyFilters();
  } });
  return element("aside", { class: "panel filters", "aria-label": "Filters" },
    element("div", { class: "shown" }, count, element("button", { id: "reset", onclick: reset }, "Reset")),
    element("div", { class: "fields" },
      element("h3", {}, "Objectives, from … to"), ...objectives.map(filterOf),
      element("h3", {}, "Knobs"), ...knobs.filter(differing).map(filterOf),
      ...(broken ? [element("label", { class: "choice" }, toggle, "points that break a constraint")] : []),
      ...(figures.length ? [element("details", {}, element("summary", {}, "Other figures"), ...figures.map(filterOf))] : [])));
}

// ---- the front as a table -------------------------------------------------------------------------------------------

const tableColumns = [...knobs.filter(differing), ...objectives];
const tableBody = element("tbody");
const tableCount = element("span", { class: "quiet" });
const headers = new Map();

function frontTable() {
  const head = tableColumns.map((c) => {
    const words = c.role === "knob" ? splitName(c.label).flatMap((word, i) => (i ? [element("br"), word] : [word])) : [c.label];
    const cell = element("th", { scope: "col", class: c.kind === "text" ? "text" : "", "data-column": c.name },
      element("button", { onclick: () => sortBy(c) }, ...words), element("small", {}, unitOf(c) || "\u00a0"));
    headers.set(c, cell);
    return cell;
  });
  return element("section", { class: "panel", "aria-labelledby": "front-title" },
    element("h2", { id: "front-title" }, "The front ", tableCount),
    element("p", { class: "quiet" }, "Designs that no other betters in one objective without being worse in another. Click a heading to sort; arrow keys walk, Enter copies."),
    element("div", { class: "rows" }, element("table", { id: "front" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col", class: "text" }, "point", element("small", {}, "\u00a0")), ...head)), tableBody)));
}

function sortBy(column) {
  state.sort = { column, up: state.sort.column === column ? !state.sort.up : !column.maximised };
  drawTable();
}

function drawTable() {
  const { column, up } = state.sort;
  for (const [c, cell] of headers) {
    if (c === column) cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  }
  const chosen = [];
  for (let row = 0; row < rows; row += 1) if (onFront[row] && state.shown[row]) chosen.push(row);
  if (column) chosen.sort((a, b) => (up ? 1 : -1) * (column.data[a] - column.data[b]) || a - b);
  tableCount.textContent = `${chosen.length} of ${onFront.filter(Boolean).length}`;
  tableBody.replaceChildren(...chosen.map(tableRow));
  highlightTable();
}

function tableRow(row) {
  const show = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    hover(row, event.clientX || box.left + 60, event.clientY || box.top);
  };
  const button = element("button", { "aria-label": `Copy point ${sweep.point[row]} as TOML`, onclick: (event) => { event.stopPropagation(); copy(row); },
    onfocus: show, onblur: () => hover(-1), onkeydown: walk }, String(sweep.point[row]));
  const cells = tableColumns.map((c) => element("td", { class: c.kind === "text" ? "text" : "" }, number(c, c.data[row])));
  return element("tr", { "data-row": row, onpointermove: show, onpointerleave: () => hover(-1), onclick: () => copy(row) },
    element("td", { class: "text" }, button), ...cells);
}

function walk(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.currentTarget.closest("tr")[step]?.querySelector("button");
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function highlightTable() {
  tableBody.querySelector(".hovered")?.classList.remove("hovered");
  if (state.hovered >= 0) tableBody.querySelector(`[data-row="${state.hovered}"]`)?.classList.add("hovered");
}

// ---- the page -------------------------------------------------------------------------------------------------------

function header() {
  const plural = (n, one, many) => `${n.toLocaleString("en-US")} ${n === 1 ? one : many}`;
  const counts = [element("b", {}, plural(rows, "point", "points")), ` in this page: ${onFront.filter(Boolean).length} on the front`];
  const broken = feasible.filter((f) => !f).length;
  if (broken) counts.push(` · ${broken.toLocaleString("en-US")} break a constraint`);
  if (sweep.failed) counts.push(` · ${sweep.failed.toLocaleString("en-US")} more failed`);
  const ways = new Set(objectives.map(better));
  const goals = objectives.map((c) => (ways.size === 1 ? titleOf(c) : `${titleOf(c)}, ${better(c)}`)).join(ways.size === 1 ? ", " : "; ");
  const notes = [["objectives", ways.size === 1 ? `${goals}; ${[...ways][0]}` : goals], ...sweep.notes];
  return element("header", {},
    element("div", {},
      element("h1", {}, sweep.title),
      element("p", { class: "counts" }, ...counts),
      element("dl", {}, ...notes.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))))),
    element("div", { class: "help" }, element("h2", {}, "How to use"), element("ul", {},
      element("li", {}, "Hover over a point for its whole configuration; click to copy it as TOML."),
      element("li", {}, "Drag along an axis of the lower plot to select; double-click the axis to clear."),
      element("li", {}, "Type limits at the left, in the unit shown. All plots and the table follow."))));
}

function icon(kind) {
  const svg = drawn("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
  const shapes = {
    front: () => drawn("path", { d: "M0-6L6 0L0 6L-6 0Z", fill: "var(--front)" }),
    plain: () => drawn("circle", { r: 4, fill: "var(--point)", opacity: 0.6 }),
    broken: () => drawn("circle", { r: 3.5, fill: "none", stroke: "var(--faint)" }),
    bar: () => drawn("path", { d: "M0-6V6M-4-6H4M-4 6H4", stroke: "var(--front)", fill: "none", "stroke-width": 1.3 }),
  };
  svg.append(shapes[kind]());
  return svg;
}

const swatches = element("span", { class: "swatches" });

/** Heading of the scatter plots, with what their colours mean. */
function legend() {
  const key = (kind, text) => element("span", { class: "key" }, icon(kind), text);
  const choices = [...knobs.filter(differing), ...columns.filter((c) => c.role === "figure" && differing(c))];
  const select = element("select", { id: "colour", onchange: (event) => {
    state.colour = byName.get(event.target.value) ?? null;
    redraw();
  } }, element("option", { value: "" }, "front or not"), ...choices.map((c) => element("option", { value: c.name }, c.label)));
  const keys = [key("front", "on the front"), key("plain", "other point")];
  if (feasible.some((f) => !f)) keys.push(key("broken", "breaks a constraint"));
  if (objectives.some((c) => c.low)) keys.push(key("bar", "interval, low … high"));
  return [element("div", { class: "heading" }, element("h2", {}, "Objectives, two by two"), element("label", {}, "colour by", select)),
    element("div", { class: "legend" }, ...keys, swatches)];
}

function pairs(items) {
  return items.flatMap((x, i) => items.slice(i + 1).map((y) => [x, y]));
}

// The first objective, which is what one looks for, stands upright.
const scatters = pairs(objectives).map(([y, x]) => new Scatter(x, y));
const parallel = new Parallel([...knobs.filter(differing), ...objectives]);

function highlight() {
  for (const plot of [...scatters, parallel]) plot.highlight();
  highlightTable();
}

let scheduled = false;
function redraw() {
  showCount();
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    swatches.replaceChildren(...colouring().legend.map(([colour, text]) => element("span", { class: "key" }, swatch(colour), text)));
    for (const plot of [...scatters, parallel]) plot.draw();
    drawTable();
  });
}

document.body.append(
  header(),
  element("div", { class: "columns" }, filterPanel(), element("main", {},
    element("section", { class: "panel", "aria-label": "Objectives two by two" },
      ...legend(),
      element("div", { class: "scatters" }, ...scatters.map((s) => s.node))),
    element("section", { class: "panel", "aria-label": "Knobs and objectives" },
      element("h2", {}, "Knobs and objectives"),
      element("p", { class: "quiet" }, "One line per point. Objectives (bold) have their better end at the top."),
      element("div", { class: "wide" }, parallel.node)),
    frontTable())),
  card, toast, dialog);
showCount();
for (const plot of [...scatters, parallel]) plot.draw();
drawTable();
new ResizeObserver(redraw).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
