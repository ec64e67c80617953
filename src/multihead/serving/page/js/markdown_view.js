/** Nodes of a Markdown tree. Text reaches the page as text only. */

import { h } from "./dom.js";
import { highlight } from "./highlight.js";
import { parse } from "./markdown.js";
import { copyButton } from "./controls.js";

/** A text that grows: blocks that stay the same keep their nodes. */
export class MarkdownView {
  constructor() {
    this.node = h("div.markdown");
    this.blocks = [];
  }

  show(text) {
    const blocks = parse(text);
    let same = 0;
    while (same < blocks.length && same < this.blocks.length && isSame(blocks[same], this.blocks[same])) same++;
    while (this.node.childNodes.length > same) this.node.lastChild.remove();
    for (const block of blocks.slice(same)) this.node.append(blockNode(block));
    this.blocks = blocks;
  }
}

const isSame = (one, other) => one.source === other.source && one.type === other.type && one.open === other.open;

function blockNode(block) {
  switch (block.type) {
    case "heading": return h(`h${Math.min(block.level + 2, 6)}`, {}, inlineNodes(block.inline));
    case "paragraph": return h("p", {}, inlineNodes(block.inline));
    case "rule": return h("hr");
    case "quote": return h("blockquote", {}, block.blocks.map(blockNode));
    case "code": return codeNode(block);
    case "table": return tableNode(block);
    default: return listNode(block);
  }
}

function listNode(block) {
  const items = block.items.map(({ checked, blocks }) => {
    const tight = !block.loose && blocks[0]?.type === "paragraph";
    const body = tight ? [inlineNodes(blocks[0].inline), blocks.slice(1).map(blockNode)] : blocks.map(blockNode);
    const box = checked === null ? null : h("input", { type: "checkbox", checked, disabled: true, "aria-label": checked ? "done" : "to do" });
    return h("li", { class: box ? "task" : null }, box, body);
  });
  return h(block.ordered ? "ol" : "ul", { start: block.ordered ? block.start : null }, items);
}

function tableNode(block) {
  const cell = (tag, parts, column) => h(tag, { class: `align-${block.align[column]}` }, inlineNodes(parts));
  return h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "table" }, h("table", {},
    h("thead", {}, h("tr", {}, block.head.map((parts, column) => cell("th", parts, column)))),
    h("tbody", {}, block.rows.map((row) => h("tr", {}, row.map((parts, column) => cell("td", parts, column)))))));
}

export function codeNode({ language, text }) {
  const code = h("code", {}, colored(text, language));
  return h("figure.code", {},
    h("figcaption", {}, h("span", {}, language || "code"), copyButton(() => text, "Copy code")),
    h("pre", { tabIndex: 0 }, code));
}

export const colored = (text, language) =>
  highlight(text, language).map(([kind, part]) => (kind ? h(`span.hl-${kind}`, {}, part) : part));

function inlineNodes(parts) {
  return parts.map((part) => {
    if (typeof part === "string") return part;
    switch (part.type) {
      case "break": return h("br");
      case "code": return h("code", {}, part.text);
      case "link": return h("a", { href: part.href, rel: "noopener noreferrer nofollow", target: "_blank", title: part.href }, inlineNodes(part.inline));
      default: return h(part.type, {}, inlineNodes(part.inline));
    }
  });
}

/** Return a text as Markdown that does not grow. */
export function markdown(text) {
  const view = new MarkdownView();
  view.show(text);
  return view.node;
}
