/** Model: what is known of a model and of the machine, and live metrics. */

import { ask, askText } from "./api.js";
import { bars, button, errorBox, say } from "./controls.js";
import { fill, h } from "./dom.js";
import { bytes, figures, percent, whole } from "./format.js";
import { metricRows, readMetrics } from "./metrics.js";
import { ModelPicker, refreshModels } from "./models.js";
import { setAddress } from "./router.js";
import { showSnippets } from "./snippets.js";
import { tabFrame } from "./tab.js";

const EVERY = 2000; // milliseconds between two looks at the metrics
const POINTS = 60;

const facts = (entries) => h("dl.facts", {}, Object.entries(entries).filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
const shownValue = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));

export class ModelTab {
  constructor() {
    this.picker = new ModelPicker("model", ["any"], () => this.load());
    this.about = h("div.about");
    this.metrics = h("div.metrics");
    this.machine = h("div");
    this.past = new Map();
    this.frame = tabFrame({ title: "Model", lead: "What the server knows of a model and of its machine.", picker: this.picker, actions: [
      button({ symbol: "code", label: "This request as a program", kind: "quiet", onclick: () => showSnippets({ path: `inspect/model/${encodeURIComponent(this.picker.model?.id ?? "MODEL")}` }) }),
    ], body: [h("div.narrow", {}, this.about, h("section.card", {}, h("h2", {}, "Live"), this.metrics), h("section.card", {}, h("h2", {}, "Machine"), this.machine))] });
    this.node = this.frame.node;
  }

  open({ model } = {}) {
    if (model) this.picker.chosen = model;
    this.picker.show();
    setAddress("model", { model: this.picker.model?.id });
    this.load();
    this.watch();
    if (!this.machine.firstChild) this.loadMachine();
  }

  close() {
    clearTimeout(this.timer);
  }

  focus() {
    this.picker.button.focus();
  }

  async load() {
    const { model } = this.picker;
    if (!model) { fill(this.about, errorBox({ message: "There is no model here." })); return; }
    if (model.status === "loaded") await this.describe(model);
    else {
      fill(this.about, h("section.card", {}, h("h2", {}, model.id), facts({ source: h("code", {}, model.source), "made for": model.task }), h("p.hint", {}, model.status === "failed" ? "It could not be loaded; the server's log says why." : "It is not loaded yet."),
        button({ text: "Load it now", kind: "primary", onclick: () => this.describe(model) })));
    }
  }

  async describe(model) {
    if (model.status !== "loaded") fill(this.about, h("section.card", {}, h("h2", {}, model.id), h("p.hint", {}, "Loading…")));
    try {
      const found = await ask(`inspect/model/${encodeURIComponent(model.id)}`);
      if (this.picker.model?.id !== model.id) return;
      fill(this.about, this.modelCards(found));
      if (model.status !== "loaded") { await refreshModels(); say(`${model.id} is loaded.`); }
    } catch (error) {
      fill(this.about, errorBox(error));
    }
  }

  modelCards(found) {
    const memory = Object.entries(found.bytes);
    const total = memory.reduce((sum, [, size]) => sum + size, 0);
    const { tokenizer } = found;
    return [
      h("section.card", {}, h("h2", {}, found.id), h("div.figures", {},
        [[whole(found.parameters), "parameters"], [bytes(total), "of weights"], [found.precision, "precision"], [found.context ? whole(found.context) : "–", "tokens of context"]].map(([value, name]) => h("div", {}, h("strong", {}, value), h("span", {}, name)))),
      facts({ source: h("code", {}, found.source), family: `${found.family} (${found.class})`, device: found.device, "made for": found.task, "also serves": (found.tasks ?? []).filter((task) => task !== found.task).join(", "), labels: (found.labels ?? []).join(", "), adapters: found.adapters.join(", ") })),
      h("section.card", {}, h("h2", {}, "Memory of the weights"), bars(memory.map(([part, size]) => ({ label: part, share: size / total, detail: `${bytes(size)} · ${percent(size / total)}` })), { best: -1 })),
      h("section.card", {}, h("h2", {}, "Tokenizer"), facts({ kind: tokenizer.kind, tokens: whole(tokenizer.tokens), "longest text": tokenizer.longest && `${whole(tokenizer.longest)} tokens`, "pads on the": tokenizer.padding_side,
        special: h("span", {}, Object.entries(tokenizer.special).map(([name, text]) => [`${name} `, h("code", {}, text), "  "])), "chat template": tokenizer.chat_template ? "yes" : "no" })),
      h("details.card", {}, h("summary", {}, "config.json"), h("table.facts", {}, h("tbody", {}, Object.entries(found.config).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, shownValue(value))))))),
    ];
  }

  async loadMachine() {
    try {
      const { versions, machine, kernels, decoding, precisions } = await ask("inspect/machine");
      fill(this.machine, facts({ multihead: versions.multihead, python: versions.python, torch: shownValue(versions.torch), processor: shownValue(machine.processor), cores: `${machine.usable_cores} of ${machine.cores}`,
        memory: typeof machine.memory === "number" ? bytes(machine.memory) : shownValue(machine.memory), kernels: kernels.level ?? kernels.reason, "decode runner": decoding.setting, "auto precision": precisions.auto }));
    } catch (error) {
      fill(this.machine, errorBox(error));
    }
  }

  async watch() {
    clearTimeout(this.timer);
    try {
      const now = readMetrics(await askText("metrics"));
      const time = performance.now();
      const rows = metricRows(now, this.last, this.time && (time - this.time) / 1000);
      Object.assign(this, { last: now, time });
      fill(this.metrics, rows.length ? rows.map((row) => this.metric(row)) : h("p.hint", {}, "No metrics yet."));
    } catch (error) {
      fill(this.metrics, h("p.hint", {}, error.status === 404 ? "This server shows no metrics." : error.status === 401 || error.status === 403 ? "This key may not read the metrics." : error.message));
      if (error.status) return;
    }
    this.timer = setTimeout(() => { if (this.node.isConnected && !document.hidden) this.watch(); else this.timer = setTimeout(() => this.node.isConnected && this.watch(), EVERY); }, EVERY);
  }

  metric({ label, kind, value }) {
    const points = [...(this.past.get(label) ?? []), value].slice(-POINTS);
    this.past.set(label, points);
    const most = Math.max(...points, 1e-9);
    const line = points.map((each, at) => `${((at + POINTS - points.length) / (POINTS - 1)) * 120},${23 - (each / most) * 21}`).join(" ");
    const text = kind === "bytes" ? bytes(value) : kind === "share" ? percent(value) : figures(value);
    return h("div.metric", {}, h("span", {}, label), h("strong", {}, text), h("svg", { viewBox: "0 0 120 24", preserveAspectRatio: "none", "aria-hidden": "true" }, h("polyline", { points: line })));
  }
}
