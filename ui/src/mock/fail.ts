import type { ErrorView } from "../lib/host";

/** Throws what the host throws: an ErrorView, not an Error. */
export function fail(code: string, message: string, hint: string | null = null, retryable = false): never {
  const error: ErrorView = { code, message, hint, retryable };
  throw error as unknown as Error;
}
