// What jsdom lacks and the interface uses, and what is put away after each test.
import "@testing-library/jest-dom/vitest";
import { clearMocks } from "@tauri-apps/api/mocks";
import { cleanup } from "@testing-library/svelte";
import { afterEach } from "vitest";
import { closeDialog, dialog } from "../../src/lib/dialogs.svelte";

// Nothing of a test is there in the next one.
afterEach(() => {
  cleanup();
  while (dialog.open) closeDialog();
  clearMocks();
});

globalThis.matchMedia ??= (query: string) =>
  ({
    matches: false,
    media: query,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
  }) as unknown as MediaQueryList;
globalThis.ResizeObserver ??= class {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
};
Element.prototype.scrollIntoView ??= () => undefined;
