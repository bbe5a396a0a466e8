// The show-once dialog: nothing is fetched before it is asked for, everything is forgotten after.
import { clearMocks, mockIPC } from "@tauri-apps/api/mocks";
import { cleanup, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it } from "vitest";
import { closeDialog, dialog, openDialog } from "../../src/lib/dialogs.svelte";
import type { IssuedApiKeyView } from "../../src/lib/host";
import RevealDialog from "../../src/pages/keys/RevealDialog.svelte";

const SECRET = "sk_live_abcdefghijklKYWRT1SECRETSECRETSECRETSECRETSECRETcrc123";
const issued: IssuedApiKeyView = {
  key: {
    id: "key_1",
    name: "<b>Bold</b>",
    prefix: "sk_live",
    scopes: ["a:b"],
    state: "active",
    kid: "abcdefghijkl",
    lastFour: "c123",
    createdAt: Date.now(),
    expiresAt: null,
    oldSecretWorksUntil: null,
    lastUsedAt: null,
    revokedAt: null,
    revokedReason: null,
    revocationQueuedAt: null,
    movedTo: null,
    mayChange: true,
  },
  revealId: "reveal-1",
  revealExpiresAt: Date.now() + 600_000,
};
let calls: string[];

beforeEach(() => {
  calls = [];
  mockIPC((command, payload) => {
    const { snippet } = (payload ?? {}) as { snippet?: string };
    calls.push(snippet ? `${command} ${snippet}` : command);
    if (command === "reveal_secret") return { secret: SECRET };
    if (command === "copy_secret") return { clearsAt: Date.now() + 30_000 };
    return null;
  });
  openDialog({ kind: "reveal", issued, cause: "issued" });
});
afterEach(() => {
  cleanup();
  while (dialog.open) closeDialog();
  clearMocks();
});

it("asks for the secret only when Reveal is pressed, and discards it on close", async () => {
  const user = userEvent.setup();
  const { unmount } = render(RevealDialog, { issued, cause: "issued" });
  expect(document.body.innerHTML).not.toContain(SECRET);
  expect(calls).toEqual([]);
  await user.click(screen.getByTestId("reveal-secret"));
  expect(await screen.findByTestId("secret-text")).toHaveTextContent(SECRET);
  expect(screen.getByText("<b>Bold</b>")).toBeInTheDocument();
  await user.click(screen.getByRole("checkbox"));
  unmount();
  expect(calls).toEqual(["reveal_secret", "discard_secret"]);
});

it("closes only after a copy or a confirmation", async () => {
  const user = userEvent.setup();
  render(RevealDialog, { issued, cause: "issued" });
  await user.click(screen.getByTestId("close-reveal"));
  expect(dialog.open).toBe(true);
  expect(screen.getByTestId("reveal-nudge")).toBeInTheDocument();
  await user.click(screen.getByTestId("copy-shell_export"));
  expect(calls).toEqual(["copy_secret shell_export"]);
  expect(await screen.findByTestId("clipboard-countdown")).toHaveTextContent("30");
  await user.click(screen.getByTestId("close-reveal"));
  expect(dialog.open).toBe(false);
});
