/** Chat: conversations with branches. */

import { area, button, errorBox, field, note, say } from "../controls.js";
import { eachFrame, fill, h } from "../dom.js";
import { counted, whole } from "../format.js";
import { ModelPicker, modelById } from "../models.js";
import { setAddress } from "../router.js";
import { Sampling } from "../sampling.js";
import { showSnippets } from "../snippets.js";
import { readSetting, writeSetting } from "../storage.js";
import { linkButton, tabFrame } from "../tab.js";
import { textOf } from "../token_list.js";
import { addMessage, isEmpty, newConversation, pathTo, removeMessage, shownPath, toRequest, turnBranch } from "./conversation.js";
import { chatBody, streamChat } from "./generate.js";
import { Library } from "./library.js";
import { MessageView } from "./message_view.js";

const STARTS = ["Why is the sky blue?", "Write a haiku about the sea.", "Explain what a hash table is, with an example in Python.", "Plan a weekend in Lisbon as a table."];

export class ChatTab {
  constructor() {
    this.sampling = new Sampling("chat");
    this.conversation = newConversation();
    this.views = new Map();
    this.running = null;
    this.picker = new ModelPicker("chat", ["chat"], () => this.showGauge());
    this.library = new Library({ onopen: (each) => this.openConversation(each), onnew: () => this.begin() });
    this.library.onrename = () => this.showTitle();
    this.sideNode = this.library.node; // below the tabs
    this.log = h("div.chat-log", { role: "log", "aria-live": "off", "aria-label": "Messages" });
    this.scroller = h("div.chat-scroll", { tabIndex: -1 }, this.log);
    this.frame = tabFrame({ title: "Chat", picker: this.picker, actions: [
      button({ symbol: "code", label: "This chat as a program", kind: "quiet", onclick: () => this.snippets() }),
      linkButton("chat", () => ({ model: this.picker.model?.id, text: this.input.value, system: this.conversation.system })),
      button({ symbol: "settings", label: "Settings: system prompt, sampling", kind: "quiet", onclick: () => this.settings() }),
    ], body: [this.scroller, this.composer()] });
    this.frame.node.classList.add("chat");
    this.node = this.frame.node;
    this.update = eachFrame((view, options) => this.showWriting(view, options));
    this.library.load();
    this.begin();
  }

  composer() {
    this.input = area({ rows: 1, placeholder: "Ask something", "aria-label": "Message", spellcheck: true, oninput: () => this.fit(), onkeydown: (event) => this.typed(event) });
    this.sendButton = button({ symbol: "send", label: "Send (Enter)", kind: "primary round", onclick: () => (this.running ? this.stop() : this.send()) });
    this.gauge = h("span.gauge", { hidden: true });
    return h("div.composer-box", {}, h("div.composer", {}, this.input, this.sendButton), h("div.composer-foot", {}, this.gauge, h("span.keys", {}, "Enter sends · Shift Enter breaks the line")));
  }

  /** Show a tab from its address. */
  open({ model, text, system } = {}) {
    if (model) this.picker.chosen = model;
    if (system) this.conversation.system = system;
    if (text) { this.input.value = text; this.fit(); }
    this.picker.show();
    setAddress("chat");
  }

  focus() {
    this.input.focus();
  }

  typed(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!this.running) this.send();
    } else if (event.key === "ArrowUp" && !this.input.value) {
      const last = shownPath(this.conversation).findLast((each) => each.role === "user");
      if (last) { event.preventDefault(); this.views.get(last.id)?.edit(); }
    }
  }

  fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, innerHeight * 0.4)}px`;
  }

  begin() {
    this.stop();
    this.conversation = newConversation();
    this.conversation.system = readSetting("system", "");
    this.library.current = null;
    this.library.show();
    this.showAll();
    this.focus();
  }

  openConversation(conversation) {
    this.stop();
    this.conversation = conversation;
    this.library.current = conversation.id;
    this.library.show();
    this.showAll();
    this.onshow?.();
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  showTitle() {
    this.frame.title.textContent = this.conversation.title || "Chat";
  }

  showAll() {
    this.showTitle();
    const path = shownPath(this.conversation);
    this.views = new Map(path.map((message) => [message.id, this.views.get(message.id)?.message === message ? this.views.get(message.id) : new MessageView(this.conversation, message, this.actions)]));
    for (const [id, view] of this.views) view.show({ writing: this.running?.message.id === id });
    fill(this.log, path.length ? [...this.views.values()].map((view) => view.node) : this.welcome());
    this.node.classList.toggle("empty", !path.length);
    this.showGauge();
  }

  welcome() {
    return h("div.welcome", {}, h("h2", {}, "What would you like to know?"), h("div.starts", {}, STARTS.map((text) => h("button.start", { type: "button", onclick: () => {
      this.input.value = text;
      this.send();
    } }, text))));
  }

  showGauge() {
    const context = this.picker.model?.context;
    const last = shownPath(this.conversation).findLast((each) => each.stats?.read);
    const used = last ? last.stats.read + (last.stats.written ?? 0) : 0;
    this.gauge.hidden = !used;
    if (!used) return;
    const share = context ? used / context : 0;
    this.gauge.title = "Tokens of this conversation, and how many the model reads at most";
    fill(this.gauge, context && h("span.gauge-bar", { "aria-hidden": "true" }, h("span", { class: share > 0.85 ? "full" : null, style: { width: `${Math.min(100, share * 100)}%` } })),
      context ? `${whole(used)} of ${whole(context)} tokens` : counted(used, "token"));
  }

  get actions() {
    return {
      edit: (message, text) => {
        const made = addMessage(this.conversation, message.parent, { role: message.role, content: text, ...(message.role === "assistant" ? { model: message.model, finish: "edited" } : {}) });
        if (message.role === "user") this.answer(made.id);
        else this.saveAndShow();
      },
      regenerate: (message) => this.answer(message.parent),
      continue: (message) => this.continueMessage(message),
      branch: (message, at, token) => this.branch(message, at, token),
      turn: (message, step) => { turnBranch(this.conversation, message, step); this.saveAndShow(); },
      remove: (message) => { removeMessage(this.conversation, message); this.saveAndShow(); },
      answerTool: (message, call, content) => {
        const made = addMessage(this.conversation, shownPath(this.conversation).at(-1).id, { role: "tool", content, callId: call.id });
        const answered = new Set(pathTo(this.conversation, made.id).map((each) => each.callId));
        if ((message.tools ?? []).every((each) => answered.has(each.id))) this.answer(made.id);
        else this.saveAndShow();
      },
    };
  }

  saveAndShow() {
    this.library.save(this.conversation);
    this.showAll();
  }

  send() {
    const text = this.input.value.trim();
    if (!text || this.running) return;
    this.input.value = "";
    this.fit();
    this.answer(addMessage(this.conversation, shownPath(this.conversation).at(-1)?.id, { role: "user", content: text }).id);
  }

  /** Let the model answer a message. */
  answer(parent) {
    if (this.running) return;
    const message = addMessage(this.conversation, parent, { role: "assistant", model: this.picker.model?.id });
    this.write(message, { content: "", tokens: [] });
  }

  continueMessage(message) {
    if (this.running) return;
    this.write(message, { content: message.content, tokens: message.tokens ?? [] });
  }

  /** Begin a branch at a token of an answer: all before it stays, and `token` stands in its place. */
  branch(message, at, token) {
    if (this.running) return;
    const kept = [...message.tokens.slice(0, at), { ...token, top: message.tokens[at].top }];
    const made = addMessage(this.conversation, message.parent, { role: "assistant", model: this.picker.model?.id, content: textOf(kept), tokens: kept });
    this.write(made, { content: made.content, tokens: kept }, "tokens");
  }

  /** Stream into a message behind what it begins with. */
  async write(message, begin, mode = "read") {
    const { model } = this.picker;
    if (!model) { note("There is no model for chats here."); return; }
    const abort = new AbortController();
    this.running = { abort, message };
    message.error = null;
    message.finish = null;
    this.library.current = this.conversation.id;
    this.showAll();
    this.showRunning();
    this.library.save(this.conversation);
    this.scroller.scrollTop = this.scroller.scrollHeight;
    const view = this.views.get(message.id);
    view.mode = "read";
    const { conversation } = this;
    const take = (answer) => {
      message.content = begin.content + answer.content;
      message.tokens = [...begin.tokens, ...answer.tokens];
      Object.assign(message, { reasoning: answer.reasoning || message.reasoning, tools: answer.tools, stats: answer.stats, finish: answer.finish });
    };
    try {
      const path = begin.content ? pathTo(conversation, message.id) : pathTo(conversation, message.parent);
      const request = { model: model.id, messages: toRequest(conversation, path), settings: this.sampling.request(), probabilities: this.probabilities, continues: Boolean(begin.content) };
      take(await streamChat(request, { signal: abort.signal, onupdate: (answer) => { take(answer); this.update(view, { writing: true }); } }));
      say(`The answer is written: ${counted(message.stats.written ?? 0, "token")}.`);
    } catch (error) {
      if (error.name === "AbortError") message.finish = "stopped";
      else message.error = { message: error instanceof SyntaxError ? "The JSON of the settings cannot be read." : error.message, advice: error.advice };
    }
    this.running = null;
    view.mode = message.tokens?.length ? mode : "read";
    await this.library.save(conversation);
    if (this.conversation === conversation) this.showAll();
    this.showRunning();
    if (modelById(model.id)?.status !== "loaded") this.onload?.();
  }

  showWriting(view, options) {
    const { scroller } = this;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    if (this.running?.message === view.message) view.show(options);
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  stop() {
    this.running?.abort.abort();
  }

  showRunning() {
    const label = this.running ? "Stop (Escape)" : "Send (Enter)";
    const fresh = button({ symbol: this.running ? "stop" : "send", label, kind: "primary round" });
    fill(this.sendButton, ...fresh.childNodes);
    this.sendButton.setAttribute("aria-label", label);
    this.sendButton.title = label;
  }

  get probabilities() {
    return readSetting("probabilities", true);
  }

  settings() {
    const system = h("textarea", { rows: 4, value: this.conversation.system, placeholder: "You are a helpful assistant.", oninput: (event) => {
      this.conversation.system = event.target.value;
      writeSetting("system", event.target.value || undefined);
      if (!isEmpty(this.conversation)) this.library.save(this.conversation);
    } });
    const shown = h("input", { type: "checkbox", checked: this.probabilities, onchange: (event) => writeSetting("probabilities", event.target.checked) });
    this.sampling.open("Settings of the chat", [field("System prompt", system), h("label.check", {}, shown, "Ask for token probabilities")]);
  }

  snippets() {
    try {
      const path = shownPath(this.conversation);
      const messages = toRequest(this.conversation, path.length ? path : [{ role: "user", content: this.input.value || STARTS[0] }]);
      if (messages.at(-1).role === "assistant") messages.pop();
      const body = chatBody({ model: this.picker.model?.id, messages, settings: this.sampling.request() });
      const { max_tokens: most, temperature } = body;
      showSnippets({ path: "v1/chat/completions", body, call: { task: "text-generation", model: this.picker.model?.source ?? "", inputs: messages,
        options: { ...(most ? { max_new_tokens: most } : {}), ...(temperature !== undefined ? { temperature } : {}) } } });
    } catch {
      fill(this.log, errorBox({ message: "The JSON of the settings cannot be read.", advice: "Open the settings and mend it." }));
    }
  }
}
