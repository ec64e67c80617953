/** Prometheus' text format, and what the page shows of it. */

/** Return the sum of each metric over its labels: name -> number. Buckets of histograms are left out. */
export function readMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const parts = /^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)/.exec(line);
    if (!parts || parts[1].endsWith("_bucket")) continue;
    const value = Number(parts[3]);
    if (Number.isFinite(value)) found.set(parts[1], (found.get(parts[1]) ?? 0) + value);
  }
  return found;
}

const SHOWN = [ // end of the metric's name, label, kind
  ["num_requests_running", "Requests that run", "gauge"],
  ["num_requests_waiting", "Requests that wait", "gauge"],
  ["generation_tokens_total", "Tokens written a second", "rate"],
  ["prompt_tokens_total", "Tokens read a second", "rate"],
  ["kv_cache_usage_perc", "KV cache in use", "share"],
  ["process_resident_memory_bytes", "Memory of the process", "bytes"],
];

/** Return the rows to show: [{label, kind, value}]. `before` and `elapsed` seconds give the rates. */
export function metricRows(now, before, elapsed) {
  const find = (metrics, end) => [...(metrics ?? [])].find(([name]) => name.endsWith(end))?.[1];
  return SHOWN.map(([end, label, kind]) => {
    const value = find(now, end);
    const past = find(before, end);
    if (kind !== "rate") return { label, kind, value };
    return { label, kind, value: value === undefined || past === undefined || !elapsed ? undefined : Math.max(0, value - past) / elapsed };
  }).filter((row) => row.value !== undefined);
}
