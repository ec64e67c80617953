/** Attention: every layer and head small, one head large, as lines between tokens or as a matrix. */

import { ask } from "./api.js";
import { area, button, errorBox, field, say, segments } from "./controls.js";
import { fill, h } from "./dom.js";
import { percent } from "./format.js";
import { ModelPicker, onModels, refreshModels } from "./models.js";
import { setAddress } from "./router.js";
import { showSnippets } from "./snippets.js";
import { linkButton, tabFrame } from "./tab.js";
import { HeadView, drawSmall } from "./head_view.js";

const EXAMPLE = "The animal didn't cross the street because it was too tired.";
const NAMES = { "self-attention": "Self-attention", encoder: "Encoder", decoder: "Decoder", "decoder to encoder": "Decoder to encoder" };

/** Return the head that looks least at the first token, where many heads rest. */
function spreadHead(thumbnails) {
  const shares = thumbnails.map(({ columns, cells }) => {
    const values = [...atob(cells)].map((letter) => letter.charCodeAt(0));
    return values.reduce((sum, value, at) => sum + (at % columns ? 0 : value), 0) / Math.max(1, values.reduce((sum, value) => sum + value, 0));
  });
  return shares.indexOf(Math.min(...shares));
}

export class AttentionTab {
  constructor() {
    Object.assign(this, { running: null, found: null, layer: 0, head: 0 });
    this.picker = new ModelPicker("attention", ["any"], () => this.modelChanged());
    this.text = area({ rows: 2, placeholder: "A text", spellcheck: true });
    this.target = area({ rows: 2, placeholder: "A text that the model might write", spellcheck: true });
    this.targetField = field("Target", this.target, { wide: true, hint: "Shows what the decoder looks at while it writes this text." });
    this.runButton = button({ text: "Show attention", symbol: "forward", kind: "primary", hint: "Ctrl Enter", onclick: () => (this.running ? this.running.abort() : this.run()) });
    this.result = h("section.result", { "aria-label": "Attention" });
    this.headView = new HeadView();
    const form = h("form.task-form", { onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.run(); } } },
      h("div.fields", {}, field("Text", this.text, { wide: true }), this.targetField),
      h("div.row", {}, this.runButton, h("span.examples", {}, h("button.link", { type: "button", onclick: () => this.example() }, "Run an example"))));
    this.frame = tabFrame({ title: "Attention", lead: "Where each token looks, in every layer and head.", picker: this.picker, actions: [
      button({ symbol: "code", label: "This request as a program", kind: "quiet", onclick: () => showSnippets({ path: "inspect/attention", body: this.body({ layer: this.layer, head: this.head }) }) }),
      linkButton("attention", () => ({ model: this.picker.model?.id, text: this.text.value, target: this.target.value })),
    ], body: [h("div.wide-body", {}, form, this.result)] });
    this.node = this.frame.node;
    onModels(() => this.modelChanged());
  }

  open({ model, text, target } = {}) {
    if (model) this.picker.chosen = model;
    if (text) this.text.value = text;
    if (target) this.target.value = target;
    this.picker.show();
    this.modelChanged();
    setAddress("attention");
  }

  focus() {
    this.text.focus();
  }

  stop() {
    this.running?.abort();
  }

  modelChanged() {
    const { model } = this.picker;
    this.targetField.hidden = !(model?.encoder_decoder ?? model?.task === "translation");
  }

  example() {
    this.text.value = EXAMPLE;
    if (!this.targetField.hidden) this.target.value = "O animal não atravessou a rua porque estava muito cansado.";
    this.run();
  }

  body(more) {
    const target = !this.targetField.hidden && this.target.value.trim() ? { target: this.target.value } : {};
    return { model: this.picker.model?.id, text: this.text.value || EXAMPLE, ...target, ...(this.side ? { side: this.side } : {}), ...more };
  }

  async run(side = null) {
    if (!this.text.value.trim()) { this.text.focus(); fill(this.result, errorBox({ message: "The text is empty.", advice: "Type one, or run the example." })); return; }
    this.stop();
    const abort = new AbortController();
    Object.assign(this, { running: abort, side, layer: 0, head: 0 });
    this.showRunning();
    if (this.picker.model?.status !== "loaded") fill(this.result, h("p.hint", {}, `${this.picker.model?.id} is loading first…`));
    try {
      const first = await ask("inspect/attention", { body: this.body({ layer: 0 }), signal: abort.signal });
      this.side = first.side;
      if (!side && first.sides.includes("decoder to encoder")) { this.running = null; await this.run("decoder to encoder"); return; }
      this.build(first);
      const middle = Math.floor(first.layers / 2);
      const maps = await ask("inspect/attention", { body: this.body({ layer: middle }), signal: abort.signal });
      await this.choose(middle, spreadHead(maps.thumbnails));
      for (let layer = 0; layer < first.layers; layer++) {
        this.addLayer(layer ? await ask("inspect/attention", { body: this.body({ layer }), signal: abort.signal }) : first);
      }
      say(`${first.layers} layers are shown.`);
    } catch (error) {
      if (error.name !== "AbortError") fill(this.result, errorBox(error));
    }
    if (this.running === abort) this.running = null;
    this.showRunning();
    if (this.picker.model?.status !== "loaded") refreshModels();
  }

  showRunning() {
    fill(this.runButton, ...button({ text: this.running ? "Stop" : "Show attention", symbol: this.running ? "stop" : "forward" }).childNodes);
  }

  build(first) {
    this.found = first;
    const side = first.sides.length > 1 ? segments("Side", first.sides.map((each) => [each, NAMES[each]]), first.side, (each) => this.run(each)) : null;
    this.grid = h("div.head-grid", { role: "grid", "aria-label": "Layers and heads; arrow keys move", onkeydown: (event) => this.typed(event), onclick: (event) => this.pressed(event) },
      Array.from({ length: first.layers }, (_, layer) => h("div.head-row", { role: "row" }, h("span.head-name", { role: "rowheader" }, `L${first.layer_numbers[layer]}`))));
    this.title = h("h2", { "aria-live": "polite" });
    fill(this.result, side, h("div.attention", {}, h("div.grid-box", {}, h("p.hint", {}, "A row is a layer, a column a head."), this.grid), h("div.head-box", {}, this.title, this.headView.node)));
  }

  addLayer({ layer, thumbnails }) {
    this.grid.children[layer].append(...thumbnails.map((small, head) => {
      const chosen = layer === this.layer && head === this.head;
      const canvas = h("canvas", { width: small.columns, height: small.rows, "aria-hidden": "true" });
      drawSmall(canvas, small);
      return h("button.head", { type: "button", role: "gridcell", "data-layer": String(layer), "data-head": String(head), tabIndex: chosen ? 0 : -1, "aria-selected": String(chosen),
        "aria-label": `layer ${this.found.layer_numbers[layer]}, head ${head}, largest weight ${percent(small.peak)}`, title: `layer ${this.found.layer_numbers[layer]}, head ${head}` }, canvas);
    }));
  }

  pressed(event) {
    const node = event.target.closest(".head");
    if (node) this.choose(Number(node.dataset.layer), Number(node.dataset.head));
  }

  typed(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const { layers, heads } = this.found;
    this.choose((this.layer + step[0] + layers) % layers, (this.head + step[1] + heads) % heads);
    this.button(this.layer, this.head)?.focus();
  }

  button(layer, head) {
    return this.grid.querySelector(`[data-layer="${layer}"][data-head="${head}"]`);
  }

  async choose(layer, head) {
    for (const [each, chosen] of [[this.button(this.layer, this.head), false], [this.button(layer, head), true]]) {
      each?.setAttribute("aria-selected", String(chosen));
      if (each) each.tabIndex = chosen ? 0 : -1;
    }
    Object.assign(this, { layer, head });
    this.title.textContent = `Layer ${this.found.layer_numbers[layer]}, head ${head}`;
    const request = this.body({ layer, head });
    try {
      const found = await ask("inspect/attention", { body: request });
      if (this.layer === layer && this.head === head) this.headView.show(found);
    } catch (error) {
      fill(this.result, errorBox(error));
    }
  }
}
