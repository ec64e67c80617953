/** Settings of generation: the usual ones as fields, all others as JSON. */

import { button, field, openDialog } from "./controls.js";
import { h } from "./dom.js";
import { readSetting, writeSetting } from "./storage.js";

const FIELDS = [ // name, label, least, most, step, hint
  ["max_tokens", "Longest answer", 1, 1000000, 1, "tokens"],
  ["temperature", "Temperature", 0, 2, 0.05, "0 takes the most likely token"],
  ["top_p", "Top p", 0, 1, 0.01, "share of probability that is kept"],
  ["top_k", "Top k", 0, 100000, 1, "tokens that are kept"],
  ["min_p", "Min p", 0, 1, 0.01, "least share of the best token's probability"],
  ["repetition_penalty", "Repetition penalty", 0.1, 2, 0.01, "above 1 avoids words that were used"],
  ["presence_penalty", "Presence penalty", -2, 2, 0.1, "for each word that was used"],
  ["frequency_penalty", "Frequency penalty", -2, 2, 0.1, "for each use of a word"],
  ["seed", "Seed", 0, 4294967295, 1, "the same seed gives the same text"],
];

/** Settings of one tab. Only what is filled in is sent, so that the server's defaults stay in force. */
export class Sampling {
  constructor(name, defaults = {}) {
    this.name = name;
    this.values = readSetting(`sampling.${name}`, defaults);
    this.fault = null;
  }

  /** Return the fields of a request. Throws SyntaxError where the JSON is none. */
  request() {
    const { stop, json, ...numbers } = this.values;
    const extra = json?.trim() ? JSON.parse(json) : {};
    return { ...numbers, ...(stop?.length ? { stop } : {}), ...extra };
  }

  set(name, value) {
    if (value === null || value === "" || Number.isNaN(value) || (Array.isArray(value) && !value.length)) delete this.values[name];
    else this.values[name] = value;
    writeSetting(`sampling.${this.name}`, this.values);
  }

  /** Return the fields. `more` are further nodes above them. */
  form(more = []) {
    const node = h("div.settings", {}, more, h("h3", {}, "Sampling"), h("p.hint", {}, "Empty fields leave the choice to the model's own settings."));
    const grid = h("div.grid-2");
    for (const [name, label, min, max, step, hint] of FIELDS) {
      grid.append(field(label, h("input", {
        type: "number", min, max, step: "any", inputMode: "decimal", placeholder: "default", title: hint, value: this.values[name] ?? "", "data-step": step,
        onchange: (event) => this.set(name, event.target.value === "" ? null : Number(event.target.value)),
      })));
    }
    const fault = h("p.hint.bad", { role: "alert" });
    node.append(grid,
      field("Stop at", h("textarea", { rows: 2, value: (this.values.stop ?? []).join("\n"), spellcheck: false, placeholder: "a text a line",
        onchange: (event) => this.set("stop", event.target.value.split("\n").filter(Boolean)) })),
      field("More fields, as JSON", h("textarea.mono", { rows: 4, value: this.values.json ?? "", spellcheck: false, placeholder: '{"logit_bias": {"42": -100}}',
        oninput: (event) => {
          this.set("json", event.target.value);
          try { fault.textContent = event.target.value.trim() && typeof JSON.parse(event.target.value) !== "object" ? "This must be an object." : ""; }
          catch { fault.textContent = "This is no JSON yet."; }
        } })), fault,
      button({ text: "Reset", symbol: "undo", kind: "quiet", onclick: () => {
        for (const name of Object.keys(this.values)) delete this.values[name];
        writeSetting(`sampling.${this.name}`, this.values);
        node.replaceWith(this.form(more));
      } }));
    return node;
  }

  open(title, more = []) {
    return openDialog(title, this.form(more), { kind: "side" });
  }
}
