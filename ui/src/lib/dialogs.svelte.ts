// Which dialog is open, and where the focus goes when it closes. One at a time.
import type {
  AccountView,
  ApiKeyDetailView,
  ApiKeyView,
  ApplicationAccessView,
  IssuedApiKeyView,
  RotationStep,
  RotationView,
  SessionView,
} from "./host";

/** What the person wants to end at a Keywright server. */
export type AccessToEnd =
  | { kind: "session"; session: SessionView }
  | { kind: "others"; sessions: number }
  | { kind: "application"; application: ApplicationAccessView };

export type DialogRequest =
  | { kind: "issue-key" }
  | { kind: "reveal"; issued: IssuedApiKeyView; cause: "issued" | "rotated" }
  | { kind: "rotate-key"; key: ApiKeyView; detail?: ApiKeyDetailView }
  | { kind: "revoke-key"; key: ApiKeyView; detail?: ApiKeyDetailView }
  | { kind: "suspend-key"; key: ApiKeyView }
  | { kind: "step-rotation"; key: ApiKeyView; rotation: RotationView; step: RotationStep }
  | { kind: "verify-key" }
  | { kind: "promote-keys" }
  | { kind: "sign-in"; account?: AccountView; provider?: string; issuer?: string }
  | { kind: "sign-out"; account: AccountView }
  | { kind: "end-access"; account: AccountView; what: AccessToEnd }
  | { kind: "vault"; mode: "create" | "unlock" }
  | { kind: "new-pepper" }
  | { kind: "palette" }
  | { kind: "shortcuts" };

let request = $state<DialogRequest | null>(null);
let opener: HTMLElement | null = null;

export const dialog = {
  get request(): DialogRequest | null {
    return request;
  },
  get open(): boolean {
    return request !== null;
  },
};

/** Opens a dialog, or puts it in the place of the one that is open. */
export function openDialog(next: DialogRequest, from?: HTMLElement | null): void {
  if (request === null) {
    const active = document.activeElement;
    opener = from ?? (active instanceof HTMLElement && active !== document.body ? active : null);
  }
  request = next;
}

/** Closes, and gives the focus back to what opened it, or to the page's heading. */
export function closeDialog(): void {
  request = null;
  const target = opener;
  opener = null;
  requestAnimationFrame(() => {
    if (request !== null) return;
    const back = target?.isConnected ? target : document.querySelector<HTMLElement>("[data-page-heading]");
    back?.focus({ preventScroll: true });
  });
}
