// Everything that lies over a page, in one chunk that is fetched once the shell is idle.
export { default as IssueDialog } from "../pages/keys/IssueDialog.svelte";
export { default as PromoteDialog } from "../pages/keys/PromoteDialog.svelte";
export { default as KeyMenu } from "../pages/keys/KeyMenu.svelte";
export { default as RevealDialog } from "../pages/keys/RevealDialog.svelte";
export { default as RevokeDialog } from "../pages/keys/RevokeDialog.svelte";
export { default as RotateDialog } from "../pages/keys/RotateDialog.svelte";
export { default as StepRotationDialog } from "../pages/keys/StepRotationDialog.svelte";
export { default as SuspendDialog } from "../pages/keys/SuspendDialog.svelte";
export { default as VerifyDialog } from "../pages/keys/VerifyDialog.svelte";
export { default as SignInDialog } from "../pages/accounts/SignInDialog.svelte";
export { default as SignOutDialog } from "../pages/accounts/SignOutDialog.svelte";
export { default as EndAccessDialog } from "../pages/sessions/EndAccessDialog.svelte";
export { default as CloseDialog } from "./CloseDialog.svelte";
export { default as VaultDialog } from "./VaultDialog.svelte";
export { default as Palette } from "./Palette.svelte";
export { default as ShortcutsDialog } from "./ShortcutsDialog.svelte";
