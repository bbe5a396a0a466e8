// The shell is painted first; the list, which costs more than all the rest, follows.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen } from "@testing-library/svelte";
import { tick } from "svelte";
import { expect, it } from "vitest";
import { app } from "../../src/lib/app.svelte";
import KeysPage from "../../src/pages/keys/KeysPage.svelte";
import { keyView } from "./views";

it("the table comes when the shell is painted, or when its rows are there", async () => {
  let answer: (page: unknown) => void = () => undefined;
  mockIPC((command) => {
    if (command === "list_api_keys") return new Promise((done) => (answer = done));
    if (command === "count_api_keys")
      return { all: 1, live: 1, rotating: 0, expiring: 0, expired: 0, disabled: 0, revoked: 0 };
    return null;
  });
  render(KeysPage);
  expect(screen.getByTestId("issue-key")).toBeVisible();
  expect(screen.queryByRole("grid")).toBeNull();
  app.painted = true;
  await tick();
  expect(screen.getByRole("grid")).toHaveAttribute("aria-busy", "true");
  // A page that was painted never goes back.
  answer({ items: [keyView()], nextCursor: null, total: 1, totalIsEstimate: false, staleSince: null });
  app.painted = false;
  await tick();
  expect(await screen.findByRole("grid")).toBeVisible();
});
