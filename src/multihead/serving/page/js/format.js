/** Numbers as people read them. */

/** 1234567 -> "1,234,567" */
export const whole = (number) => Math.round(number).toLocaleString("en-US");

/** Return three significant figures, or all before the point. */
export function figures(number) {
  if (!Number.isFinite(number)) return "–";
  return Math.abs(number) >= 100 ? whole(number) : String(Number(number.toPrecision(3)));
}

/** Share from 0 to 1 -> "97.3 %"; tiny ones are not rounded to nothing. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  if (value > 0 && value < 0.1) return value < 0.001 ? "< 0.001 %" : `${Number(value.toPrecision(1))} %`;
  return `${value >= 99.95 && share < 1 ? ">99.9" : value.toFixed(1)} %`;
}

export function bytes(count) {
  for (const unit of ["B", "kB", "MB"]) {
    if (count < 1000) return `${figures(count)} ${unit}`;
    count /= 1000;
  }
  return `${figures(count)} GB`;
}

export const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${figures(value)} s`);

export function ago(time) {
  const minutes = (Date.now() - time) / 60000;
  if (minutes < 1) return "now";
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ago`;
  return new Date(time).toLocaleDateString(undefined, { month: "short", day: "numeric" });
}

/** "1 token", "2 tokens" */
export const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Spaces and line ends of a token made visible. */
export const shown = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";
