/** The list of conversations in the side menu: search, new, rename, export, import, delete. */

import { button, download, menu, note, openDialog, pickFile } from "../controls.js";
import { fill, h } from "../dom.js";
import { ago, counted } from "../format.js";
import { allConversations, deleteConversation, saveConversation } from "../storage.js";
import { exportText, findIn, importText, isEmpty } from "./conversation.js";

export class Library {
  /** `onopen(conversation)` shows one; `onnew()` begins one. */
  constructor({ onopen, onnew }) {
    Object.assign(this, { onopen, onnew, all: [], current: null });
    this.search = h("input", { type: "search", placeholder: "Search conversations", "aria-label": "Search conversations", oninput: () => this.show() });
    this.list = h("ul.conversations");
    this.node = h("section.library", { "aria-label": "Conversations" },
      h("div.row.spread", {}, h("h2", {}, "Conversations"), h("span", {},
        button({ symbol: "plus", label: "New conversation (Ctrl Shift O)", kind: "quiet small", onclick: onnew }), this.moreButton())),
      this.search, this.list);
  }

  moreButton() {
    const node = button({ symbol: "down", label: "Import, export", kind: "quiet small", "aria-haspopup": "menu", onclick: () => menu(node, "Conversations", [
      { text: "Import from a file", symbol: "upload", run: () => this.import() },
      { text: "Export all", symbol: "download", disabled: !this.all.length, run: () => download("conversations.json", exportText(this.all)) },
      null,
      { text: "Delete all", symbol: "trash", disabled: !this.all.length, run: () => this.deleteAll() },
    ]) });
    return node;
  }

  async load() {
    this.all = await allConversations();
    this.show();
  }

  show() {
    const query = this.search.value;
    const found = findIn(this.all, query);
    fill(this.list, found.length ? found.map(({ conversation, excerpt }) => this.row(conversation, excerpt))
      : h("li.hint", {}, query ? "Nothing found." : "They are kept in this browser only."));
  }

  row(conversation, excerpt) {
    const more = button({ symbol: "down", label: `More for ${conversation.title}`, kind: "quiet small", "aria-haspopup": "menu", onclick: () => menu(more, conversation.title, [
      { text: "Rename", symbol: "edit", run: () => this.rename(conversation) },
      { text: "Export", symbol: "download", run: () => download(`${conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "conversation"}.json`, exportText([conversation])) },
      { text: "Delete", symbol: "trash", run: () => this.delete(conversation) },
    ]) });
    return h("li", { class: conversation.id === this.current ? "current" : null },
      h("button.conversation", { type: "button", "aria-current": conversation.id === this.current ? "true" : null, onclick: () => this.onopen(conversation) },
        h("span", {}, conversation.title || "Untitled"), h("small", {}, excerpt || ago(conversation.updated))), more);
  }

  async save(conversation) {
    if (isEmpty(conversation) && !this.all.includes(conversation)) return;
    this.all = [conversation, ...this.all.filter((each) => each !== conversation)].sort((one, other) => other.updated - one.updated);
    this.show();
    await saveConversation(conversation);
  }

  rename(conversation) {
    const input = h("input", { type: "text", value: conversation.title, "aria-label": "Title" });
    const dialog = openDialog("Rename the conversation", h("form.row", { method: "dialog", onsubmit: () => {
      conversation.title = input.value.trim() || conversation.title;
      this.save(conversation);
      this.onrename?.(conversation);
    } }, input, h("button.button.primary", { type: "submit" }, "Rename")));
    dialog.querySelector("input").select();
  }

  async delete(conversation) {
    await deleteConversation(conversation.id);
    this.all = this.all.filter((each) => each !== conversation);
    this.show();
    if (conversation.id === this.current) this.onnew();
    note("The conversation is deleted.");
  }

  deleteAll() {
    const dialog = openDialog(`Delete ${counted(this.all.length, "conversation")}?`, h("div", {}, h("p", {}, "This cannot be undone. Export them first if you may need them."),
      h("div.row", {}, button({ text: "Delete all", kind: "danger", onclick: async () => {
        for (const each of [...this.all]) await deleteConversation(each.id);
        this.all = [];
        dialog.close();
        this.show();
        this.onnew();
      } }), button({ text: "Keep them", onclick: () => dialog.close() }))));
  }

  async import() {
    const text = await pickFile(".json,application/json");
    if (text === undefined) return;
    try {
      const found = importText(text);
      for (const each of found) await this.save(each);
      note(`${counted(found.length, "conversation")} read.`);
      if (found.length) this.onopen(found[0]);
    } catch (error) {
      note(error.message);
    }
  }
}
