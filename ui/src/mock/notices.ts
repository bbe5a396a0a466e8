// The pretended notices: about keys of the pretended registry. `?mock=empty` has none, `?mock=hostile` hostile ones,
// `?mock=quiet` keys and nothing to tell.
import type { NoticeKind, NoticeListRequest, NoticePageView, NoticeView } from "../lib/host";
import { fail } from "./fail";
import { DAY, HOUR, MINUTE, type World } from "./world";

export class MockNotices {
  #rows: NoticeView[] = [];

  constructor(
    private world: World,
    private send: (event: string) => void,
  ) {
    const now = Date.now();
    if (world.scenario.has("quiet") || world.keys.length === 0) return;
    const made: [NoticeKind, number, number | null, number, string][] = [
      ["overlap_closing", now - 4 * MINUTE, now + 38 * MINUTE, 3, ""],
      ["delivery_failed", now - 50 * MINUTE, null, 0, "permission denied: /srv/app/.env"],
      ["key_expiring", now - 3 * HOUR, now + 6 * DAY, 0, ""],
      ["retired_secret_used", now - 9 * HOUR, null, 12, "nightly/2.1, 192.0.2.0/24"],
      ["rotation_due", now - DAY, now - 2 * HOUR, 0, ""],
      ["rotation_pending", now - 2 * DAY, null, 0, ""],
      ["canary_used", now - 3 * DAY, null, 1, "curl/8.5.0, 198.51.100.0/24"],
      ["key_exposed", now - 5 * DAY, null, 0, "a public repository"],
      ["key_expiring", now - 8 * DAY, now + 20 * DAY, 0, ""],
    ];
    const hostile = world.scenario.has("hostile");
    this.#rows = made.flatMap(([kind, at, dueAt, count, detail], index) => {
      const key = world.keys[index % world.keys.length]?.view;
      if (!key) return [];
      return {
        id: made.length - index,
        kind,
        at,
        keyId: key.id,
        name: key.name,
        kid: key.kid,
        dueAt,
        count,
        detail: hostile ? `<img src=x onerror="alert(1)">\u202e${"w".repeat(400)}` : detail,
        settled: index === 8,
        read: index > 5,
      };
    });
  }

  list(request: NoticeListRequest): NoticePageView {
    const rows = request.unreadOnly ? this.#rows.filter((row) => !row.read && !row.settled) : this.#rows;
    const start = Number(request.cursor ?? 0);
    const end = start + request.limit;
    return {
      items: structuredClone(rows.slice(start, end)),
      nextCursor: end < rows.length ? String(end) : null,
      unread: this.#left(),
      staleSince: null,
    };
  }

  read(id: number) {
    if (this.world.scenario.has("offline"))
      fail("registry_offline", "The registry cannot be reached.", "Try again in a moment.", true);
    for (const row of this.#rows) if (row.id === id) row.read = true;
    return { unread: this.#left() };
  }

  readUntil(id: number) {
    for (const row of this.#rows) if (row.id <= id) row.read = true;
    return { unread: this.#left() };
  }

  /** Something happens while the app runs. */
  arrive(): void {
    const key = this.world.keys[0]?.view;
    if (!key) return;
    const newest = Math.max(0, ...this.#rows.map((row) => row.id));
    this.#rows.unshift({
      id: newest + 1,
      kind: "canary_used",
      at: Date.now(),
      keyId: key.id,
      name: key.name,
      kid: key.kid,
      dueAt: null,
      count: 1,
      detail: "",
      settled: false,
      read: false,
    });
    this.send("notices-changed");
  }

  #left(): number {
    return this.#rows.filter((row) => !row.read && !row.settled).length;
  }
}
