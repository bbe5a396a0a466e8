// Verifying a key is using it: what that would end is asked about first.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";
import type { VerificationView, VerifyApiKeyRequest } from "../../src/lib/host";
import VerifyDialog from "../../src/pages/keys/VerifyDialog.svelte";

const valid: VerificationView = {
  accepted: true,
  code: "valid",
  message: "fine",
  hint: null,
  checks: [],
  key: null,
  kid: null,
  retiresAt: null,
  tookUs: 1,
};
let requests: VerifyApiKeyRequest[];

beforeEach(() => {
  requests = [];
  mockIPC((_, payload) => {
    const { request } = payload as { request: VerifyApiKeyRequest };
    requests.push(request);
    if (!request.knowing)
      throw { code: "verification_ends_key", message: "For one use.", hint: null, retryable: false };
    return valid;
  });
});

it("asks before a key for one use is ended by the check", async () => {
  const user = userEvent.setup();
  render(VerifyDialog);
  expect(screen.getByText(/counts as a use/)).toBeInTheDocument();
  await user.type(screen.getByTestId("verify-input"), "sk_live_x");
  await user.click(screen.getByTestId("verify-submit"));
  expect(await screen.findByTestId("verify-asks")).toHaveTextContent("For one use.");
  expect(screen.queryByTestId("form-error")).toBeNull();
  // Another key is another question.
  await user.type(screen.getByTestId("verify-input"), "y");
  expect(screen.queryByTestId("verify-asks")).toBeNull();
  await user.click(screen.getByTestId("verify-submit"));
  await user.click(await screen.findByText("Verify and end the key"));
  await screen.findByTestId("verify-result");
  expect(requests.map(({ presented, knowing }) => [presented, knowing])).toEqual([
    ["sk_live_x", false],
    ["sk_live_xy", false],
    ["sk_live_xy", true],
  ]);
});
