/** A list to go to with the keyboard. */

import { openDialog } from "./controls.js";
import { fill, freshId, h } from "./dom.js";
import { icon } from "./icons.js";

/** Open a list of {text, detail, symbol, run} that a person filters by typing. */
export function openPalette(items) {
  if (document.querySelector("dialog.palette")) return;
  const id = freshId("palette");
  let found = items;
  let at = 0;
  const list = h("ul", { id, role: "listbox", "aria-label": "Places" });
  const input = h("input", { type: "text", placeholder: "Go to…", role: "combobox", "aria-expanded": "true", "aria-controls": id, "aria-label": "Go to", spellcheck: false,
    oninput: () => { at = 0; show(); }, onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) { at = (at + step + found.length) % Math.max(1, found.length); show(); }
      else if (event.key === "Enter") choose(found[at]);
      else return;
      event.preventDefault();
    } });
  const dialog = openDialog("Go to", h("div", {}, input, list), { kind: "palette" });
  function choose(item) {
    if (!item) return;
    dialog.close();
    item.run();
  }
  function show() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = items.filter(({ text }) => words.every((word) => text.toLowerCase().includes(word))).slice(0, 40);
    fill(list, found.length ? found.map((item, number) => h("li", { id: `${id}-${number}`, role: "option", "aria-selected": String(number === at), onclick: () => choose(item) },
      icon(item.symbol), h("span", {}, item.text), item.detail && h("small", {}, item.detail))) : h("li.hint", {}, "Nothing found."));
    input.setAttribute("aria-activedescendant", found.length ? `${id}-${at}` : "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }
  show();
  input.focus();
}
