// What a person is to see or to use next is where they look: errors come into sight, and the focus is on what is to be filled in.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { openDialog } from "../../src/lib/dialogs.svelte";
import { PRESETS } from "../../src/mock/accounts";
import { SignInDraft } from "../../src/pages/accounts/sign-in.svelte";
import SignInForm from "../../src/pages/accounts/SignInForm.svelte";
import ActivityPage from "../../src/pages/activity/ActivityPage.svelte";
import RotateDialog from "../../src/pages/keys/RotateDialog.svelte";
import { keyView } from "./views";

const inSight = () => vi.spyOn(Element.prototype, "scrollIntoView");

it("what was refused is told in sight, each time", async () => {
  const shown = inSight();
  const refusal = { code: "keychain_unavailable", message: "No keychain.", hint: null, retryable: true };
  mockIPC((command) => {
    if (command === "rotate_api_key") throw { ...refusal };
    return null;
  });
  openDialog({ kind: "rotate-key", key: keyView() });
  render(RotateDialog, { apiKey: keyView() });
  await userEvent.click(screen.getByTestId("rotate-submit"));
  await waitFor(() => expect(shown).toHaveBeenCalledTimes(1));
  expect(shown.mock.contexts[0]).toBe(await screen.findByTestId("form-error"));
  await userEvent.click(screen.getByTestId("rotate-submit"));
  await waitFor(() => expect(shown).toHaveBeenCalledTimes(2));
});

it("a dialog begins at its first control, not at the cross that closes it", async () => {
  openDialog({ kind: "rotate-key", key: keyView() });
  render(RotateDialog, { apiKey: keyView() });
  await waitFor(() => expect(document.activeElement).toHaveAttribute("type", "radio"));
  expect(document.activeElement).toBeChecked();
});

it("what is unfolded comes into sight", async () => {
  const draft = new SignInDraft(undefined, "openid");
  render(SignInForm, { draft, presets: PRESETS, cancelled: false, onsubmit: () => undefined });
  const summary = screen.getByTestId("sign-in-advanced");
  const shown = inSight();
  const fold = summary.closest("details") as HTMLDetailsElement;
  fold.open = true;
  fold.dispatchEvent(new Event("toggle"));
  await waitFor(() => expect(shown.mock.contexts).toContain(fold));
});

it("one event is one event", async () => {
  mockIPC(() => ({
    items: [
      { sequence: 1, at: Date.now(), action: "registry.created", subject: null, actor: "a", summary: "" },
    ],
    nextCursor: null,
  }));
  render(ActivityPage);
  await waitFor(() => expect(screen.getByTestId("page-subtitle")).toHaveTextContent(/^1 event$/));
});
