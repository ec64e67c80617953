/** DOM nodes from plain calls. A string is always text: nothing here reads HTML. */

const SVG = new Set(["svg", "path", "line", "circle", "rect", "g", "text", "polyline", "title"]);

/** Return a node. `tag` may name classes ("div.card.wide"); null, undefined and false among props and children are left out. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const drawn = SVG.has(name);
  const node = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(props ?? {})) setProperty(node, key, value, drawn);
  append(node, children);
  return node;
}

function setProperty(node, key, value, drawn) {
  if (value === undefined || value === null || value === false) return;
  if (typeof value === "function") node.addEventListener(key.replace(/^on/, ""), value);
  else if (key === "style") for (const [name, text] of Object.entries(value)) node.style.setProperty(name, text);
  else if (key === "class") node.setAttribute("class", [node.getAttribute("class"), value].filter(Boolean).join(" "));
  else if (!drawn && key in node && !key.startsWith("aria") && key !== "list" && key !== "form") node[key] = value;
  else node.setAttribute(key, value === true ? "" : value);
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child);
  }
}

/** Replace all children of a node. */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Return what a color of the style is now, such as "rgb(11, 61, 145)". */
export function colorOf(name) {
  const node = h("i", { style: { color: `var(--${name})` } });
  document.body.append(node);
  const { color } = getComputedStyle(node);
  node.remove();
  return color;
}

let count = 0;
/** Return an id that no other node has. */
export const freshId = (name) => `${name}-${++count}`;

/** Return a function that runs at most once a frame, with its last arguments. */
export function eachFrame(run) {
  let waiting = null;
  return (...values) => {
    const first = waiting === null;
    waiting = values;
    if (first) requestAnimationFrame(() => { const last = waiting; waiting = null; run(...last); });
  };
}
