// The trail's model: what fails is said, and asked for again from where it failed.
import { mockIPC } from "@tauri-apps/api/mocks";
import { beforeEach, expect, it } from "vitest";
import { activity } from "../../src/lib/activity.svelte";
import type { AuditListRequest } from "../../src/lib/host";

let requests: AuditListRequest[];
let away: boolean;

beforeEach(() => {
  requests = [];
  away = false;
  mockIPC((_, payload) => {
    const { request } = payload as { request: AuditListRequest };
    requests.push(request);
    if (away) throw { code: "registry_offline", message: "Away.", hint: null, retryable: true };
    const start = Number(request.cursor ?? 0);
    const items = Array.from({ length: 200 }, (_, index) => ({ sequence: 1000 - start - index, at: 0 }));
    return { items, nextCursor: start < 400 ? String(start + 200) : null };
  });
  Object.assign(activity, { text: "", subject: "all", error: null });
});

it("keeps the rows when a later part fails, and goes on from there", async () => {
  await activity.load();
  away = true;
  await activity.more();
  expect(activity.error?.code).toBe("registry_offline");
  expect(activity.rows).toHaveLength(200);
  away = false;
  await activity.again();
  expect(activity.error).toBeNull();
  expect(requests.map(({ cursor }) => cursor)).toEqual([null, "200", "200"]);
  expect(activity.rows).toHaveLength(400);
});

it("shows no rows as the answer to a question that got none", async () => {
  await activity.load();
  away = true;
  activity.text = "revoked";
  await activity.load();
  expect(activity.rows).toHaveLength(0);
  away = false;
  await activity.again();
  expect(requests.at(-1)).toMatchObject({ text: "revoked", cursor: null });
  expect(activity.rows).toHaveLength(200);
});
