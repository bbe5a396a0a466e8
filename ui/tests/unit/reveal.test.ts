// The show-once dialog: nothing is fetched before it is asked for, everything is forgotten after.
import { mockIPC } from "@tauri-apps/api/mocks";
import { createEvent, fireEvent, render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it, vi } from "vitest";
import { clipboard } from "../../src/lib/clipboard.svelte";
import { dialog, openDialog } from "../../src/lib/dialogs.svelte";
import type { IssuedApiKeyView } from "../../src/lib/host";
import RevealDialog from "../../src/pages/keys/RevealDialog.svelte";
import { keyView } from "./views";

const SECRET = "sk_live_abcdefghijklKYWRT1SECRETSECRETSECRETSECRETSECRETcrc123";
const issued: IssuedApiKeyView = {
  key: keyView({ name: "<b>Bold</b>", createdAt: Date.now() }),
  revealId: "reveal-1",
  revealExpiresAt: Date.now() + 600_000,
};
let calls: string[];
let clipboardFails: boolean;

beforeEach(() => {
  calls = [];
  clipboardFails = false;
  mockIPC((command, payload) => {
    const { snippet } = (payload ?? {}) as { snippet?: string };
    calls.push(snippet ? `${command} ${snippet}` : command);
    if (command === "reveal_secret") return { secret: SECRET };
    if (command === "copy_secret" && clipboardFails)
      throw { code: "clipboard_unavailable", message: "No clipboard.", hint: null, retryable: true };
    if (command === "copy_secret") return { clearsAt: Date.now() + 30_000 };
    return null;
  });
  openDialog({ kind: "reveal", issued, cause: "issued" });
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

it("copies by the app's hand, whatever way a copy is asked for", async () => {
  const user = userEvent.setup();
  render(RevealDialog, { issued, cause: "issued" });
  const copy = (target: Element) => {
    const event = createEvent.copy(target);
    void fireEvent(target, event);
    return event.defaultPrevented;
  };
  expect(copy(document.body)).toBe(false);
  await user.click(screen.getByTestId("reveal-secret"));
  const text = await screen.findByTestId("secret-text");
  expect(text).toHaveClass("select-none");
  expect(copy(text)).toBe(true);
  await fireEvent.keyDown(document.body, { key: "c", ctrlKey: true });
  expect(calls.filter((call) => call.startsWith("copy"))).toEqual(["copy_secret key", "copy_secret key"]);
  // What is typed into a target is the person's own text.
  await user.click(screen.getByTestId("deliver-to"));
  expect(copy(screen.getByTestId("deliver-path"))).toBe(false);
});

it("lets the key be copied by hand where the app cannot, and says that it stays", async () => {
  const user = userEvent.setup();
  clipboardFails = true;
  render(RevealDialog, { issued, cause: "issued" });
  await user.click(screen.getByTestId("reveal-secret"));
  await user.click(screen.getByTestId("copy-secret"));
  await screen.findByText(/stays on the clipboard/);
  const text = screen.getByTestId("secret-text");
  expect(text).toHaveClass("selectable");
  const event = createEvent.copy(text);
  void fireEvent(text, event);
  expect(event.defaultPrevented).toBe(false);
});

it("says that the clipboard was cleared when the app says so, not when the time is over", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
  render(RevealDialog, { issued, cause: "issued" });
  await user.click(screen.getByTestId("copy-secret"));
  await screen.findByTestId("clipboard-countdown");
  await vi.advanceTimersByTimeAsync(32_000);
  expect(screen.getByTestId("clipboard-after")).toHaveTextContent("if it is still there");
  clipboard.cleared();
  await vi.advanceTimersByTimeAsync(10);
  expect(screen.getByTestId("clipboard-after")).toHaveTextContent("was cleared");
  vi.useRealTimers();
});

it("takes the secret off the screen when the app has forgotten it", async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true });
  try {
    const user = userEvent.setup({ advanceTimers: (ms) => void vi.advanceTimersByTime(ms) });
    const soon = { ...issued, revealExpiresAt: Date.now() + 600_000 };
    render(RevealDialog, { issued: soon, cause: "issued" });
    await user.click(screen.getByTestId("reveal-secret"));
    expect(await screen.findByTestId("secret-text")).toHaveTextContent(SECRET);
    await vi.advanceTimersByTimeAsync(602_000);
    expect(screen.queryByTestId("secret-text")).toBeNull();
    expect(document.body.innerHTML).not.toContain(SECRET);
    expect(screen.getByTestId("secret-gone")).toBeInTheDocument();
    expect(screen.getByTestId("copy-secret")).toBeDisabled();
    expect(screen.queryByTestId("reveal-secret")).toBeNull();
  } finally {
    vi.useRealTimers();
  }
});
