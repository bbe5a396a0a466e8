// Times for people. Input is Unix milliseconds everywhere.
export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Made when it is first needed: a format takes milliseconds, and the first frame shows no date. */
function format(options: Intl.DateTimeFormatOptions): (at: number) => string {
  let made: Intl.DateTimeFormat | undefined;
  return (at) => (made ??= new Intl.DateTimeFormat("en-GB", options)).format(at);
}

/** 21 Nov 2026, 03:38:14 */
export const exact = format({ dateStyle: "medium", timeStyle: "medium" });
/** 21 Nov 2026 */
export const date = format({ day: "numeric", month: "short", year: "numeric" });
/** 03:38:14 */
export const clock = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const weekday = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
/** Midnight of the day, as a stable group key. */
export const dayKey = (at: number): number => new Date(at).setHours(0, 0, 0, 0);

/** Today, Yesterday, or the full date. */
export function dayTitle(at: number, now: number): string {
  const day = dayKey(at);
  if (day === dayKey(now)) return "Today";
  if (day === dayKey(now - DAY)) return "Yesterday";
  return weekday(at);
}

const UNITS: [number, string][] = [
  [365 * DAY, "y"],
  [30 * DAY, "mo"],
  [DAY, "d"],
  [HOUR, "h"],
  [MINUTE, "min"],
];

/** The largest whole unit: "3 d", "12 min". */
function largest(ms: number): string {
  for (const [size, unit] of UNITS) {
    if (unit === "mo" && ms < 120 * DAY) continue; // days read better up to four months
    if (ms < size) continue;
    // A key issued a moment ago for 90 days ends in 90 days, not in 89.
    return `${unit === "d" ? Math.round(ms / size) : Math.floor(ms / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(ms / SECOND))} s`;
}

/** "in 3 d", "5 min ago", "just now". */
export function relative(at: number, now: number): string {
  const ms = at - now;
  if (Math.abs(ms) < 10 * SECOND) return ms > 0 ? "in a moment" : "just now";
  return ms > 0 ? `in ${largest(ms)}` : `${largest(-ms)} ago`;
}

/** "2 d 4 h", "1 h 12 min", "04:59": what remains, with seconds only near the end. */
export function remaining(ms: number): string {
  const left = Math.max(0, ms);
  if (left >= DAY) return `${Math.floor(left / DAY)} d ${Math.floor((left % DAY) / HOUR)} h`;
  if (left >= HOUR) return `${Math.floor(left / HOUR)} h ${Math.floor((left % HOUR) / MINUTE)} min`;
  return minutes(left);
}

/** mm:ss */
export function minutes(ms: number): string {
  const total = Math.max(0, Math.ceil(ms / SECOND));
  return `${String(Math.floor(total / 60)).padStart(2, "0")}:${String(total % 60).padStart(2, "0")}`;
}

/** A length in words: "15 minutes", "24 hours", "30 days". */
export function span(ms: number): string {
  const of = (n: number, word: string): string => `${n} ${word}${n === 1 ? "" : "s"}`;
  if (ms === 0) return "none";
  if (ms % DAY === 0 && ms !== DAY) return of(ms / DAY, "day");
  if (ms % HOUR === 0) return of(ms / HOUR, "hour");
  if (ms % MINUTE === 0) return of(ms / MINUTE, "minute");
  return of(Math.round(ms / SECOND), "second");
}

/** 1.4 MB */
export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = n;
  let unit = "";
  for (const u of units) {
    value /= 1000;
    unit = u;
    if (value < 1000) break;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
