/** Controls of all tabs: buttons, fields, menus, dialogs, notes. */

import { byId, fill, freshId, h } from "./dom.js";
import { icon } from "./icons.js";

/** Return a button. `symbol` alone needs a `label` for screen readers, which is also its hint. */
export function button({ text, symbol, label, hint, kind = "", onclick, ...more }) {
  return h(`button.button${kind ? `.${kind.replaceAll(" ", ".")}` : ""}`, {
    type: "button", "aria-label": text ? null : label, title: hint ?? (text ? null : label), onclick, ...more,
  }, symbol && icon(symbol), text && h("span", {}, text));
}

export function copyButton(read, label = "Copy") {
  const node = button({ symbol: "copy", label, kind: "quiet small", onclick: async () => {
    await copyText(await read());
    fill(node, icon("check"));
    setTimeout(() => fill(node, icon("copy")), 1400);
  } });
  return node;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { value: text, class: "offscreen" }); // of pages that are not served over TLS
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Copied.");
}

/** Tell screen readers. */
export function say(text) {
  fill(byId("status"), text);
}

/** Show a short note at the bottom for some seconds. */
export function note(text) {
  say(text);
  const node = h("div.note", { role: "presentation" }, text);
  byId("notes").append(node);
  setTimeout(() => node.remove(), 4000);
}

/** Return a labelled control. */
export function field(label, control, { hint, wide } = {}) {
  const id = control.id || freshId("field");
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div.field", { class: wide ? "wide" : null },
    h("label", { for: id }, label), control, hint && h("p.hint", { id: `${id}-hint` }, hint));
}

/** Return a text area that grows with its text. */
export function area(props = {}) {
  const node = h("textarea", { rows: 3, spellcheck: false, ...props });
  return node;
}

export const select = (options, props = {}) =>
  h("select", props, options.map((each) => {
    const [value, text] = Array.isArray(each) ? each : [each, each];
    return h("option", { value, selected: value === props.value }, text);
  }));

/** Return a row of choices of which one is chosen, as radio buttons. */
export function segments(label, options, value, onchoose) {
  const name = freshId("choice");
  return h("div.segments", { role: "radiogroup", "aria-label": label }, options.map(([key, text, symbol]) => h("label", {},
    h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => onchoose(key) }),
    h("span", { title: symbol ? text : null }, symbol ? [icon(symbol), h("span.offscreen", {}, text)] : text))));
}

/** Show an error: what happened, and what to do. */
export function errorBox(error) {
  return h("div.error", { role: "alert" }, h("strong", {}, error.message || String(error)), error.advice && h("p", {}, error.advice));
}

/** Open a dialog. Escape, the cross and a click outside close it. */
export function openDialog(title, content, { kind = "" } = {}) {
  const id = freshId("dialog");
  const node = h("dialog", { class: kind, "aria-labelledby": id, onclose: () => node.remove(), onclick: (event) => {
    if (event.target === node) node.close();
  } }, h("div.dialog-body", {},
    h("header", {}, h("h2", { id }, title), button({ symbol: "close", label: "Close", kind: "quiet", onclick: () => node.close() })), content));
  document.body.append(node);
  node.showModal();
  return node;
}

let openMenu = null;

/** Open a menu below a button: items are {text, detail, symbol, state, checked, disabled, run}, or null for a line. */
export function menu(anchor, label, items) {
  if (openMenu) {
    const same = openMenu.anchor === anchor;
    openMenu.close();
    if (same) return;
  }
  const role = items.some((item) => item?.checked !== undefined) ? "menuitemradio" : "menuitem";
  const node = h("div.menu", { role: "menu", "aria-label": label, tabIndex: -1 }, items.map((item) => (item === null
    ? h("hr") : h("button", { type: "button", role, tabIndex: -1, "aria-checked": item.checked === undefined ? null : String(item.checked),
      disabled: item.disabled, onclick: () => { close(); anchor.focus(); item.run(); } },
    item.state && h(`span.dot.${item.state}`), item.symbol && icon(item.symbol),
    h("span.menu-text", {}, h("span", {}, item.text), item.detail && h("small", {}, item.detail)), item.checked && icon("check")))));
  const buttons = () => [...node.querySelectorAll("button:not(:disabled)")];
  const outside = (event) => { if (!node.contains(event.target) && !anchor.contains(event.target)) close(); };
  function close() {
    node.remove();
    anchor.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", close);
    openMenu = null;
  }
  node.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.indexOf(document.activeElement);
    const step = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (step !== undefined) all.at(step % all.length)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") { close(); anchor.focus(); }
    else if (/^\S$/.test(event.key)) all.find((each, i) => i > at && each.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  (anchor.closest("dialog") ?? document.body).append(node);
  place(node, anchor);
  anchor.setAttribute("aria-expanded", "true");
  document.addEventListener("pointerdown", outside, true);
  addEventListener("resize", close);
  openMenu = { anchor, close };
  (node.querySelector("[aria-checked=true]") ?? buttons()[0])?.focus();
}

/** Put a floating node below its anchor, or above where there is no room. */
export function place(node, anchor) {
  const box = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = node;
  const left = Math.max(8, Math.min(box.left, innerWidth - width - 8));
  const below = box.bottom + 6;
  const top = below + height > innerHeight - 8 && box.top - height - 6 > 8 ? box.top - height - 6 : below;
  node.style.left = `${left}px`;
  node.style.top = `${Math.max(8, Math.min(top, innerHeight - height - 8))}px`;
}

/** Save a text as a file of the person's computer. */
export function download(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Let the person choose a file; return its text. */
export function pickFile(accept) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", accept, onchange: async () => resolve(await input.files[0]?.text()) });
    input.click();
  });
}

/** Return bars of labels with their share, the largest first unless told otherwise. */
export function bars(rows, { best = 0, format } = {}) {
  return h("ul.bars", {}, rows.map(({ label, share, detail, onclick }, number) => {
    const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    const name = onclick ? h("button.bar-label", { type: "button", onclick }, label) : h("span.bar-label", {}, label);
    return h("li", { class: number === best ? "best" : null }, name,
      h("span.bar", { "aria-hidden": "true" }, h("span", { style: { width } })), h("span.bar-value", {}, detail ?? format(share)));
  }));
}
