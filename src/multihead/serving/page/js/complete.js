/** Complete: a text that the model continues, token by token, with what else might have come. */

import { ask, stream } from "./api.js";
import { button, copyButton, errorBox, note, say, segments } from "./controls.js";
import { eachFrame, fill, h } from "./dom.js";
import { counted, figures, seconds } from "./format.js";
import { ModelPicker, refreshModels } from "./models.js";
import { setAddress } from "./router.js";
import { Sampling } from "./sampling.js";
import { showSnippets } from "./snippets.js";
import { linkButton, tabFrame } from "./tab.js";
import { commonPrefix, completionTokens, perplexity } from "./token_list.js";
import { legend, TokenView } from "./token_view.js";

const EXAMPLE = "The three most important things to know about the ocean are";
const TOP = 8; // alternatives that are shown of a token

export class CompleteTab {
  constructor() {
    this.sampling = new Sampling("complete", { max_tokens: 48, temperature: 0.7 });
    Object.assign(this, { tokens: [], past: [], running: null, mode: "text" });
    this.picker = new ModelPicker("complete", ["text-generation"]);
    this.input = h("textarea.paper", { "aria-label": "Text", placeholder: "Begin a text. The model continues it.", rows: 10, spellcheck: false,
      oninput: () => this.edited(), onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.go(); } } });
    this.view = new TokenView({ onbranch: (at, token) => this.branch(at, token) });
    this.view.text.classList.add("paper");
    this.paper = h("div.paper-box");
    this.stats = h("p.stats-line", { "aria-live": "polite" });
    this.problem = h("div");
    this.modes = h("div");
    this.goButton = button({ text: "Continue", symbol: "forward", kind: "primary", hint: "Ctrl Enter", onclick: () => (this.running ? this.running.abort() : this.go()) });
    this.undoButton = button({ text: "Undo", symbol: "undo", kind: "quiet", disabled: true, onclick: () => this.undo() });
    this.frame = tabFrame({ title: "Complete", lead: "Colors show how likely each token was. Choose a token to see what else might have come, and go on from there.", picker: this.picker, actions: [
      button({ symbol: "code", label: "This request as a program", kind: "quiet", onclick: () => this.snippets() }),
      linkButton("complete", () => ({ model: this.picker.model?.id, text: this.input.value })),
      button({ symbol: "settings", label: "Settings of sampling", kind: "quiet", onclick: () => this.sampling.open("Settings of completion") }),
    ], body: [h("div.narrow", {}, h("div.row.spread", {}, this.modes, legend()), this.paper, this.view.strip,
      h("div.row", {}, this.goButton, button({ text: "Score this text", symbol: "bars", hint: "Probability of each token, and the perplexity of the whole text", onclick: () => this.score() }), this.undoButton,
        copyButton(() => this.input.value, "Copy the text")),
      this.problem, this.stats, this.hint = h("p.hint", {}, "Nothing typed yet? ", h("button.link", { type: "button", onclick: () => { this.input.value = EXAMPLE; this.edited(); this.go(); } }, "Run an example"), "."))] });
    this.node = this.frame.node;
    this.draw = eachFrame(() => this.show());
    this.show();
  }

  open({ model, text } = {}) {
    if (model) this.picker.chosen = model;
    if (text) { this.input.value = text; this.edited(); }
    this.picker.show();
    setAddress("complete");
  }

  focus() {
    (this.mode === "text" ? this.input : this.view.text.querySelector("[tabindex='0']") ?? this.input).focus();
  }

  stop() {
    this.running?.abort();
  }

  edited() {
    const { kept, rest } = commonPrefix(this.tokens, this.input.value);
    this.tokens = rest ? [...kept, { text: rest }] : kept;
    this.hint.hidden = Boolean(this.input.value);
  }

  setMode(mode) {
    this.mode = mode;
    this.show();
  }

  show() {
    this.view.show(this.tokens);
    const shown = this.mode === "text" ? this.input : this.view.text;
    if (this.paper.firstChild !== shown) fill(this.paper, shown);
    if (this.shownMode !== this.mode) fill(this.modes, segments("View", [["text", "Text"], ["tokens", "Tokens"]], this.mode, (mode) => this.setMode(mode)));
    this.shownMode = this.mode;
    this.paper.classList.toggle("writing", Boolean(this.running));
    fill(this.goButton, ...button({ text: this.running ? "Stop" : "Continue", symbol: this.running ? "stop" : "forward" }).childNodes);
    this.undoButton.disabled = !this.past.length || Boolean(this.running);
    this.hint.hidden = Boolean(this.input.value);
  }

  remember() {
    this.past.push({ tokens: this.tokens, text: this.input.value });
  }

  undo() {
    const { tokens, text } = this.past.pop();
    this.tokens = tokens;
    this.input.value = text;
    this.show();
  }

  go() {
    if (this.running) return;
    if (!this.input.value) { note("Type the beginning of a text first."); this.input.focus(); return; }
    this.remember();
    this.generate(this.tokens);
  }

  branch(at, token) {
    if (this.running) return;
    this.remember();
    this.generate([...this.tokens.slice(0, at), { ...token, top: this.tokens[at].top }]);
  }

  body() {
    return { model: this.picker.model?.id, prompt: this.input.value || EXAMPLE, stream: true, stream_options: { include_usage: true }, logprobs: TOP, ...this.sampling.request() };
  }

  async run(work) {
    const abort = new AbortController();
    this.running = abort;
    fill(this.problem);
    this.show();
    try {
      await work(abort.signal);
    } catch (error) {
      if (error.name !== "AbortError") fill(this.problem, errorBox(error instanceof SyntaxError ? { message: "The JSON of the settings cannot be read." } : error));
    }
    this.running = null;
    this.show();
    if (this.picker.model?.status !== "loaded") refreshModels();
  }

  generate(kept) {
    this.tokens = kept;
    this.input.value = kept.map((token) => token.text).join("");
    this.mode = "tokens";
    return this.run(async (signal) => {
      const begin = performance.now();
      let first = null;
      let usage = null;
      for await (const event of stream("v1/completions", { body: this.body(), signal })) {
        const choice = event.choices?.[0];
        usage = event.usage ?? usage;
        if (!choice?.text) continue;
        first ??= performance.now();
        const found = completionTokens(choice.logprobs);
        this.tokens = [...this.tokens, ...(found.length ? found : [{ text: choice.text }])];
        this.input.value += choice.text;
        this.draw();
      }
      const written = usage?.completion_tokens ?? this.tokens.length - kept.length;
      const time = (performance.now() - (first ?? begin)) / 1000;
      this.showStats([counted(written, "token"), written > 1 && `${figures((written - 1) / time)} tokens/s`, first && `first after ${seconds((first - begin) / 1000)}`]);
    });
  }

  /** Ask for the probability of each token of the text. */
  score() {
    if (!this.input.value) { note("Type a text first."); this.input.focus(); return; }
    this.remember();
    this.run(async (signal) => {
      const body = { model: this.picker.model?.id, prompt: this.input.value, max_tokens: 0, echo: true, logprobs: TOP };
      const answer = await ask("v1/completions", { body, signal });
      this.tokens = completionTokens(answer.choices[0].logprobs);
      this.mode = "tokens";
      const found = perplexity(this.tokens);
      this.showStats([`perplexity ${figures(found.perplexity)}`, `${figures(found.bits)} bits`, `${counted(found.tokens, "token")} scored`, "the first token has no probability"]);
    });
  }

  showStats(parts) {
    const text = parts.filter(Boolean).join(" · ");
    this.stats.textContent = text;
    say(text);
  }

  snippets() {
    const body = this.body();
    showSnippets({ path: "v1/completions", body, call: { task: "text-generation", model: this.picker.model?.source ?? "", inputs: body.prompt,
      options: body.max_tokens ? { max_new_tokens: body.max_tokens } : {} } });
  }
}
