/** Compare: one request to two models, or to two precisions of one model, side by side. */

import { ask, noticesOf } from "./api.js";
import { area, button, errorBox, field, note, say, select } from "./controls.js";
import { eachFrame, fill, h } from "./dom.js";
import { seconds } from "./format.js";
import { MarkdownView } from "./markdown_view.js";
import { ModelPicker, refreshModels, serving } from "./models.js";
import { setAddress } from "./router.js";
import { Sampling } from "./sampling.js";
import { linkButton, tabFrame } from "./tab.js";
import { statsLine } from "./chat/message_view.js";
import { streamChat } from "./chat/generate.js";
import { givenLabels, ownLabels } from "./tasks/classify.js";
import { answerFromText } from "./tasks/spans.js";
import { summary, translation } from "./tasks/texts.js";

const CHAT = { key: "chat", name: "Chat", tasks: ["chat"], fields: [{ name: "text", label: "Prompt", rows: 3, placeholder: "Ask both the same" }], examples: [{ text: "Name three uses of a brick, one a line." }] };
const TASKS = [CHAT, translation, summary, { ...ownLabels, name: "Classify" }, { ...givenLabels, name: "Classify with your labels" }, { ...answerFromText, name: "Answer from a text" }];

export class CompareTab {
  constructor() {
    this.sampling = new Sampling("compare", { temperature: 0, max_tokens: 200 });
    this.task = CHAT;
    this.running = null;
    this.sides = ["left", "right"].map((side) => ({ picker: new ModelPicker(`compare.${side}`, CHAT.tasks), result: h("div.result") }));
    this.chooser = select(TASKS.map((task) => [task.key, task.name]), { "aria-label": "Task", onchange: () => this.setTask(this.chooser.value) });
    this.fields = h("div.fields");
    this.runButton = button({ text: "Run both", symbol: "forward", kind: "primary", hint: "Ctrl Enter", onclick: () => (this.running ? this.stop() : this.run()) });
    this.settingsButton = button({ symbol: "settings", label: "Settings of sampling", kind: "quiet", onclick: () => this.sampling.open("Settings of both") });
    const form = h("form.task-form", { onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.run(); } } },
      field("Task", this.chooser), this.fields,
      h("div.row", {}, this.runButton, h("span.examples", {}, h("button.link", { type: "button", onclick: () => { this.setValues(this.task.examples[0].values ?? this.task.examples[0]); this.run(); } }, "Run an example"))));
    this.frame = tabFrame({ title: "Compare", lead: "One request, two models; or one model in two precisions, under two names of the config file.", actions: [
      linkButton("compare", () => ({ task: this.task.key, ...this.values() })), this.settingsButton,
    ], body: [h("div.wide-body", {}, form, h("div.columns", {}, this.sides.map(({ picker, result }, number) => h("section.column", { "aria-label": `Model ${number + 1}` }, h("header", {}, picker.node), result))))] });
    this.node = this.frame.node;
    this.build();
  }

  open({ task, ...values } = {}) {
    if (task && TASKS.some((each) => each.key === task)) { this.chooser.value = task; this.setTask(task); }
    this.setValues(values);
    setAddress("compare");
    this.chooseTwo();
  }

  /** Show two different models, where there are two. */
  chooseTwo() {
    const [left, right] = this.sides.map((side) => side.picker);
    const other = serving(this.task.tasks).find((each) => each.id !== left.model?.id);
    if (left.model && left.model === right.model && other) { right.chosen = other.id; right.show(); }
  }

  focus() {
    this.fields.querySelector("textarea, input")?.focus();
  }

  stop() {
    this.running?.abort();
  }

  setTask(key) {
    this.stop();
    const kept = this.values();
    this.task = TASKS.find((task) => task.key === key);
    for (const { picker, result } of this.sides) { picker.setTasks(this.task.tasks); fill(result); }
    this.chooseTwo();
    this.build();
    this.setValues(kept);
  }

  build() {
    this.settingsButton.hidden = this.task !== CHAT;
    this.controls = new Map(this.task.fields.map((each) => [each.name, each.kind === "select" ? select(each.options, { value: each.value })
      : each.kind === "line" || each.kind === "number" ? h("input", { type: each.kind === "line" ? "text" : "number", placeholder: each.placeholder ?? "" })
        : area({ rows: Math.min(each.rows ?? 4, 6), placeholder: each.placeholder, spellcheck: true })]));
    fill(this.fields, this.task.fields.map((each) => field(each.label, this.controls.get(each.name), { hint: each.hint, wide: !each.short && each.kind !== "number" && each.kind !== "select" })));
  }

  values() {
    return Object.fromEntries([...this.controls].map(([name, control]) => [name, control.value]));
  }

  setValues(values) {
    for (const [name, control] of this.controls) if (values[name] !== undefined) control.value = values[name];
  }

  async run() {
    const values = this.values();
    const missing = this.task.fields.find((each) => !each.optional && each.kind !== "number" && !values[each.name]?.trim());
    if (missing) { note(`“${missing.label}” is empty.`); this.controls.get(missing.name).focus(); return; }
    this.stop();
    const abort = new AbortController();
    this.running = abort;
    this.showRunning();
    await Promise.all(this.sides.map((side) => this.runSide(side, values, abort.signal)));
    if (this.running === abort) this.running = null;
    this.showRunning();
    say("Both answers are there.");
    refreshModels();
  }

  async runSide({ picker, result }, values, signal) {
    const { model } = picker;
    const { task } = this;
    if (!model) { fill(result, errorBox({ message: "No model of this server serves this." })); return; }
    fill(result, h("p.hint", {}, model.status === "loaded" ? "…" : `${model.id} is loading first…`));
    const begin = performance.now();
    try {
      if (task === CHAT) { await this.chat(model, result, values.text, signal); return; }
      const { path, body } = task.request(values, model);
      const answer = await ask(path, { body, signal });
      fill(result, task.show(answer, values, model), noticesOf(answer).map((text) => h("p.notice", {}, text)), h("p.stats-line", {}, seconds((performance.now() - begin) / 1000)));
    } catch (error) {
      if (error.name === "AbortError") result.append(h("p.hint", {}, "Stopped."));
      else fill(result, errorBox(error instanceof SyntaxError ? { message: "The JSON of the settings cannot be read." } : error));
    }
  }

  async chat(model, result, text, signal) {
    const view = new MarkdownView();
    const stats = h("p.stats-line");
    const draw = eachFrame((answer) => { view.show(answer.content); stats.textContent = statsLine(answer.stats); });
    fill(result, view.node, stats);
    const answer = await streamChat({ model: model.id, messages: [{ role: "user", content: text }], settings: this.sampling.request() }, { signal, onupdate: draw });
    draw(answer);
  }

  showRunning() {
    fill(this.runButton, ...button({ text: this.running ? "Stop" : "Run both", symbol: this.running ? "stop" : "forward" }).childNodes);
  }
}
