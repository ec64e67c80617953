/** The frame of a tab: its header with the choice of a model, and its body. */

import { button, copyText, note } from "./controls.js";
import { h } from "./dom.js";
import { addressOf } from "./router.js";

/** Return {node, header, body, title}. `picker` and `actions` stand at the right of the header. */
export function tabFrame({ title, lead, picker, actions = [], body = [] }) {
  const heading = h("h1", {}, title);
  const header = h("header.tab-head", {}, h("div.tab-title", {}, heading, lead && h("p.lead", {}, lead)),
    h("div.tab-tools", {}, picker?.node, actions));
  const main = h("div.tab-body", {}, body);
  return { node: h("section.tab", { "aria-label": title }, header, main), header, body: main, title: heading };
}

/** Return a button that copies an address which opens the tab with the same contents. */
export function linkButton(tab, read) {
  return button({ symbol: "link", label: "Copy a link to this", kind: "quiet", onclick: async () => {
    await copyText(new URL(addressOf(tab, read()), location.href).href);
    note("The link is copied. Whoever opens it needs access to this server.");
  } });
}
