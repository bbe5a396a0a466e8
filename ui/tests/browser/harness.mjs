// A few lines instead of a test framework: names, outcomes, and one line at the end.
const tests = [];

export const test = (name, run) => tests.push({ name, run });

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}
export function equal(actual, expected, what = "value") {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
  assert(a === e, `${what}: expected ${e}, got ${a}`);
}

/** Waits until `read` gives something true. */
export async function until(read, what, timeout = 5000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((done) => setTimeout(done, 40));
  }
}

export async function runAll(tools, only) {
  const count = { passed: 0, failed: 0, skipped: 0 };
  for (const { name, run } of tests) {
    if (only && !name.includes(only)) {
      count.skipped += 1;
      continue;
    }
    const pages = [];
    const open = async (options) => {
      const page = await tools.open(options);
      pages.push(page);
      return page;
    };
    try {
      await run(open, tools);
      const problems = pages.flatMap((page) => page.problems);
      assert(problems.length === 0, `the page complained: ${problems.join("; ")}`);
      count.passed += 1;
      console.log(`ok    ${name}`);
    } catch (error) {
      count.failed += 1;
      console.log(`FAIL  ${name}\n      ${String(error.message).split("\n").slice(0, 12).join("\n      ")}`);
    } finally {
      for (const page of pages) await page.context().close();
    }
  }
  return count;
}
