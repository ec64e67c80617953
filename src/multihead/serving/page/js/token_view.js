/** Tokens colored by probability, a popover with what else might have stood there, and a strip of uncertainty. */

import { bars, place } from "./controls.js";
import { colorOf, eachFrame, h } from "./dom.js";
import { figures, percent, shown } from "./format.js";
import { entropy, isScored, surprise } from "./token_list.js";

/** Shows tokens. `onbranch(position, alternative)` is called when the person chooses another token, or the same one. */
export class TokenView {
  constructor({ onbranch = null } = {}) {
    this.tokens = [];
    this.onbranch = onbranch;
    this.text = h("div.tokens", { role: "group", "aria-label": "Tokens. Arrow keys move, Enter shows what else might have stood there.",
      onclick: (event) => this.pressed(event), onkeydown: (event) => this.typed(event) });
    this.canvas = h("canvas.strip", { role: "img", onclick: (event) => this.stripPressed(event), onmousemove: (event) => this.stripHovered(event) });
    this.label = h("p.hint.strip-label", {}, "Uncertainty at each token (entropy in bits, a lower bound)");
    this.strip = h("div.strip-box", { hidden: true }, this.canvas, this.label);
    this.node = h("div.token-view", {}, this.text, this.strip);
    this.draw = eachFrame(() => this.drawStrip());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Show tokens; those that are shown already and stay keep their nodes. */
  show(tokens) {
    let same = 0;
    while (same < tokens.length && same < this.tokens.length && tokens[same] === this.tokens[same]) same++;
    while (this.text.childNodes.length > same) this.text.lastChild.remove();
    this.tokens = tokens;
    this.text.append(...tokens.slice(same).map((token, number) => this.tokenNode(token, same + number)));
    const scored = tokens.filter(isScored);
    this.strip.hidden = scored.length < 2;
    const most = scored.reduce((best, token) => (entropy(token) > entropy(best) ? token : best), scored[0]);
    if (most) this.canvas.setAttribute("aria-label", `Uncertainty along ${scored.length} tokens; the largest, ${figures(entropy(most))} bits, is at “${most.text.trim()}”.`);
    this.draw();
  }

  tokenNode(token, at) {
    const scored = isScored(token);
    const node = h("span.token", { "data-at": String(at), role: "button", tabIndex: at === 0 ? 0 : -1,
      "aria-label": scored ? `${token.text.trim() || shown(token.text)}, ${percent(Math.exp(token.logprob))}` : null,
      title: scored ? `${percent(Math.exp(token.logprob))}` : null }, token.text);
    if (scored) node.style.setProperty("--surprise", surprise(token).toFixed(3));
    else node.classList.add("plain");
    if (token.text.includes("\n")) node.classList.add("breaks");
    return node;
  }

  pressed(event) {
    const node = event.target.closest(".token");
    if (node && !String(getSelection())) this.open(Number(node.dataset.at));
  }

  typed(event) {
    const node = event.target.closest(".token");
    if (!node) return;
    const at = Number(node.dataset.at);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.tokens.length - 1 }[event.key];
    if (to !== undefined) this.focus(to);
    else if (event.key === "Enter" || event.key === " ") this.open(at);
    else return;
    event.preventDefault();
  }

  focus(at) {
    const node = this.text.children[at];
    if (!node) return;
    this.text.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    node.tabIndex = 0;
    node.focus();
  }

  open(at) {
    const token = this.tokens[at];
    const node = this.text.children[at];
    closePopover();
    if (!token || !isScored(token)) return;
    this.focus(at);
    const told = token.top.some((each) => each.text === token.text) ? token.top : [...token.top, { text: token.text, logprob: token.logprob }];
    const rows = told.map((each) => ({
      label: h("code", {}, shown(each.text)), share: Math.exp(each.logprob),
      onclick: this.onbranch && (() => { closePopover(); this.onbranch(at, each); }),
    }));
    const chosen = told.findIndex((each) => each.text === token.text);
    openPopover(node, h("div", {},
      h("header", {}, h("strong", {}, h("code", {}, shown(token.text))), h("span", {}, percent(Math.exp(token.logprob)))),
      h("p.hint", {}, `surprise ${figures(-token.logprob / Math.LN2)} bits · entropy ≥ ${figures(entropy(token))} bits`),
      bars(rows, { best: chosen, format: percent }),
      this.onbranch && h("p.hint", {}, "Choose a token to continue from there.")), () => this.focus(at));
  }

  drawStrip() {
    const { canvas, tokens } = this;
    if (this.strip.hidden || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const pen = canvas.getContext("2d");
    const [low, high] = [colorOf("accent"), colorOf("pick")];
    const most = Math.max(4, ...tokens.map(entropy));
    const width = canvas.width / tokens.length;
    tokens.forEach((token, at) => {
      if (!isScored(token)) return;
      const height = Math.max(ratio, (entropy(token) / most) * canvas.height);
      pen.globalAlpha = at === this.over ? 1 : 0.35 + 0.5 * surprise(token);
      pen.fillStyle = surprise(token) > 0.5 ? high : low;
      pen.fillRect(at * width, canvas.height - height, Math.max(1, width - (width > 4 ? ratio : 0)), height);
    });
  }

  at(event) {
    return Math.min(this.tokens.length - 1, Math.floor((event.offsetX / this.canvas.clientWidth) * this.tokens.length));
  }

  stripHovered(event) {
    this.over = this.at(event);
    const token = this.tokens[this.over];
    if (token) this.label.textContent = isScored(token) ? `“${shown(token.text)}” ${percent(Math.exp(token.logprob))}, entropy ≥ ${figures(entropy(token))} bits` : `“${shown(token.text)}”`;
    this.draw();
  }

  stripPressed(event) {
    const at = this.at(event);
    this.text.children[at]?.scrollIntoView({ block: "nearest" });
    this.open(at);
  }
}

let popover = null;

function openPopover(anchor, content, onclose) {
  const node = h("div.popover", { role: "dialog", "aria-label": "What might have stood here", tabIndex: -1, onkeydown: (event) => {
    const buttons = [...node.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { closePopover(); onclose(); }
    else if (step && buttons.length) buttons.at((buttons.indexOf(document.activeElement) + step) % buttons.length).focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  } }, content);
  document.body.append(node);
  place(node, anchor);
  anchor.classList.add("open");
  const outside = (event) => { if (!node.contains(event.target)) closePopover(); };
  const moved = (event) => { if (!node.contains(event.target)) closePopover(); };
  setTimeout(() => document.addEventListener("pointerdown", outside, true));
  document.addEventListener("scroll", moved, true);
  popover = { node, anchor, outside, moved };
  (node.querySelector("button") ?? node).focus();
}

export function closePopover() {
  if (!popover) return;
  popover.node.remove();
  popover.anchor.classList.remove("open");
  document.removeEventListener("pointerdown", popover.outside, true);
  document.removeEventListener("scroll", popover.moved, true);
  popover = null;
}

/** The meaning of the colors. */
export const legend = () => h("div.legend", { "aria-hidden": "true" }, h("span", {}, "certain"),
  [0, 0.25, 0.5, 0.75, 1].map((value) => h("i", { style: { "--surprise": String(value) } })), h("span", {}, "surprising"));
