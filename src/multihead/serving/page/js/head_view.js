/** One head of attention, large: lines between tokens, or a matrix. */

import { segments } from "./controls.js";
import { colorOf, fill, h } from "./dom.js";
import { percent } from "./format.js";
import { readSetting, writeSetting } from "./storage.js";

const LINE = 24; // pixels of a token in the view of lines
const LEAST = 0.02; // weight of a line that is drawn
const mono = (text) => text.replace(/ /g, "␣");

/** Draw a small map from its bytes. */
export function drawSmall(canvas, { rows, columns, cells }) {
  const data = Uint8Array.from(atob(cells), (letter) => letter.charCodeAt(0));
  const pen = canvas.getContext("2d");
  const picture = pen.createImageData(columns, rows);
  const rgb = colorOf("accent").match(/\d+/g).map(Number);
  data.forEach((value, at) => picture.data.set([...rgb, Math.round(Math.sqrt(value / 255) * 255)], at * 4));
  pen.putImageData(picture, 0, 0);
}

export class HeadView {
  constructor() {
    this.kind = readSetting("attention.view", "lines");
    this.over = null;
    this.withoutFirst = false;
    this.box = h("div.head-large");
    this.reading = h("p.hint.reading", { "aria-live": "polite" });
    const first = h("input", { type: "checkbox", onchange: () => { this.withoutFirst = first.checked; this.draw(); } });
    this.node = h("div", {}, h("div.row.spread", {}, segments("View", [["lines", "Lines"], ["matrix", "Matrix"]], this.kind, (kind) => { this.kind = kind; writeSetting("attention.view", kind); this.draw(); }),
      h("label.check", {}, first, "without the first token")), this.reading, this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    document.addEventListener("themechange", () => this.draw());
  }

  show(found) {
    this.found = found;
    this.over = null;
    this.draw();
  }

  /** Weights as they are shown: without the first token the others of a row add up to 1 again. */
  get weights() {
    const { weights } = this.found;
    if (!this.withoutFirst) return weights;
    return weights.map((row) => {
      const rest = row.slice(1).reduce((sum, weight) => sum + weight, 0);
      return row.map((weight, key) => (key === 0 ? 0 : rest > 0 ? weight / rest : 0));
    });
  }

  draw() {
    if (!this.found) return;
    this.shown = this.weights;
    this.read(null);
    if (this.kind === "lines") this.drawLines();
    else this.drawMatrix();
  }

  /** Say what a token looks at. */
  read(query, key = null) {
    const { queries, keys } = this.found;
    if (query === null) { this.reading.textContent = this.kind === "lines" ? "Point at a token at the left to see what it looks at." : "Point at a cell. A row is a token, its cells are the tokens it looks at."; return; }
    const row = this.shown[query];
    const best = key === null ? [...row.keys()].sort((one, other) => row[other] - row[one]).slice(0, 3) : [key];
    this.reading.textContent = `“${queries[query].trim()}” looks at ${best.map((each) => `“${keys[each].trim()}” ${percent(row[each])}`).join(", ")}`;
  }

  drawLines() {
    const { queries, keys } = this.found;
    const height = Math.max(queries.length, keys.length) * LINE;
    const canvas = h("canvas.lines", { "aria-hidden": "true" });
    const column = (tokens, side) => h("div.token-column", { role: "group", "aria-label": side === "left" ? "Tokens" : "What they look at" }, tokens.map((text, at) => h(side === "left" ? "button" : "span", {
      type: side === "left" ? "button" : null, style: { height: `${LINE}px` }, ...(side === "left" ? {
        onmouseenter: () => this.light(at), onfocus: () => this.light(at), onmouseleave: () => this.light(null), onblur: () => this.light(null) } : {}) }, mono(text))));
    this.parts = { canvas, left: column(queries, "left"), right: column(keys, "right"), height };
    fill(this.box, h("div.line-view", { style: { height: `${height}px` } }, this.parts.left, canvas, this.parts.right));
    this.drawPaths();
    this.observer?.disconnect();
    this.observer = new ResizeObserver(() => this.drawPaths());
    this.observer.observe(canvas);
  }

  light(query) {
    this.over = query;
    this.read(query);
    const row = query === null ? null : this.shown[query];
    const most = row && Math.max(...row, 1e-9);
    [...this.parts.right.children].forEach((node, key) => node.style.setProperty("--share", row ? (row[key] / most).toFixed(3) : "0"));
    this.drawPaths();
  }

  drawPaths() {
    const { canvas, height } = this.parts;
    const width = canvas.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.strokeStyle = colorOf("accent");
    this.shown.forEach((row, query) => {
      const lit = this.over === query;
      const shade = this.over === null ? 0.75 : lit ? 1 : 0.05;
      row.forEach((weight, key) => {
        if (weight < LEAST) return;
        pen.globalAlpha = shade * Math.min(1, weight + 0.04);
        pen.lineWidth = lit ? 1 + 2.5 * weight : 0.8 + 1.4 * weight;
        const [from, to] = [(query + 0.5) * LINE, (key + 0.5) * LINE];
        pen.beginPath();
        pen.moveTo(0, from);
        pen.bezierCurveTo(width * 0.45, from, width * 0.55, to, width, to);
        pen.stroke();
      });
    });
  }

  measure() {
    const { queries, keys } = this.found;
    const size = Math.max(7, Math.min(30, Math.floor((this.box.clientWidth - 130) / keys.length)));
    const pen = document.createElement("canvas").getContext("2d");
    const font = `${Math.max(8, Math.min(size - 2, 13))}px system-ui, sans-serif`;
    pen.font = font;
    const edge = Math.min(130, Math.ceil(Math.max(...[...queries, ...keys].map((text) => pen.measureText(mono(text)).width))) + 12);
    return { size, edge, font };
  }

  drawMatrix() {
    const { queries, keys } = this.found;
    const { size, edge, font } = this.measure();
    const ratio = devicePixelRatio || 1;
    const [width, height] = [edge + keys.length * size, edge + queries.length * size];
    const canvas = h("canvas.matrix-large", { width: width * ratio, height: height * ratio, style: { width: `${width}px`, height: `${height}px` }, role: "img",
      "aria-label": `${queries.length} tokens by ${keys.length} tokens`, onmousemove: (event) => {
        const key = Math.floor((event.offsetX - edge) / size);
        const query = Math.floor((event.offsetY - edge) / size);
        this.read(queries[query] !== undefined && keys[key] !== undefined ? query : null, key);
      }, onmouseleave: () => this.read(null) });
    const pen = canvas.getContext("2d");
    fill(this.box, canvas);
    pen.scale(ratio, ratio);
    pen.font = font;
    pen.textBaseline = "middle";
    pen.fillStyle = colorOf("ink");
    const most = Math.max(...this.shown.flat(), 1e-9);
    queries.forEach((text, query) => { pen.textAlign = "right"; pen.fillText(mono(text), edge - 6, edge + (query + 0.5) * size, edge - 8); });
    keys.forEach((text, key) => {
      pen.save();
      pen.translate(edge + (key + 0.5) * size, edge - 6);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(mono(text), 0, 0, edge - 8);
      pen.restore();
    });
    pen.fillStyle = colorOf("accent");
    this.shown.forEach((row, query) => row.forEach((weight, key) => {
      pen.globalAlpha = Math.sqrt(weight / most);
      pen.fillRect(edge + key * size, edge + query * size, size - 1, size - 1);
    }));
  }
}
