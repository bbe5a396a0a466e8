// Answers come late: none closes or replaces a dialog that it is not about.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { dialog, openDialog, type DialogRequest } from "../../src/lib/dialogs.svelte";
import type { ApiKeyView, IssuedApiKeyView } from "../../src/lib/host";
import DialogHost from "../../src/shell/DialogHost.svelte";
import { keyView } from "./views";

const key = keyView();
const issued = (revealId: string): IssuedApiKeyView => ({
  key,
  revealId,
  revealExpiresAt: Date.now() + 600_000,
});
const reveal = (revealId: string): DialogRequest => ({
  kind: "reveal",
  issued: issued(revealId),
  cause: "rotated",
});
let calls: string[];
let answers: Record<string, () => unknown>;

beforeAll(async () => void (await import("../../src/shell/overlays")), 30_000);
beforeEach(() => {
  calls = [];
  answers = {};
  mockIPC((command, payload) => {
    calls.push(
      command === "discard_secret" ? `discard ${(payload as { revealId: string }).revealId}` : command,
    );
    return answers[command]?.() ?? null;
  });
});

it("leaves a secret on the screen when another comes, and shows that one afterwards", async () => {
  const user = userEvent.setup();
  render(DialogHost);
  openDialog(reveal("first"));
  await screen.findByTestId("reveal-dialog");
  openDialog(reveal("second"));
  openDialog({ kind: "shortcuts" });
  await user.click(screen.getByRole("checkbox"));
  expect(calls).not.toContain("discard first");
  await user.click(screen.getByTestId("close-reveal"));
  expect(calls).toContain("discard first");
  expect(dialog.request).toMatchObject({ kind: "reveal", issued: { revealId: "second" } });
  // The next one asks for itself.
  await user.click(await screen.findByTestId("close-reveal"));
  expect(screen.getByTestId("reveal-nudge")).toBeInTheDocument();
  expect(calls).not.toContain("discard second");
});

it("is not closed by the answer to a question that another dialog asked", async () => {
  const user = userEvent.setup();
  let revoked: (key: ApiKeyView) => void = () => undefined;
  answers.revoke_api_key = () => new Promise((done) => (revoked = done));
  render(DialogHost);
  openDialog({ kind: "revoke-key", key });
  await user.click(await screen.findByTestId("revoke-submit"));
  openDialog(reveal("new"));
  await screen.findByTestId("reveal-dialog");
  revoked({ ...key, state: "revoked", revokedAt: 1 });
  await waitFor(() => expect(calls).toContain("count_api_keys")); // the answer was taken
  expect(screen.getByTestId("reveal-dialog")).toBeInTheDocument();
  expect(calls).not.toContain("discard new");
});

it("is not left while its question is under way", async () => {
  const user = userEvent.setup();
  let refuse: (error: unknown) => void = () => undefined;
  answers.revoke_api_key = () => new Promise((_, failed) => (refuse = failed));
  render(DialogHost);
  openDialog({ kind: "revoke-key", key });
  await user.click(await screen.findByTestId("revoke-submit"));
  await user.keyboard("{Escape}");
  await user.click(screen.getByText("Keep key"));
  await user.click(screen.getByTestId("dialog-close"));
  expect(dialog.request?.kind).toBe("revoke-key");
  refuse({ code: "registry_offline", message: "Away.", hint: null, retryable: true });
  await screen.findByTestId("form-error");
  await user.keyboard("{Escape}");
  expect(dialog.open).toBe(false);
});

it("keeps a secret that was taken away before it was copied", async () => {
  const { unmount } = render(DialogHost);
  openDialog(reveal("kept"));
  await screen.findByTestId("reveal-dialog");
  unmount();
  expect(calls).not.toContain("discard kept");
});
