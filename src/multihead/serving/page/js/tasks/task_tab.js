/** A tab of a task: fields, examples, an answer. Tabs are described by data; see `tasks/*.js`. */

import { ask, noticesOf } from "../api.js";
import { area, button, errorBox, field, say, segments, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { seconds } from "../format.js";
import { ModelPicker, refreshModels } from "../models.js";
import { setAddress } from "../router.js";
import { showSnippets } from "../snippets.js";
import { readSetting, writeSetting } from "../storage.js";
import { linkButton, tabFrame } from "../tab.js";

/** Return the request of a task in the shape of Hugging Face's inference interface. */
export const inference = (model, task, inputs, parameters = {}) => ({
  path: `models/${encodeURIComponent(model.id)}/pipeline/${task}`,
  body: Object.keys(parameters).length ? { inputs, parameters } : { inputs },
});

/**
 * A tab with one or several modes. A mode is
 *   {key, name, tasks, lead, fields, examples, request(values, model), show(answer, values, model), call(values)}
 * and a field {name, label, kind, hint, options, value, rows, placeholder, optional}.
 */
export class TaskTab {
  constructor({ id, title, modes, run = "Run" }) {
    Object.assign(this, { id, title, modes, runText: run, running: null });
    this.mode = modes.find((mode) => mode.key === readSetting(`mode.${id}`, "")) ?? modes[0];
    this.picker = new ModelPicker(`${id}.${this.mode.key}`, this.mode.tasks, () => this.modelChanged());
    this.form = h("form.task-form", { onsubmit: (event) => { event.preventDefault(); this.run(); }, onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.run(); }
    } });
    this.result = h("section.result", { "aria-label": "Answer", tabIndex: -1 });
    this.lead = h("p.lead");
    this.modeBox = modes.length > 1 ? segments("Kind", modes.map((mode) => [mode.key, mode.name]), this.mode.key, (key) => this.setMode(key)) : null;
    this.frame = tabFrame({ title, picker: this.picker, actions: [
      button({ symbol: "code", label: "This request as a program", kind: "quiet", onclick: () => this.snippets() }),
      linkButton(id, () => ({ mode: this.modes.length > 1 ? this.mode.key : "", model: this.picker.model?.id, ...this.values() })),
    ], body: [this.box = h("div.narrow", {}, this.modeBox, this.form, this.result)] });
    this.frame.title.after(this.lead);
    this.node = this.frame.node;
    this.build();
  }

  open({ mode, model, ...values } = {}) {
    if (mode && this.modes.some((each) => each.key === mode)) {
      this.setMode(mode);
      this.modeBox?.querySelectorAll("input").forEach((input) => { input.checked = input.value === mode; });
    }
    if (model) this.picker.chosen = model;
    this.picker.show();
    this.setValues(values);
    setAddress(this.id);
  }

  focus() {
    this.form.querySelector("textarea, input, select")?.focus();
  }

  stop() {
    this.running?.abort();
  }

  setMode(key) {
    this.stop();
    this.kept = { ...this.kept, ...this.values() };
    this.mode = this.modes.find((mode) => mode.key === key);
    writeSetting(`mode.${this.id}`, key);
    Object.assign(this.picker, { name: `${this.id}.${key}`, chosen: readSetting(`model.${this.id}.${key}`, null) });
    this.picker.setTasks(this.mode.tasks);
    this.build();
    this.setValues(this.kept);
  }

  build() {
    this.lead.textContent = this.mode.lead;
    this.box.classList.toggle("side-by-side", this.mode.layout === "side");
    this.controls = new Map();
    const fields = this.mode.fields.map((each) => {
      const control = this.control(each);
      this.controls.set(each.name, control);
      return field(each.label, control, { hint: each.hint, wide: each.kind !== "number" && each.kind !== "select" && !each.short });
    });
    this.runButton = button({ text: this.runText, symbol: "forward", kind: "primary", hint: "Ctrl Enter", onclick: () => (this.running ? this.stop() : this.run()) });
    const examples = this.mode.examples.map((each, number) => h("button.link", { type: "button", onclick: () => { this.setValues(each.values ?? each); this.run(); } },
      each.name ?? (this.mode.examples.length > 1 ? `Example ${number + 1}` : "Run an example")));
    fill(this.form, h("div.fields", {}, fields), h("div.row", {}, this.runButton, h("span.examples", {}, examples)));
    fill(this.result);
    this.modelChanged();
  }

  control({ kind = "area", options, value, rows, placeholder, min, max, step }) {
    if (kind === "select") return select(options, { value });
    if (kind === "number") return h("input", { type: "number", value: value ?? "", min, max, step: step ?? "any", placeholder: placeholder ?? "default" });
    if (kind === "line") return h("input", { type: "text", value: value ?? "", placeholder, spellcheck: false });
    return area({ rows: rows ?? 4, value: value ?? "", placeholder, spellcheck: true });
  }

  modelChanged() {
    this.mode.onmodel?.(this.picker.model, this.controls);
  }

  values() {
    return Object.fromEntries([...this.controls].map(([name, control]) => [name, control.value]));
  }

  setValues(values) {
    for (const [name, control] of this.controls) if (values[name] !== undefined) control.value = values[name];
  }

  missing(values) {
    return this.mode.fields.find((each) => !each.optional && each.kind !== "number" && !values[each.name]?.trim());
  }

  async run() {
    const values = this.values();
    const missing = this.missing(values);
    const { mode, picker: { model } } = this;
    if (!model) { fill(this.result, errorBox({ message: "No model of this server serves this.", advice: "Start the server with one that does: multihead serve MODEL." })); return; }
    if (missing) {
      this.controls.get(missing.name).focus();
      fill(this.result, errorBox({ message: `“${missing.label}” is empty.`, advice: "Fill it in, or run the example." }));
      return;
    }
    this.stop();
    const abort = new AbortController();
    this.running = abort;
    this.showRunning(model.status === "loaded" ? "" : `${model.id} is loading first…`);
    const begin = performance.now();
    try {
      const answer = mode.run ? await mode.run(values, model, abort.signal) : await this.ask(values, model, abort.signal);
      const time = seconds((performance.now() - begin) / 1000);
      fill(this.result, mode.show(answer, values, model), noticesOf(answer).map((text) => h("p.notice", {}, text)), h("p.stats-line", {}, `${model.id} · ${time}`));
      say(`The answer is there, after ${time}.`);
    } catch (error) {
      if (error.name === "AbortError") fill(this.result, h("p.hint", {}, "Stopped."));
      else fill(this.result, errorBox(error));
    }
    if (this.running === abort) this.running = null;
    this.showRunning();
    if (model.status !== "loaded") refreshModels();
  }

  ask(values, model, signal) {
    const { path, body } = this.mode.request(values, model);
    return ask(path, { body, signal });
  }

  showRunning(text) {
    fill(this.runButton, ...button({ text: this.running ? "Stop" : this.runText, symbol: this.running ? "stop" : "forward" }).childNodes);
    this.result.classList.toggle("waiting", Boolean(this.running));
    this.result.setAttribute("aria-busy", String(Boolean(this.running)));
    if (this.running && text) fill(this.result, h("p.hint", {}, text));
  }

  snippets() {
    const { model } = this.picker;
    const values = this.missing(this.values()) ? { ...this.values(), ...(this.mode.examples[0].values ?? this.mode.examples[0]) } : this.values();
    showSnippets({ ...this.mode.request(values, model ?? { id: "MODEL" }), call: this.mode.call?.(values, model ?? { source: "MODEL" }) });
  }
}
