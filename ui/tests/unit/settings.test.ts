// Settings are sent whole: two changes in quick succession both stay, also where the first is refused.
import { mockIPC } from "@tauri-apps/api/mocks";
import { expect, it } from "vitest";
import { app, type KnownSettings } from "../../src/lib/app.svelte";

it("two quick saves both stay", async () => {
  let kept = { ...app.settings };
  let under = 0;
  mockIPC(async (command, payload) => {
    if (command !== "update_settings") return null;
    expect(++under).toBe(1);
    await new Promise((done) => setTimeout(done, 10));
    under -= 1;
    const { settings } = payload as { settings: KnownSettings };
    if (settings.signInTimeoutS > 600)
      throw Object.assign(new Error(), {
        code: "invalid_setting",
        message: "A sign-in waits 30 to 600 seconds.",
      });
    kept = settings;
    return kept;
  });
  await Promise.all([app.saveSettings({ theme: "dark" }), app.saveSettings({ clipboardClearS: 60 })]);
  expect([kept.theme, kept.clipboardClearS]).toEqual(["dark", 60]);
  const refused = app.saveSettings({ signInTimeoutS: 601 });
  const next = app.saveSettings({ defaultKeyLifetimeDays: 30 });
  await expect(refused).rejects.toMatchObject({ code: "invalid_setting" });
  await next;
  expect([kept.theme, kept.signInTimeoutS, kept.defaultKeyLifetimeDays]).toEqual(["dark", 300, 30]);
});
