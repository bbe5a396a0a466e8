// Lints of the interface. The wall: only host.ts speaks to Tauri.
import js from "@eslint/js";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

const hostOnly = {
  patterns: [
    {
      group: ["@tauri-apps/*"],
      message: "Only src/lib/host.ts talks to Tauri; import from there.",
    },
    {
      group: ["**/bindings", "**/bindings.ts"],
      message: "Import commands, events and types from src/lib/host.ts.",
    },
  ],
};

export default ts.config(
  { ignores: ["dist/", "dist-mock/", "node_modules/", "src/lib/bindings.ts", "src/lib/bindings.test-d.ts"] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser } },
    rules: {
      "no-restricted-imports": ["error", hostOnly],
      "no-restricted-globals": ["error", "localStorage", "sessionStorage", "indexedDB"],
      "no-eval": "error",
      "no-console": "error",
      eqeqeq: "error",
      "svelte/no-at-html-tags": "error",
      "svelte/no-navigation-without-resolve": "off", // hash links; there is no SvelteKit here
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
    },
  },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: {
      parserOptions: { parser: ts.parser, extraFileExtensions: [".svelte"], svelteConfig },
    },
  },
  {
    // The boundary itself, and the mock of it that plain browsers use.
    files: ["src/lib/host.ts", "src/mock/**/*.ts", "tests/unit/**/*.ts"],
    rules: { "no-restricted-imports": "off" },
  },
  {
    files: ["scripts/**/*.mjs", "tests/**/*.mjs", "*.config.{js,ts}"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
    rules: { "no-console": "off", "no-restricted-globals": "off" },
  },
);
