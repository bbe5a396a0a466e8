// How the interface is built: `vite build` for the app, `--mode mock` for a plain browser.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { svelteTesting } from "@testing-library/svelte/vite";
import { defineConfig } from "vitest/config";

export default defineConfig(({ mode }) => ({
  plugins: [tailwindcss(), svelte(), ...(mode === "test" ? [svelteTesting()] : [])],
  base: "./",
  clearScreen: false,
  build: {
    // The mock build never lands in the folder that Tauri embeds.
    outDir: mode === "mock" ? "dist-mock" : "dist",
    target: "safari16.4",
    modulePreload: { polyfill: false },
    // The policy of the app forbids inline scripts; small fonts stay files.
    assetsInlineLimit: 0,
    reportCompressedSize: true,
    sourcemap: false,
    // The first frame waits for few files: one style sheet, the first page, and what it shares with the later ones.
    cssCodeSplit: false,
    rolldownOptions: {
      output: { codeSplitting: { groups: [{ name: "shared", minShareCount: 2 }] } },
    },
  },
  test: {
    environment: "jsdom",
    include: ["tests/unit/**/*.test.ts"],
    setupFiles: ["tests/unit/setup.ts"],
    restoreMocks: true,
  },
}));
