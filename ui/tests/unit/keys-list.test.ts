// The list's model: one page after the other, and never an answer to an old question.
import { mockIPC } from "@tauri-apps/api/mocks";
import { beforeEach, expect, it, vi } from "vitest";
import { app } from "../../src/lib/app.svelte";
import type { ApiKeyListRequest, ApiKeyView } from "../../src/lib/host";
import { keys } from "../../src/lib/keys.svelte";
import { keyView } from "./views";

const key = (index: number): ApiKeyView => keyView({ id: `key_${index}`, name: `Key ${index}` });
const total = 1300;
let requests: ApiKeyListRequest[];
let answer: (request: ApiKeyListRequest) => unknown;

beforeEach(async () => {
  requests = [];
  answer = ({ cursor, limit }) => {
    const start = Number(cursor ?? 0);
    const end = Math.min(total, start + limit);
    const items = Array.from({ length: end - start }, (_, i) => key(start + i));
    return {
      items,
      nextCursor: end < total ? String(end) : null,
      total: start === 0 ? total : null,
      totalIsEstimate: false,
      staleSince: null,
    };
  };
  mockIPC((command, payload) => {
    if (command === "count_api_keys")
      return { all: total, live: total, rotating: 0, expiring: 0, expired: 0, disabled: 0, revoked: 0 };
    const { request } = payload as { request: ApiKeyListRequest };
    requests.push(request);
    return answer(request);
  });
  keys.sort = "created_desc";
  await keys.clear(); // nothing of the test before is asked for again
  requests = [];
});

it("loads a first page, then as many as the view needs", async () => {
  expect(keys.rows).toHaveLength(100);
  expect(keys.total).toBe(total);
  keys.ensure(50);
  expect(requests).toHaveLength(0);
  keys.ensure(900);
  keys.ensure(1299); // while the first wish is under way
  await vi.waitFor(() => expect(keys.rows).toHaveLength(total));
  expect(requests.map(({ cursor }) => cursor)).toEqual(["100", "600", "1100"]);
  expect(new Set(keys.rows.map(({ id }) => id)).size).toBe(total);
});

it("drops the answer to a question that is no longer asked", async () => {
  let release: (page: unknown) => void = () => undefined;
  answer = ({ text }) =>
    text === "old"
      ? new Promise((done) => (release = done))
      : { items: [key(7)], nextCursor: null, total: 1, totalIsEstimate: false, staleSince: null };
  keys.text = "old";
  const first = keys.load();
  await vi.waitFor(() => expect(requests).toHaveLength(1));
  keys.text = "new";
  await keys.load();
  release({ items: [key(1), key(2)], nextCursor: null, total: 2, totalIsEstimate: false, staleSince: null });
  await first;
  expect(keys.rows.map(({ id }) => id)).toEqual(["key_7"]);
});

it("keeps the rows when a later load fails, and says why", async () => {
  await keys.load();
  answer = () => {
    throw { code: "registry_locked", message: "Busy.", hint: null, retryable: true };
  };
  await keys.load();
  expect(keys.error?.code).toBe("registry_locked");
  expect(keys.rows).toHaveLength(100);
  expect(app.registryProblem?.code).toBe("registry_locked");
});

it("shows no rows as the answer to a question that got none", async () => {
  await keys.load();
  answer = () => {
    throw { code: "registry_offline", message: "Away.", hint: null, retryable: true };
  };
  keys.filter = "revoked";
  await keys.load();
  expect(keys.error?.code).toBe("registry_offline");
  expect([keys.rows.length, keys.total]).toEqual([0, 0]);
});

it("asks again as far down as the view is, and blanks nothing meanwhile", async () => {
  await keys.load();
  keys.ensure(1150);
  await vi.waitFor(() => expect(keys.rows).toHaveLength(total));
  keys.ensure(900);
  requests = [];
  const well = answer;
  let fewest = total;
  answer = (request) => {
    fewest = Math.min(fewest, keys.rows.length);
    keys.ensure(901); // while the list is asked for: it waits
    return well(request);
  };
  await keys.refresh();
  expect(fewest).toBe(total);
  expect(requests.map(({ cursor, limit }) => [cursor, limit])).toEqual([
    [null, 500],
    ["500", 500],
  ]);
  expect(keys.rows).toHaveLength(1000);
  expect(new Set(keys.rows.map(({ id }) => id)).size).toBe(1000);
  // Scrolled further while the answer was on its way: that is fetched without being asked for again.
  answer = (request) => {
    if (request.cursor === null) keys.ensure(1250);
    return well(request);
  };
  await keys.refresh();
  await vi.waitFor(() => expect(keys.rows).toHaveLength(total));
});

it("begins another question at its top", async () => {
  await keys.load();
  keys.ensure(1299);
  await vi.waitFor(() => expect(keys.rows).toHaveLength(total));
  requests = [];
  keys.sort = "name_asc";
  await keys.load();
  expect(requests).toHaveLength(1);
  expect(keys.rows).toHaveLength(100);
});

it("asks again after an hour where nothing is to change before", async () => {
  vi.useFakeTimers();
  try {
    await keys.load();
    requests = [];
    await vi.advanceTimersByTimeAsync(59 * 60_000);
    expect(requests).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(2 * 60_000);
    expect(requests).toHaveLength(1);
    answer = () => {
      throw { code: "registry_offline", message: "Away.", hint: null, retryable: true };
    };
    await vi.advanceTimersByTimeAsync(60 * 60_000);
    await vi.advanceTimersByTimeAsync(60 * 60_000);
    expect(requests).toHaveLength(3); // and after an error too
  } finally {
    vi.useRealTimers();
  }
});

it("fetches what did not come once the list is asked for again", async () => {
  await keys.load();
  const well = answer;
  answer = () => {
    throw { code: "registry_offline", message: "Away.", hint: null, retryable: true };
  };
  keys.ensure(250);
  await vi.waitFor(() => expect(keys.error?.code).toBe("registry_offline"));
  expect(keys.rows).toHaveLength(100);
  answer = well;
  await keys.refresh();
  expect(keys.error).toBeNull();
  await vi.waitFor(() => expect(keys.rows).toHaveLength(600));
});

it("puts a changed record in its place", async () => {
  await keys.load();
  keys.patch({ ...key(3), state: "revoked" });
  expect(keys.rows[3]?.state).toBe("revoked");
  expect(keys.rows).toHaveLength(100);
});

const held = <T>() => {
  let release: (value: T) => void = () => undefined;
  const answer = new Promise<T>((done) => (release = done));
  return { answer, release: (value: T) => release(value) };
};

it("keeps what was changed over a page that was asked for before, and asks once more", async () => {
  const before = [key(1), key(2)];
  const page = (items: ApiKeyView[]) => ({
    items,
    nextCursor: null,
    total: 2,
    totalIsEstimate: false,
    staleSince: null,
  });
  answer = () => page(before);
  await keys.load();
  const gate = held<unknown>();
  answer = () => gate.answer;
  requests = [];
  const loading = keys.load();
  await vi.waitFor(() => expect(requests).toHaveLength(1));
  keys.patch({ ...key(2), state: "revoked" });
  const second = held<unknown>();
  answer = () => second.answer;
  gate.release(page(before));
  await vi.waitFor(() => expect(requests).toHaveLength(2));
  expect(keys.rows[1]?.state).toBe("revoked");
  second.release(page([key(1), { ...key(2), state: "revoked" }]));
  await loading;
  expect([requests.length, keys.rows[1]?.state]).toEqual([2, "revoked"]);
});

it("keeps what was changed over a further page too", async () => {
  const gate = held<unknown>();
  const well = answer;
  answer = () => gate.answer;
  requests = [];
  keys.ensure(150);
  await vi.waitFor(() => expect(requests).toHaveLength(1));
  keys.patch({ ...key(120), state: "revoked" });
  answer = well;
  gate.release(well({ text: "", state: "all", sort: "created_desc", cursor: "100", limit: 500 }));
  await vi.waitFor(() => expect(keys.rows).toHaveLength(600));
  expect(keys.rows[120]?.state).toBe("revoked");
});

it("does not count another registry's keys", async () => {
  const gates = [held<unknown>(), held<unknown>()];
  const counted = (live: number) => ({
    all: live,
    live,
    rotating: 0,
    expiring: 0,
    expired: 0,
    disabled: 0,
    revoked: 0,
  });
  let asked = 0;
  mockIPC((command, payload) => {
    if (command === "count_api_keys") return gates[asked++]?.answer;
    return answer((payload as { request: ApiKeyListRequest }).request);
  });
  keys.patch({ ...key(3), state: "revoked" });
  await vi.waitFor(() => expect(asked).toBe(1));
  const cleared = keys.clear();
  await vi.waitFor(() => expect(asked).toBe(2));
  gates[1]?.release(counted(7));
  await cleared;
  gates[0]?.release(counted(99));
  await new Promise((done) => setTimeout(done, 20));
  expect(keys.counts?.live).toBe(7);
});
