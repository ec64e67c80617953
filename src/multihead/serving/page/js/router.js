/** The tab and its contents in the address: #classify?mode=labels&text=... */

let current = "";

/** Return the tab and the parameters of the address. */
export function readAddress() {
  const [tab, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  return { tab, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the address of a tab with its contents. Empty values are left out. */
export function addressOf(tab, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `#${tab}${query.size ? `?${query}` : ""}`;
}

/** Show an address without a step in the browser's history. */
export function setAddress(tab, parameters) {
  current = addressOf(tab, parameters);
  history.replaceState(null, "", current);
}

/** Call a function when a link or the browser's history changes the address. */
export function onAddress(run) {
  addEventListener("hashchange", () => { if (location.hash !== current) run(readAddress()); });
}

export function go(tab, parameters) {
  location.hash = addressOf(tab, parameters);
}
