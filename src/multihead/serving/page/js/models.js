/** The models of this server: what each is made for, whether it is loaded, and the choice of one. */

import { ask } from "./api.js";
import { menu, say } from "./controls.js";
import { fill, h } from "./dom.js";
import { whole } from "./format.js";
import { icon } from "./icons.js";
import { readSetting, writeSetting } from "./storage.js";

const ENCODER_TASKS = ["feature-extraction", "sentence-similarity", "text-ranking"];
const WRITER_TASKS = ["text2text-generation", "summarization", "translation", "question-answering"];

export const models = { list: [], error: null };
const listeners = new Set();

/** Call a function now and whenever the list of models changes. */
export function onModels(run) {
  listeners.add(run);
  run();
}

export async function refreshModels() {
  try {
    const loading = new Set(models.list.filter((each) => each.status === "loading").map((each) => each.id));
    models.list = (await ask("inspect/models")).data.map((each) => (
      loading.has(each.id) && each.status === "unloaded" ? { ...each, status: "loading" } : each));
    models.error = null;
  } catch (error) {
    models.error = error;
  }
  for (const run of listeners) run();
}

/** Return how well a model serves a task: 2 if it was made for it, 1 if it can, 0 if not. */
export function fitness(model, task) {
  if (task === "any") return 1;
  if (task === "chat") return model.task === "text-generation" ? (model.chat === false ? 1 : 2) : 0;
  if (!model.task) return 1; // not loaded yet, so that nobody knows
  if (model.task === task) return 2;
  if (!(model.tasks ?? [model.task]).includes(task) && model.status === "loaded") return 0;
  if (model.generates || (model.status !== "loaded" && model.task === "text-generation")) return task === "fill-mask" ? 0 : 1;
  if (model.task === "text2text-generation") return WRITER_TASKS.includes(task) ? 1 : 0;
  if (model.task === "sentence-similarity") return [...ENCODER_TASKS, "zero-shot-classification", "table-question-answering"].includes(task) ? 1 : 0;
  if (model.task === "zero-shot-classification") return task === "text-classification" ? 1 : 0;
  return ["fill-mask", "feature-extraction"].includes(model.task) && ENCODER_TASKS.includes(task) ? 1 : 0;
}

/** Return the models that serve one of some tasks, the best first. */
export function serving(tasks) {
  const best = (model) => Math.max(...tasks.map((task) => fitness(model, task)));
  const rank = (model) => best(model) * 2 + (model.status === "loaded" ? 1 : 0);
  return models.list.filter(best).sort((one, other) => rank(other) - rank(one));
}

export const modelById = (id) => models.list.find((each) => each.id === id || each.aliases?.includes(id));

/** Load a model on the server. Its state is shown meanwhile. */
export async function loadModel(id) {
  const model = modelById(id);
  if (!model || model.status === "loaded") return model;
  model.status = "loading";
  for (const run of listeners) run();
  say(`${id} is loading.`);
  try {
    await ask(`inspect/model/${encodeURIComponent(id)}`);
    say(`${id} is ready.`);
  } finally {
    if (modelById(id)?.status === "loading") modelById(id).status = "unloaded";
    await refreshModels();
  }
  return modelById(id);
}

const STATES = { loaded: "ready", loading: "loading…", unloaded: "loads when it is first used", failed: "could not be loaded" };

/** What is known of a model, in a line. */
export function modelLine(model) {
  const parts = [model.task, model.precision, model.context && `${whole(model.context)} tokens`];
  return [...parts.filter(Boolean), model.status === "loaded" ? null : STATES[model.status]].filter(Boolean).join(" · ");
}

/** A button that shows the chosen model of a tab, and a menu of those that serve it. */
export class ModelPicker {
  /** `name` keeps the choice; `tasks` may change by `setTasks`. */
  constructor(name, tasks, onchange = () => {}) {
    Object.assign(this, { name, tasks, onchange, chosen: readSetting(`model.${name}`, null) });
    this.button = h("button.picker", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false", onclick: () => this.open() });
    this.node = this.button;
    onModels(() => this.show());
  }

  get model() {
    const found = serving(this.tasks);
    return found.find((each) => each.id === this.chosen) ?? found[0] ?? null;
  }

  setTasks(tasks) {
    this.tasks = tasks;
    this.show();
  }

  choose(id) {
    this.chosen = id;
    writeSetting(`model.${this.name}`, id);
    this.show();
    this.onchange(this.model);
    loadModel(id).then(() => this.onchange(this.model), () => {});
  }

  show() {
    const { model } = this;
    this.button.disabled = !models.list.length;
    const text = model ? model.id : models.list.length ? "no model for this" : "no models";
    this.button.title = model ? modelLine(model) : "";
    this.button.setAttribute("aria-label", model ? `Model: ${model.id}, ${STATES[model.status]}` : text);
    fill(this.button, h(`span.dot.${model?.status ?? "failed"}`), h("span.picker-name", {}, text), icon("down"));
  }

  open() {
    const found = serving(this.tasks);
    const item = (model) => ({ text: model.id, detail: modelLine(model), state: model.status, checked: model === this.model, run: () => this.choose(model.id) });
    menu(this.button, "Models", found.length ? found.map(item) : [{ text: "No model here serves this.", disabled: true, run() {} }]);
  }
}
