// Notices: what they say, what is read, and where an empty list leads.
import { mockIPC } from "@tauri-apps/api/mocks";
import { cleanup, render, screen, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";
import { closeDialog, dialog } from "../../src/lib/dialogs.svelte";
import type { NoticeKind, NoticeView } from "../../src/lib/host";
import { keys } from "../../src/lib/keys.svelte";
import { notices } from "../../src/lib/notices.svelte";
import { go, route } from "../../src/lib/router.svelte";
import { DAY, HOUR } from "../../src/lib/time";
import { toasts } from "../../src/lib/toasts.svelte";
import NoticesPage from "../../src/pages/notices/NoticesPage.svelte";
import { lookOf, wordsOf } from "../../src/pages/notices/words";

const KINDS: NoticeKind[] = [
  "key_expiring",
  "rotation_due",
  "rotation_pending",
  "overlap_closing",
  "delivery_failed",
  "key_exposed",
  "key_reported",
  "retired_secret_used",
  "canary_used",
  "hygiene_asked",
  "webhook_disabled",
  "owner_keys_revoked",
];
const now = Date.now();
const notice = (id: number, over: Partial<NoticeView> = {}): NoticeView => ({
  id,
  kind: "key_expiring",
  at: now - HOUR,
  keyId: `k${id}`,
  name: "Billing",
  kid: "aaaaaaaaaaaa",
  dueAt: now + 6 * DAY,
  count: 0,
  detail: "",
  settled: false,
  read: false,
  ...over,
});

const at = (elements: HTMLElement[], index: number): HTMLElement => {
  const found = elements[index];
  if (!found) throw new Error(`there are ${elements.length}`);
  return found;
};

let rows: NoticeView[];
let more: boolean;
let stale: number | null;
let refusal: unknown;
let calls: string[];
let held: number;
const left = (): number => rows.filter((row) => !row.read && !row.settled).length;

beforeEach(() => {
  rows = [];
  more = false;
  stale = null;
  refusal = null;
  calls = [];
  held = 0;
  Object.assign(notices, {
    rows: [],
    unread: 0,
    unreadOnly: false,
    fresh: true,
    error: null,
    staleSince: null,
  });
  keys.counts = null;
  closeDialog();
  go("notices");
  mockIPC((command, payload) => {
    const args = payload as {
      request?: { unreadOnly: boolean; cursor: string | null; limit: number };
      id?: number;
    };
    calls.push(
      [command, args.request?.cursor ?? args.id].filter((one) => one !== null && one !== undefined).join(" "),
    );
    if (refusal) throw refusal as Error;
    if (command === "list_notices") {
      const items = args.request?.unreadOnly ? rows.filter((row) => !row.read && !row.settled) : rows;
      if (args.request?.cursor)
        return { items: [notice(1)], nextCursor: null, unread: left(), staleSince: stale };
      return { items, nextCursor: more ? "older" : null, unread: left(), staleSince: stale };
    }
    if (command === "mark_notice_read")
      rows = rows.map((row) => (row.id === args.id ? { ...row, read: true } : row));
    if (command === "mark_notices_read_until")
      rows = rows.map((row) => (row.id <= (args.id ?? 0) ? { ...row, read: true } : row));
    if (command.startsWith("mark_")) return { unread: left() };
    if (command === "count_api_keys") return { all: held };
    return command === "list_api_keys"
      ? { items: [], nextCursor: null, total: 0, totalIsEstimate: false, staleSince: null }
      : null;
  });
});

describe("words", () => {
  it("every kind has a title with its name, and something to do", () => {
    for (const kind of KINDS) {
      const words = wordsOf(notice(1, { kind, count: 2, dueAt: null }), now);
      expect(words.title.length, kind).toBeGreaterThan(15);
      expect(words.text.length, kind).toBeGreaterThan(30);
      expect(words.title.includes("Billing"), kind).toBe(kind !== "hygiene_asked");
      expect(lookOf(notice(1, { kind }), now).icon, kind).toBeDefined();
    }
  });

  it("times go on, and what is over is said so", () => {
    const said = (kind: NoticeKind, dueAt: number) => wordsOf(notice(1, { kind, dueAt }), now).title;
    expect(said("key_expiring", now + 6 * DAY)).toBe("“Billing” expires in 6 d");
    expect(said("key_expiring", now - 1)).toBe("“Billing” has expired");
    expect(said("rotation_due", now - DAY)).toBe("The rotation of “Billing” is overdue");
    expect(said("overlap_closing", now + HOUR)).toContain("ends in 1 h and is still in use");
  });

  it("what is urgent looks so, what is settled does not, and names hide nothing", () => {
    expect(lookOf(notice(1), now).ground).toContain("warn");
    expect(lookOf(notice(1, { dueAt: now + HOUR }), now).ground).toContain("danger");
    expect(lookOf(notice(1, { kind: "canary_used", dueAt: null }), now).ground).toContain("danger");
    expect(lookOf(notice(1, { kind: "canary_used", settled: true }), now).ground).toContain("idle");
    expect(wordsOf(notice(1, { name: "a\u202eb".repeat(100) }), now).title).not.toContain("\u202e");
  });
});

describe("the page", () => {
  it("lists what there is, tells unread from read, and shows foreign text as text", async () => {
    rows = [
      notice(3, { kind: "delivery_failed", detail: "<b>denied</b>", dueAt: null }),
      notice(2, { read: true }),
      notice(1, { settled: true }),
    ];
    render(NoticesPage);
    const [first, second, third] = (await screen.findAllByTestId("notice-row")) as [
      HTMLElement,
      HTMLElement,
      HTMLElement,
    ];
    expect(screen.getByTestId("page-subtitle")).toHaveTextContent("1 unread");
    expect(within(first).getByTestId("notice-detail")).toHaveTextContent("<b>denied</b>");
    expect(within(first).getByText("Unread:", { exact: false })).toBeInTheDocument();
    for (const row of [second, third]) expect(within(row).queryByTestId("notice-read")).toBeNull();
    expect(within(third).getByTestId("notice-settled")).toBeInTheDocument();
    expect(within(first).getByTestId("notice-key")).toHaveAttribute("href", "#/keys/k3");
  });

  it("marks one as read, by its button and by opening its key", async () => {
    rows = [notice(2), notice(1)];
    render(NoticesPage);
    await userEvent.click(at(await screen.findAllByTestId("notice-read"), 0));
    expect(calls).toContain("mark_notice_read 2");
    expect(notices.unread).toBe(1);
    expect(screen.getAllByTestId("notice-row")[0]).toHaveAttribute("data-read", "true");
    await userEvent.click(at(screen.getAllByTestId("notice-key"), 1));
    expect(calls).toContain("mark_notice_read 1");
    expect(notices.unread).toBe(0);
    // What is read is not marked again.
    calls = [];
    await userEvent.click(at(screen.getAllByTestId("notice-key"), 1));
    expect(calls.filter((call) => call.startsWith("mark"))).toEqual([]);
  });

  it("marks all up to the newest that is shown, and then shows what is unread", async () => {
    rows = [notice(9), notice(4)];
    render(NoticesPage);
    await screen.findAllByTestId("notice-row");
    rows = [notice(12), ...rows]; // came since, and was not looked at
    await userEvent.click(screen.getByTestId("notices-read-all"));
    expect(calls).toContain("mark_notices_read_until 9");
    expect(notices.unread).toBe(1);
    await userEvent.click(within(screen.getByTestId("notices-unread")).getByRole("radio"));
    expect((await screen.findAllByTestId("notice-row")).map((row) => row.dataset.noticeId)).toEqual(["12"]);
    await userEvent.click(screen.getByTestId("notices-read-all"));
    await userEvent.click(await screen.findByTestId("notices-show-all"));
    expect(await screen.findAllByTestId("notice-row")).toHaveLength(3);
    expect(screen.queryByTestId("notices-read-all")).toBeNull();
  });

  it("fetches older ones", async () => {
    rows = [notice(2)];
    more = true;
    render(NoticesPage);
    await userEvent.click(await screen.findByTestId("notices-more"));
    expect(calls).toContain("list_notices older");
    expect(await screen.findAllByTestId("notice-row")).toHaveLength(2);
    expect(screen.queryByTestId("notices-more")).toBeNull();
  });

  it("an empty list leads on: to what expires next, or to a first key", async () => {
    render(NoticesPage);
    await userEvent.click(await screen.findByTestId("notices-issue"));
    expect(dialog.request).toEqual({ kind: "issue-key" });
    cleanup();
    keys.counts = null;
    held = 3;
    render(NoticesPage);
    await userEvent.click(await screen.findByTestId("notices-expiring"));
    expect(screen.queryByTestId("notices-issue")).toBeNull();
    expect(route.page).toBe("keys");
    expect(keys.sort).toBe("expires_asc");
  });

  it("says why it is old, and why something was not done", async () => {
    rows = [notice(2)];
    stale = now - HOUR;
    render(NoticesPage);
    expect(await screen.findByTestId("notices-stale")).toHaveTextContent("does not answer");
    refusal = { code: "registry_offline", message: "It cannot be reached.", hint: null, retryable: true };
    await userEvent.click(screen.getByTestId("notice-read"));
    expect(toasts.items.at(-1)?.text).toBe("It cannot be reached.");
    expect(screen.getByTestId("notice-row")).toHaveAttribute("data-read", "false");
    cleanup();
    Object.assign(notices, { rows: [], fresh: true });
    render(NoticesPage);
    expect(await screen.findByTestId("page-error")).toHaveAttribute("data-error-code", "registry_offline");
  });

  it("keeps its place when it is loaded again, however far down that is", async () => {
    const all = Array.from({ length: 180 }, (_, i) => notice(180 - i));
    const limits: number[] = [];
    mockIPC((command, payload) => {
      if (command !== "list_notices") return null;
      const { cursor, limit } = (payload as { request: { cursor: string | null; limit: number } }).request;
      limits.push(limit);
      const start = Number(cursor ?? 0);
      const end = Math.min(all.length, start + limit);
      const items = all.slice(start, end);
      return { items, nextCursor: end < all.length ? String(end) : null, unread: 100, staleSince: null };
    });
    await notices.clear();
    await notices.more();
    await notices.more();
    expect(notices.rows).toHaveLength(150);
    await notices.load();
    expect(notices.rows).toHaveLength(150);
    expect(new Set(notices.rows.map(({ id }) => id)).size).toBe(150);
    expect(Math.max(...limits)).toBeLessThanOrEqual(100);
    await notices.more();
    expect([notices.rows.length, notices.complete]).toEqual([180, true]);
  });
});
