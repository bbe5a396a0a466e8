// What the host throws, made into one shape; nothing else may be shown as an error.
import type { ErrorView } from "./host";

const KEYCHAIN_CODES = new Set([
  "keychain_locked",
  "keychain_denied",
  "keychain_unavailable",
  "keychain_ambiguous",
  "keychain_failed",
  "vault_locked",
  "vault_corrupt",
  "pepper_missing",
]);

const REGISTRY_CODES = new Set([
  "registry_read_only",
  "registry_locked",
  "registry_damaged",
  "schema_too_new",
  "registry_unavailable",
  "registry_unsafe_path",
]);

function isErrorView(value: unknown): value is ErrorView {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as ErrorView).code === "string" &&
    typeof (value as ErrorView).message === "string"
  );
}

/** Whatever was thrown, as an {@link ErrorView}. */
export function toErrorView(thrown: unknown): ErrorView {
  if (isErrorView(thrown))
    return { ...thrown, hint: thrown.hint ?? null, retryable: thrown.retryable ?? false };
  return {
    code: "internal",
    message: "Something unexpected went wrong in the app.",
    hint: "Try again. If it keeps happening, the log file named in Settings says more.",
    retryable: true,
  };
}

/** The keychain, or the secret kept in it, is the cause. */
export function isKeychainProblem(error: ErrorView | null | undefined): boolean {
  return error !== null && error !== undefined && KEYCHAIN_CODES.has(error.code);
}

/** The registry file is the cause. */
export function isRegistryProblem(error: ErrorView | null | undefined): boolean {
  return error !== null && error !== undefined && REGISTRY_CODES.has(error.code);
}
