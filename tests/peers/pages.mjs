// The server's pages in Chromium, as people use them: without JavaScript, in light and dark, by
// keyboard, under axe. Argument: JSON {scenario, issuer, person, shots?, …}. Standard output: one line
// of JSON.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { examine as underAxe, launch, tooWide } from './browser.mjs';

const input = JSON.parse(process.argv[2]);
const at = (path) => `${input.issuer}${path}`;
const browser = await launch(input.pin);
const examine = (name, page, found) => underAxe(name, page, found, input.shots);

async function signIn(page, where = '/account') {
  await page.goto(at(where));
  if (!(await page.locator('input[type=password]').count())) return;
  await page.locator('input[name=email]').fill(input.person.email);
  await page.locator('input[type=password]').fill(input.person.password);
  await page.locator('form:has(input[type=password]) button[type=submit]').click();
  await page.waitForLoadState();
}

const authorize = () => at(`/oauth2/authorize?${new URLSearchParams({
  client_id: input.client, redirect_uri: input.redirect ?? `${input.client_origin ?? 'http://127.0.0.1:9999'}/callback`, response_type: 'code',
  scope: 'openid profile email', state: 's', nonce: 'n', code_challenge_method: 'S256',
  code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
})}`);

const scenarios = {
  // Everything a person needs, without any script.
  async without_scripts() {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    const outside = [];
    page.on('request', (request) => {
      if (!request.url().startsWith(input.issuer) && !request.url().startsWith('data:')) outside.push(request.url());
    });
    await page.route('http://127.0.0.1:9999/**', (route) => route.fulfill({ body: 'the client' }));
    await page.goto(authorize());
    await page.locator('input[name=email]').fill(input.person.email);
    await page.locator('input[type=password]').fill(input.person.password);
    await page.locator('form:has(input[type=password]) button[type=submit]').click();
    await page.getByRole('button', { name: /^allow/i }).click();
    await page.waitForURL(/127\.0\.0\.1:9999\/callback/);
    const back = new URL(page.url());
    assert.equal(back.searchParams.get('state'), 's');
    assert.equal(back.searchParams.get('iss'), input.issuer);
    assert.ok(back.searchParams.get('code'));
    const cookies = await context.cookies(input.issuer);
    await page.goto(at('/account'));
    assert.ok(await page.getByRole('heading', { level: 1 }).count() === 1);
    return {
      cookies: cookies.map(({ name, httpOnly, secure, sameSite, path }) => ({ name, httpOnly, secure, sameSite, path })),
      outside: outside.filter((url) => !url.startsWith('http://127.0.0.1:9999/')),
    };
  },

  async axe() {
    const context = await browser.newContext({ bypassCSP: true, viewport: { width: 1100, height: 800 } });
    const page = await context.newPage();
    const found = [];
    await page.goto(authorize());
    await examine('sign-in', page, found);
    await page.goto(at('/oauth2/authorize?client_id=nobody'));
    await examine('unknown-client', page, found);
    await page.goto(authorize());
    await signIn(page, authorize().slice(input.issuer.length));
    await examine('consent', page, found);
    for (const path of ['/device', '/account', '/account/applications', '/account/api-keys', '/account/history', '/account/sign-in',
      '/oauth2/end_session', '/api/docs', '/nowhere']) {
      await page.goto(at(path));
      await examine(path.slice(1).replaceAll('/', '-'), page, found);
    }
    const narrow = await browser.newContext({ bypassCSP: true, viewport: { width: 360, height: 700 } });
    const small = await narrow.newPage();
    await signIn(small);
    for (const path of ['/account', '/account/sign-in', '/account/history', '/device']) {
      await small.goto(at(path));
      const wide = await tooWide(small);
      if (wide > 0) found.push(`${path} is ${wide} px wider than a telephone`);
      await examine(`narrow-${path.slice(1).replaceAll('/', '-')}`, small, found);
    }
    return { found };
  },

  // By keyboard alone: skip link first, then the fields in their order, Enter signs in.
  async keyboard() {
    const page = await (await browser.newContext()).newPage();
    await page.goto(at('/sign-in'));
    // The page may have put the cursor into the first field already.
    await page.evaluate(() => {
      document.body.tabIndex = -1;
      document.body.focus();
    });
    await page.keyboard.press('Tab');
    const first = await page.evaluate(() => document.activeElement.textContent);
    await page.locator('input[name=email]').focus();
    await page.keyboard.type(input.person.email);
    await page.keyboard.press('Tab');
    await page.keyboard.type(input.person.password);
    await page.keyboard.press('Enter');
    await page.waitForURL((url) => !url.pathname.includes('sign-in'));
    return { first, path: new URL(page.url()).pathname };
  },

  // Over https: cookies that only https and this host can set, and pages that are asked for by https only.
  async https() {
    const context = await browser.newContext();
    const page = await context.newPage();
    const response = await page.goto(at('/sign-in'));
    const strict = response.headers()['strict-transport-security'] ?? null;
    await signIn(page);
    const cookies = await context.cookies(input.issuer);
    // Prefixed cookies are what the server goes by: what another page of this host could set is not.
    await context.addCookies([{ name: 'session', value: 'planted', url: input.issuer }]);
    await page.goto(at('/account'));
    const account = await page.getByRole('heading', { level: 1 }).count();
    const session = await page.evaluate(async () => (await fetch('/auth/session')).status);
    const csrf = await page.evaluate(async () => (await (await fetch('/auth/csrfToken')).json()).csrfToken);
    const out = await page.evaluate(async (token) => (await fetch('/auth/signOut', {
      method: 'POST', headers: { 'x-csrf-token': token },
    })).status, csrf);
    const after = await page.evaluate(async () => (await fetch('/auth/session')).status);
    return {
      strict, account, session, out, after,
      cookies: cookies.map(({ name, httpOnly, secure, sameSite, path, domain }) => ({ name, httpOnly, secure, sameSite, path, domain })),
      left: (await context.cookies(input.issuer)).map((one) => one.name),
    };
  },

  // An answer by form: a button without scripts, and by itself with them.
  async form_post() {
    const posts = [];
    for (const javaScriptEnabled of [false, true]) {
      const context = await browser.newContext({ javaScriptEnabled });
      const page = await context.newPage();
      const blocked = [];
      page.on('console', (message) => { if (message.type() === 'error') blocked.push(message.text()); });
      await page.route('http://127.0.0.1:9999/**', (route) => route.fulfill({ body: 'the client' }));
      const sent = page.waitForRequest((request) => request.url().startsWith('http://127.0.0.1:9999/'));
      await signIn(page, `${authorize().slice(input.issuer.length)}&response_mode=form_post&prompt=consent`);
      await page.getByRole('button', { name: /^allow/i }).click();
      if (!javaScriptEnabled) await page.getByRole('button', { name: 'Continue' }).click();
      const request = await sent;
      const fields = new URLSearchParams(request.postData() ?? '');
      posts.push({
        method: request.method(), url: request.url(), code: fields.has('code'), state: fields.get('state'),
        iss: fields.get('iss'), referrer: request.headers().referer ?? null, blocked,
      });
      await context.close();
    }
    return { posts };
  },

  // A client whose callback leads on to another origin, as many do: after a sign-in, a yes, a no, an
  // answer by form and a sign-out. Browsers hold `form-action` against every redirect that follows a form.
  async callback_leads_on() {
    const elsewhere = createServer((_request, response) => response.end('landed'));
    await new Promise((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const landing = `http://localhost:${elsewhere.address().port}/landed`;
    const asked = [];
    const client = createServer((request, response) => {
      const url = new URL(request.url, input.client_origin);
      if (!['/callback', '/bye'].includes(url.pathname)) return response.writeHead(404).end();
      let body = '';
      request.on('data', (part) => { body += part; });
      request.on('end', () => {
        const fields = request.method === 'POST' ? new URLSearchParams(body) : url.searchParams;
        asked.push({
          method: request.method, path: url.pathname, code: fields.has('code'), error: fields.get('error'),
          state: fields.get('state'), iss: fields.get('iss'), referrer: request.headers.referer ?? null,
        });
        response.writeHead(302, { location: landing }).end();
      });
    });
    await new Promise((resolve) => client.listen(new URL(input.client_origin).port, '127.0.0.1', resolve));
    const found = {};
    for (const javaScriptEnabled of [false, true]) {
      const context = await browser.newContext({ javaScriptEnabled });
      const page = await context.newPage();
      const stuck = [];
      let goOn = 0;
      page.on('console', (message) => { if (/Content Security Policy/.test(message.text())) stuck.push(message.text()); });
      // By its head: the text of a page that goes on at once may be gone before anybody reads it.
      page.on('response', (response) => {
        if (response.url().startsWith(input.issuer) && response.headers().refresh) goOn += 1;
      });
      const steps = [];
      const step = async (name, act) => {
        asked.length = 0;
        await act();
        await page.waitForURL(landing, { timeout: 8000 }).catch(() => {});
        steps.push({ name, landed: page.url() === landing, asked: [...asked] });
      };
      const fill = async () => {
        await page.locator('input[name=email]').fill(input.person.email);
        await page.locator('input[type=password]').fill(input.person.password);
        await page.locator('form:has(input[type=password]) button[type=submit]').click();
      };
      const ask = (more = '') => page.goto(`${authorize()}${more}`);
      await ask('&prompt=consent');
      await fill();
      await step('no', () => page.getByRole('button', { name: /^deny/i }).click());
      await ask('&prompt=consent');
      await step('yes', () => page.getByRole('button', { name: /^allow/i }).click());
      // Allowed already: the sign-in's form alone leads to the client.
      await ask('&prompt=login');
      await step('sign-in', fill);
      await ask('&prompt=consent&response_mode=form_post');
      await step('by form', async () => {
        await page.getByRole('button', { name: /^allow/i }).click();
        if (!javaScriptEnabled) await page.getByRole('button', { name: 'Continue' }).click();
      });
      // No form before it: a redirect as ever.
      await step('silent', () => ask('&prompt=none').catch(() => {}));
      await page.goto(at(`/oauth2/end_session?${new URLSearchParams({
        client_id: input.client, post_logout_redirect_uri: `${input.client_origin}/bye`, state: 's',
      })}`));
      await step('sign-out', () => page.getByRole('button', { name: 'Sign out' }).click());
      found[javaScriptEnabled ? 'with' : 'without'] = { steps, stuck, goOn };
      await context.close();
    }
    client.close();
    elsewhere.close();
    return found;
  },

  // Another site tries to show our pages in a frame.
  async framing() {
    const attacker = createServer((_request, response) => {
      response.setHeader('content-type', 'text/html');
      response.end(`<iframe src="${authorize().replaceAll('&', '&amp;')}"></iframe>`);
    });
    await new Promise((resolve) => attacker.listen(0, '127.0.0.1', resolve));
    const page = await (await browser.newContext()).newPage();
    await page.goto(`http://127.0.0.1:${attacker.address().port}/`);
    await page.waitForTimeout(500);
    const inside = page.frames()[1];
    const text = await inside.evaluate(() => document.body?.innerText ?? '').catch(() => '');
    attacker.close();
    return { url: inside.url(), shows: /password/i.test(text) };
  },

  // A second session, ended from the first one.
  async sessions() {
    const other = await browser.newContext({ javaScriptEnabled: false });
    const tab = await other.newPage();
    await signIn(tab);
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await signIn(page);
    const listed = await page.getByText(/this device/i).count();
    await page.getByRole('button', { name: 'Sign out everywhere else' }).click();
    await page.waitForLoadState();
    await tab.goto(at('/account'));
    await page.goto(at('/account'));
    return { listed, other: await tab.locator('input[type=password]').count(), own: await page.locator('input[type=password]').count() };
  },

  // A passkey, made and used with Chromium's virtual authenticator.
  async passkey() {
    const context = await browser.newContext();
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    await session.send('WebAuthn.enable');
    const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', { options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true,
      isUserVerified: true, automaticPresenceSimulation: true,
    } });
    await signIn(page, '/account/sign-in');
    await page.getByLabel('Name of the new passkey').fill('Test key');
    await page.getByRole('button', { name: /add a passkey/i }).click();
    await page.getByText('Test key').first().waitFor();
    const made = await session.send('WebAuthn.getCredentials', { authenticatorId });
    await context.clearCookies();
    await page.goto(at('/sign-in?return_to=/account'));
    await page.getByRole('button', { name: /passkey/i }).click();
    await page.waitForURL((url) => url.pathname === '/account');
    const info = await page.evaluate(async () => (await fetch('/auth/session')).json());
    return { made: made.credentials.length, path: new URL(page.url()).pathname, session: info };
  },
};

try {
  const result = await scenarios[input.scenario]();
  process.stdout.write(`${JSON.stringify(result)}\n`);
} finally {
  await browser.close();
}
