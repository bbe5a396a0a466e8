// A lost pepper: the banner stays until it is read again, and the way on says how many keys end.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";
import { app } from "../../src/lib/app.svelte";
import { closeDialog, dialog } from "../../src/lib/dialogs.svelte";
import type { ErrorView, KeychainView, LostPepperView } from "../../src/lib/host";
import { PEPPER_MISSING } from "../../src/mock/world";
import Banners from "../../src/shell/Banners.svelte";
import NewPepperDialog from "../../src/shell/NewPepperDialog.svelte";
import VaultDialog from "../../src/shell/VaultDialog.svelte";

const keychain = (problem: ErrorView | null): KeychainView => ({
  storeName: "Secret Service",
  vault: "absent",
  healthy: problem === null,
  problem,
  tookMs: 1,
});

let problem: ErrorView | null;
let lost: LostPepperView;
let refusal: ErrorView | null;
let asked: [string, unknown][];

beforeEach(() => {
  closeDialog();
  [problem, lost, refusal, asked] = [PEPPER_MISSING, { lost: true, keys: 12 }, null, []];
  app.keychainProblem = null;
  mockIPC((command, payload) => {
    asked.push([command, (payload as { request?: unknown } | undefined)?.request]);
    if (command === "check_keychain") return keychain(problem);
    if (command === "lost_pepper") return lost;
    if (command === "start_with_new_pepper" || command === "create_vault") {
      if (refusal) throw refusal;
      problem = null;
      return keychain(null);
    }
    return null;
  });
});

const asks = (command: string): unknown[] =>
  asked.filter(([name]) => name === command).map(([, request]) => request);

it("the banner stays while the pepper is away, and leads to the way on", async () => {
  render(Banners);
  await app.checkKeychain();
  const banner = await screen.findByTestId("keychain-banner");
  expect(banner).toHaveAttribute("data-error-code", "pepper_missing");
  await userEvent.click(screen.getByTestId("keychain-retry"));
  await waitFor(() => expect(asks("check_keychain")).toHaveLength(2));
  expect(screen.getByTestId("keychain-banner")).toBeVisible();
  await userEvent.click(screen.getByTestId("new-pepper"));
  expect(dialog.request?.kind).toBe("new-pepper");
});

it("says how many keys end, and ends them only after a yes to that", async () => {
  app.keychainProblem = problem;
  render(NewPepperDialog);
  await waitFor(() =>
    expect(screen.getByTestId("pepper-keys")).toHaveTextContent("12 keys of this device end"),
  );
  expect(screen.getByTestId("pepper-submit")).toBeDisabled();
  await userEvent.click(screen.getByTestId("pepper-understood"));
  // More keys end by now than were named: it is asked anew.
  refusal = { code: "changed_meanwhile", message: "It was changed.", hint: null, retryable: false };
  lost = { lost: true, keys: 13 };
  await userEvent.click(screen.getByTestId("pepper-submit"));
  await waitFor(() => expect(screen.getByTestId("pepper-keys")).toHaveTextContent("13 keys"));
  expect(screen.getByTestId("pepper-submit")).toBeDisabled();
  refusal = null;
  await userEvent.click(screen.getByTestId("pepper-understood"));
  await userEvent.click(screen.getByTestId("pepper-submit"));
  await waitFor(() => expect(app.keychainProblem).toBeNull());
  expect(asks("start_with_new_pepper")).toEqual([{ keys: 12 }, { keys: 13 }]);
});

it("offers nothing where the pepper is there again", async () => {
  lost = { lost: false, keys: 0 };
  render(NewPepperDialog);
  expect(await screen.findByTestId("pepper-there")).toBeVisible();
  expect(screen.getByTestId("pepper-submit")).toBeDisabled();
});

it("an encrypted file in place of a keychain with the pepper asks for the same yes", async () => {
  render(VaultDialog, { mode: "create" });
  expect(await screen.findByTestId("vault-keys")).toHaveTextContent("12 keys of this device end");
  await userEvent.type(screen.getByTestId("vault-passphrase"), "correct horse battery");
  await userEvent.type(screen.getByTestId("vault-passphrase-again"), "correct horse battery");
  expect(screen.getByTestId("vault-submit")).toBeDisabled();
  await userEvent.type(screen.getByTestId("vault-passphrase-again"), "{Enter}");
  expect(asks("create_vault")).toEqual([]);
  await userEvent.click(screen.getByTestId("vault-understood"));
  await userEvent.click(screen.getByTestId("vault-submit"));
  await waitFor(() => expect(asks("create_vault")).toHaveLength(1));
  expect(asks("create_vault")).toEqual([{ passphrase: "correct horse battery", keys: 12 }]);
});
