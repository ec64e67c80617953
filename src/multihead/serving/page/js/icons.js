/** Line drawings of 24 x 24. */

import { h } from "./dom.js";

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z",
  complete: "M4 6h16M4 11h16M4 16h7M15 14v5M13 14h4M13 19h4",
  compare: "M4 4h7v16H4zM13 4h7v16h-7z",
  translate: "M3 6h10M8 4v2M11 6c-1 4-4 7-7 9M6 10c1 2 3 4 5 5M13 20l4-10 4 10M14.5 17h5",
  summarize: "M4 5h16M4 10h16M8 15l4 4 4-4M12 19v-6",
  classify: "M4 6h12M4 12h16M4 18h7",
  answer: "M9 9a3 3 0 1 1 4 2.8c-1 .5-1 1.2-1 2.2M12 18h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z",
  entities: "M4 8h6v8H4zM14 8h6v8h-6zM10 12h4",
  mask: "M4 12h3M17 12h3M8 8h8v8H8z",
  similarity: "M4 4h7v7H4zM13 13h7v7h-7zM13 4h7v7h-7zM4 13h7v7H4z",
  tokens: "M3 9h5v6H3zM10 9h7v6h-7zM19 9h2v6h-2z",
  attention: "M5 5v1M10 5v1M15 5v1M20 5v1M5 8l7 9M10 8l2 9M15 8l-3 9M20 8l-8 9M12 20v-1",
  model: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 13l4 4L19 7",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  forward: "M5 12h13M13 7l5 5-5 5",
  left: "M15 6l-6 6 6 6",
  right: "M9 6l6 6-6 6",
  down: "M6 9l6 6 6-6",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  key: "M8 16a4 4 0 1 1 3.5-6H21v4h-3v3h-3v-3h-3.5A4 4 0 0 1 8 16zM8 12h.01",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4",
  moon: "M19 14a8 8 0 0 1-9-10 8 8 0 1 0 9 10z",
  auto: "M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18zM12 3v18M12 7l6-1M12 12h9M12 17l6 1",
  search: "M11 18a7 7 0 1 1 0-14 7 7 0 0 1 0 14zM16 16l5 5",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
  raw: "M5 4h9l5 5v11H5zM14 4v5h5M9 13h6M9 17h6",
  bars: "M4 20V10M10 20V4M16 20v-8M21 20H3",
  swap: "M4 8h14M14 4l4 4-4 4M20 16H6M10 12l-4 4 4 4",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 0 1 6 6",
  help: "M4 6h16v12H4zM7 10h.01M11 10h.01M15 10h.01M8 14h8",
};

export const icon = (name) =>
  h("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, h("path", { d: PATHS[name] }));

/** The mark of the page: the heads of one token look at four others. */
export function mark() {
  const fan = [4, 9.3, 14.7, 20];
  return h("svg.mark", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    fan.map((x, number) => h("path", { d: `M${x} 6.5C${x} 13 12 11 12 18`, opacity: String([1, 0.45, 0.7, 0.3][number]) })),
    fan.map((x) => h("circle", { cx: String(x), cy: "5", r: "1.6" })), h("circle", { cx: "12", cy: "19.4", r: "2.2" }));
}
