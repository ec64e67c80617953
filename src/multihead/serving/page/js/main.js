/** The page: side menu, tabs, theme, key, shortcuts. */

import { AttentionTab } from "./attention.js";
import { ChatTab } from "./chat/tab.js";
import { CompareTab } from "./compare.js";
import { CompleteTab } from "./complete.js";
import { button, field, note, openDialog } from "./controls.js";
import { byId, fill, h } from "./dom.js";
import { icon, mark } from "./icons.js";
import { ModelTab } from "./model_tab.js";
import { models, onModels, refreshModels, serving } from "./models.js";
import { openPalette } from "./palette.js";
import { go, onAddress, readAddress } from "./router.js";
import { readKey, readSetting, writeKey, writeSetting } from "./storage.js";
import { classifyTab } from "./tasks/classify.js";
import { answerTab, entitiesTab, maskTab } from "./tasks/spans.js";
import { summarizeTab, translateTab } from "./tasks/texts.js";
import { similarityTab, tokensTab } from "./tasks/vectors.js";
import { closePopover } from "./token_view.js";

const TABS = [ // id, name, symbol, tasks of which one must be served, build
  ["chat", "Chat", "chat", ["chat"], () => new ChatTab()],
  ["complete", "Complete", "complete", ["text-generation"], () => new CompleteTab()],
  ["compare", "Compare", "compare", ["any"], () => new CompareTab()],
  null,
  ["translate", "Translate", "translate", ["translation"], translateTab],
  ["summarize", "Summarize", "summarize", ["summarization"], summarizeTab],
  ["classify", "Classify", "classify", ["text-classification", "zero-shot-classification"], classifyTab],
  ["answer", "Answer", "answer", ["question-answering", "table-question-answering"], answerTab],
  ["entities", "Entities", "entities", ["token-classification"], entitiesTab],
  ["fill-mask", "Fill mask", "mask", ["fill-mask"], maskTab],
  ["similarity", "Similarity", "similarity", ["sentence-similarity", "feature-extraction", "text-ranking"], similarityTab],
  null,
  ["tokens", "Tokens", "tokens", ["any"], tokensTab],
  ["attention", "Attention", "attention", ["any"], () => new AttentionTab()],
  ["model", "Model", "model", ["any"], () => new ModelTab()],
];
const KNOWN = TABS.filter(Boolean);
const THEMES = { auto: ["auto", "As the system"], light: ["sun", "Light"], dark: ["moon", "Dark"] };
const SHORTCUTS = [["Enter", "send a message"], ["Ctrl Enter", "run, in every tab"], ["Escape", "stop; close"], ["Ctrl K", "go to a tab or a conversation"], ["Ctrl Shift O", "new conversation"], ["Alt 1 … 9", "go to a tab"],
  ["↑ in an empty message", "edit the last question"], ["Arrow keys", "move in tokens, heads and menus"], ["?", "this list"]];

const built = new Map();
let shown = null;
let sideShown = null;

const tabs = () => KNOWN.filter(([id, , , tasks]) => serving(tasks).length || id === shown);

function showTab(id, parameters) {
  const entry = KNOWN.find(([each]) => each === id) ?? tabs()[0] ?? KNOWN[0];
  const before = built.get(shown);
  closePopover();
  [shown] = entry;
  if (!built.has(shown)) built.set(shown, entry[4]());
  const tab = built.get(shown);
  if (before !== tab) {
    before?.close?.();
    fill(byId("main"), tab.node);
  }
  tab.onshow = () => showTab("chat");
  tab.open(parameters ?? {});
  document.title = `${entry[1]} · multihead`;
  showMenu();
  closeSide();
  if (matchMedia("(hover: hover)").matches) tab.focus();
}

function showMenu() {
  const link = ([id, name, symbol]) => h("a.tab-link", { href: `#${id}`, "aria-current": id === shown ? "page" : null }, icon(symbol), h("span", {}, name));
  const seen = new Set(tabs().map(([id]) => id));
  const groups = [[]];
  for (const entry of TABS) {
    if (entry === null) groups.push([]);
    else if (seen.has(entry[0])) groups.at(-1).push(link(entry));
  }
  fill(byId("tabs"), groups.filter((group) => group.length).map((group) => h("div.group", {}, group)));
  const side = built.get(shown)?.sideNode ?? null;
  if (side !== sideShown) fill(byId("side-more"), side);
  sideShown = side;
  const problem = models.error;
  byId("problem").hidden = !problem;
  if (problem) {
    fill(byId("problem"), h("span", {}, problem.message), problem.status === 401 ? button({ text: "Enter a key", kind: "small", onclick: askKey }) : button({ text: "Try again", kind: "small", onclick: refreshModels }));
  }
}

function showTheme() {
  const theme = readSetting("theme", "auto");
  const root = document.documentElement;
  if (theme === "auto") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", theme);
  const [symbol, name] = THEMES[theme];
  fill(byId("theme"), icon(symbol));
  byId("theme").setAttribute("aria-label", `Colors: ${name}`);
  byId("theme").title = `Colors: ${name}`;
  document.dispatchEvent(new Event("themechange"));
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const theme = names[(names.indexOf(readSetting("theme", "auto")) + 1) % names.length];
  writeSetting("theme", theme);
  showTheme();
  note(`Colors: ${THEMES[theme][1]}`);
}

function askKey() {
  const input = h("input", { type: "password", value: readKey(), autocomplete: "off", spellcheck: false });
  openDialog("API key", h("form", { method: "dialog", onsubmit: () => { writeKey(input.value.trim()); refreshModels(); } },
    field("Key of this server", input, { wide: true, hint: "It stays in this tab of the browser, and is sent to this server only." }),
    h("div.row", {}, h("button.button.primary", { type: "submit" }, "Use it"))));
  input.focus();
}

const showShortcuts = () => openDialog("Keys", h("dl.shortcuts", {}, SHORTCUTS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))));

function openSide() {
  document.body.classList.add("side-open");
  byId("menu-button").setAttribute("aria-expanded", "true");
  byId("side").querySelector("a, button")?.focus();
}

function closeSide() {
  document.body.classList.remove("side-open");
  byId("menu-button").setAttribute("aria-expanded", "false");
}

function palette() {
  const chat = built.get("chat");
  openPalette([
    ...tabs().map(([id, name, symbol]) => ({ text: name, symbol, run: () => go(id) })),
    { text: "New conversation", symbol: "plus", run: newConversation },
    { text: "Colors", symbol: "moon", run: nextTheme }, { text: "API key", symbol: "key", run: askKey }, { text: "Keys of the keyboard", symbol: "help", run: showShortcuts },
    ...(chat?.library.all ?? []).map((each) => ({ text: each.title || "Untitled", symbol: "chat", detail: "conversation", run: () => { showTab("chat"); chat.openConversation(each); } })),
  ]);
}

function newConversation() {
  showTab("chat");
  built.get("chat").begin();
}

function typed(event) {
  const command = event.ctrlKey || event.metaKey;
  const writes = /^(TEXTAREA|INPUT|SELECT)$/.test(event.target.tagName);
  if (command && event.key.toLowerCase() === "k") palette();
  else if (command && event.shiftKey && event.key.toLowerCase() === "o") newConversation();
  else if (event.altKey && /^[1-9]$/.test(event.key) && tabs()[event.key - 1]) go(tabs()[event.key - 1][0]);
  else if (event.key === "?" && !writes) showShortcuts();
  else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (document.body.classList.contains("side-open")) { closeSide(); byId("menu-button").focus(); }
    else built.get(shown)?.stop?.();
    return;
  } else return;
  event.preventDefault();
}

function start() {
  fill(byId("brand"), mark(), h("span", {}, "multihead"));
  fill(byId("menu-button"), icon("menu"));
  byId("menu-button").addEventListener("click", () => (document.body.classList.contains("side-open") ? closeSide() : openSide()));
  byId("shade").addEventListener("click", closeSide);
  fill(byId("key"), icon("key"));
  byId("key").addEventListener("click", askKey);
  fill(byId("help"), icon("help"));
  byId("help").addEventListener("click", showShortcuts);
  byId("theme").addEventListener("click", nextTheme);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
  document.addEventListener("keydown", typed);
  showTheme();
  onAddress(({ tab, parameters }) => showTab(tab, parameters));
  onModels(showMenu);
  refreshModels().then(() => {
    const { tab, parameters } = readAddress();
    showTab(tab, parameters);
  });
  setInterval(() => { if (!document.hidden && models.list.some((each) => each.status !== "loaded")) refreshModels(); }, 15000);
}

start();
