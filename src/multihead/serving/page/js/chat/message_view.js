/** One message: text, thoughts, tool calls, its branches and what one can do with it. */

import { button, copyButton, errorBox, field } from "../controls.js";
import { fill, h } from "../dom.js";
import { counted, figures, seconds } from "../format.js";
import { icon } from "../icons.js";
import { codeNode, MarkdownView } from "../markdown_view.js";
import { legend, TokenView } from "../token_view.js";
import { branchOf } from "./conversation.js";

export class MessageView {
  /** `actions` are the functions of the tab: edit, regenerate, continue, branch, turn, remove, answerTool. */
  constructor(conversation, message, actions) {
    Object.assign(this, { conversation, message, actions, mode: "read" });
    this.markdown = new MarkdownView();
    this.body = h("div.message-body");
    this.bar = h("div.message-bar");
    const who = { user: "You", assistant: message.model ?? "Model", tool: "Tool" }[message.role];
    this.node = h(`article.message.${message.role}`, { "aria-label": who },
      message.role === "user" ? null : h("div.message-who", {}, who), this.body, this.bar);
    this.show();
  }

  /** Show the message as it is now; while it is written only its text changes. */
  show({ writing = false } = {}) {
    const { message } = this;
    this.node.classList.toggle("writing", writing);
    if (this.mode === "edit") return;
    if (this.mode === "tokens" && message.tokens?.length) fill(this.body, legend(), this.tokenView().node);
    else if (this.mode === "raw") fill(this.body, h("pre.raw", { tabIndex: 0 }, message.reasoning ? `<think>\n${message.reasoning}\n</think>\n\n` : "", message.content));
    else this.showText(writing);
    if (writing) this.showStats();
    else this.showBar();
  }

  showText(writing) {
    const { message } = this;
    if (message.role === "user") { fill(this.body, h("div.plain-text", {}, message.content)); return; }
    this.markdown.show(message.content);
    const parts = [];
    if (message.reasoning) parts.push(this.thoughts(writing && !message.content));
    if (message.role === "tool") parts.push(codeNode({ language: "result", text: message.content }));
    else parts.push(this.markdown.node);
    for (const call of message.tools ?? []) if (call) parts.push(this.toolCall(call));
    if (writing && !message.content && !message.reasoning) parts.push(h("div.waiting", { "aria-label": "The model reads." }, h("i"), h("i"), h("i")));
    if (message.error) parts.push(errorBox(message.error));
    if (!writing && !message.error && !message.content && !message.reasoning && !message.tools?.length) parts.push(h("p.hint", {}, "The answer is empty."));
    if (!writing && message.finish === "length") parts.push(h("p.hint", {}, "Cut at the longest answer. Continue to read on."));
    // equal nodes stay, so that a selection in the text is kept
    if (this.body.childNodes.length !== parts.length || !parts.every((part, at) => this.body.childNodes[at] === part)) fill(this.body, parts);
  }

  thoughts(open) {
    this.thinking ??= h("details.thinking", { open }, h("summary"), h("div.plain-text"));
    const [summary, text] = this.thinking.children;
    if (this.wasOpen && !open) this.thinking.open = false;
    this.wasOpen = open;
    fill(summary, icon("right"), open ? "Thinking…" : "Thoughts");
    text.textContent = this.message.reasoning;
    return this.thinking;
  }

  toolCall(call) {
    let shown = call.function.arguments;
    try { shown = JSON.stringify(JSON.parse(shown), null, 2); } catch { /* still being written */ }
    const answered = Object.values(this.conversation.messages).some((each) => each.parent === this.message.id && each.callId === call.id);
    const result = h("textarea", { rows: 2, placeholder: "What the tool returned" });
    return h("div.tool-call", {}, h("strong", {}, icon("code"), call.function.name || "…"), codeNode({ language: "json", text: shown }),
      !answered && this.message.finish && h("div.row", {}, field("Result", result, { wide: true }),
        button({ text: "Send result", onclick: () => this.actions.answerTool(this.message, call, result.value) })));
  }

  tokenView() {
    const view = new TokenView({ onbranch: (at, token) => this.actions.branch(this.message, at, token) });
    view.show(this.message.tokens);
    return view;
  }

  showStats() {
    const { stats } = this.message;
    const text = stats?.written ? `${counted(stats.written, "token")}${stats.speed ? ` · ${figures(stats.speed)} tokens/s` : ""}` : "";
    fill(this.bar, h("span.stats", {}, text));
  }

  showBar() {
    const { message, actions } = this;
    const { number, count } = branchOf(this.conversation, message);
    const small = (symbol, label, onclick, more = {}) => button({ symbol, label, kind: "quiet small", onclick, ...more });
    const toggle = (symbol, label, mode) => small(symbol, label, () => { this.mode = this.mode === mode ? "read" : mode; this.show(); }, { "aria-pressed": String(this.mode === mode) });
    const parts = [];
    if (count > 1) {
      parts.push(h("span.branches", { role: "group", "aria-label": `Branch ${number} of ${count}` }, small("left", "Previous branch", () => actions.turn(message, -1)),
        h("span", {}, `${number} / ${count}`), small("right", "Next branch", () => actions.turn(message, 1))));
    }
    parts.push(copyButton(() => message.content, "Copy the message"));
    if (message.role !== "tool") parts.push(small("edit", "Edit", () => this.edit()));
    if (message.role === "assistant") {
      parts.push(small("again", "Regenerate", () => actions.regenerate(message)), small("forward", "Continue the answer", () => actions.continue(message)));
      if (message.tokens?.length) parts.push(toggle("bars", "Token probabilities", "tokens"));
      parts.push(toggle("raw", "Raw text", "raw"));
    }
    parts.push(small("trash", "Delete the message and all below it", () => actions.remove(message)));
    fill(this.bar, h("div.actions", {}, parts), h("span.stats", {}, statsLine(message.stats)));
  }

  edit() {
    const { message } = this;
    this.mode = "edit";
    const text = h("textarea.edit", { value: message.content, rows: Math.min(16, message.content.split("\n").length + 1), "aria-label": "Text of the message" });
    const done = (run) => () => { this.mode = "read"; this.show(); run?.(text.value); };
    const save = message.role === "user"
      ? button({ text: "Send as a new branch", kind: "primary", onclick: done((value) => this.actions.edit(message, value)) })
      : button({ text: "Save as a new branch", kind: "primary", onclick: done((value) => this.actions.edit(message, value)) });
    text.addEventListener("keydown", (event) => {
      if (event.key === "Escape") done()();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save.click();
    });
    fill(this.body, text, h("div.row", {}, save, button({ text: "Cancel", onclick: done() })));
    fill(this.bar);
    text.focus();
  }
}

/** Return speed and counts of an answer in a line. */
export function statsLine(stats) {
  if (!stats?.written) return "";
  return [counted(stats.written, "token"), stats.speed && `${figures(stats.speed)} tokens/s`, stats.first !== null && stats.first !== undefined && `first after ${seconds(stats.first)}`,
    stats.read && `${counted(stats.read, "token")} read${stats.cached ? `, ${figures(stats.cached)} from the cache` : ""}`].filter(Boolean).join(" · ");
}
