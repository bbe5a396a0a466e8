// Every page of the server that is not in pages.mjs: gone through as a person does it, without any script of
// the page; looked at by axe in light and dark, and as wide as a telephone. Argument: JSON {scenario, issuer,
// person, shots?, …}. Standard output: one line of JSON {seen, found}.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { examine, launch, tooWide } from './browser.mjs';

const input = JSON.parse(process.argv[2]);
const at = (path) => `${input.issuer}${path}`;
const browser = await launch();
const found = [];
const seen = [];

// A window whose pages' scripts never run. They are let run for axe alone, when the page is there.
async function visitor() {
  const context = await browser.newContext({ bypassCSP: true, viewport: { width: 1000, height: 800 } });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  const scripts = (value) => session.send('Emulation.setScriptExecutionDisabled', { value: !value });
  await scripts(false);
  const look = async (name, status) => {
    const heading = await page.locator('h1').allTextContents();
    if (heading.length !== 1) found.push(`${name} has ${heading.length} headings of the first rank`);
    if (status && page.lastStatus !== status) found.push(`${name} is answered with ${page.lastStatus}`);
    seen.push(`${name}: ${heading[0]?.replaceAll(/\s+/g, ' ').trim()}`);
    await scripts(true);
    await page.setViewportSize({ width: 1000, height: 800 });
    await examine(name, page, found, input.shots);
    await page.setViewportSize({ width: 360, height: 740 });
    const wide = await tooWide(page);
    if (wide > 0) found.push(`${name} is ${wide} px wider than a telephone`);
    const squeezed = await page.locator('td').evaluateAll((cells) => cells.filter((cell) => cell.offsetWidth < 80).length);
    if (squeezed > 0) found.push(`${name} squeezes ${squeezed} cells of a table on a telephone`);
    if (input.shots) await page.screenshot({ path: `${input.shots}/${name}-narrow.png`, fullPage: true });
    await scripts(false);
  };
  page.on('response', (response) => {
    if (response.request().isNavigationRequest()) page.lastStatus = response.status();
  });
  return { context, page, look };
}

async function press(page, name) {
  await Promise.all([page.waitForEvent('domcontentloaded'), page.getByRole('button', { name, exact: true }).click()]);
}

// Sends a form that a browser would hold back, as a program does.
async function pressUnchecked(page, name) {
  await page.locator('form').evaluateAll((forms) => forms.forEach((form) => { form.noValidate = true; }));
  await press(page, name);
}

async function signIn(page, person, where = '/account') {
  await page.goto(at(`/sign-in?return_to=${encodeURIComponent(where)}`));
  await page.locator('input[name=email]').fill(person.email);
  await page.locator('input[name=password]').fill(person.password);
  await press(page, 'Sign in');
}

// RFC 6238, as an authenticator app does it.
function oneTimeCode(secret) {
  const bits = [...secret.replaceAll(' ', '')]
    .map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', key).update(step).digest();
  const offset = mac[19] & 15;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

// What an administrator does on a page of their own: an invitation, and a link for another password.
async function linksOf(invited, forgetful) {
  const page = await (await browser.newContext()).newPage();
  await signIn(page, input.person);
  const links = await page.evaluate(async ([email, other]) => {
    const { csrfToken } = await (await fetch('/auth/csrfToken')).json();
    const post = async (path, body) => (await fetch(path, {
      method: 'POST', body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', 'x-csrf-token': csrfToken },
    })).json();
    const people = await (await fetch('/api/v1/users')).json();
    const { id } = people.items.find((one) => one.email === other);
    return [await post('/api/v1/invitations', { email }), await post(`/api/v1/users/${id}/password-reset`, {})];
  }, [invited, forgetful]);
  const [invitation, reset] = links.map((one) => one.link);
  assert.ok(invitation && reset, JSON.stringify(links));
  return { invitation, reset };
}

// A campaign that asks a person about two keys of theirs, one with a name as long as names get.
async function campaign() {
  const page = await (await browser.newContext()).newPage();
  await signIn(page, input.person);
  const me = await page.evaluate(async () => (await (await fetch('/api/v1/users')).json()).items[0].id);
  const post = async (path, body, method = 'POST') => {
    const response = await fetch(at(path), {
      method, body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', authorization: `Bearer ${input.root}` },
    });
    assert.ok(response.ok, `${path}: ${await response.clone().text()}`);
    return response.json();
  };
  await post('/api/v1/scopes', { name: 'orders:read', low_risk: true }, 'PUT');
  for (const name of ['Orders', 'The-yearly-close-of-the-accounts-'.repeat(3)]) {
    await post('/api/v1/keys', {
      name, prefix: 'sk_live', scopes: ['orders:read'], owner: { kind: 'person', id: me }, never_expires: true,
    });
  }
  const begun = await post('/api/v1/hygiene/campaigns', {
    name: 'Cleaning up before the winter: '.repeat(3).trim(), findings: ['never_expires'],
    due_at: Date.now() + 10 * 86_400_000, unanswered: 'disable',
  });
  assert.equal(begun.asked, 2, JSON.stringify(begun));
}

async function device() {
  const response = await fetch(at('/oauth2/device_authorization'), {
    method: 'POST',
    headers: { 'user-agent': 'A television of the living room (Linux; armv7l) with quite a long name of itself' },
    body: new URLSearchParams({ client_id: input.client, scope: 'openid profile email offline_access' }),
  });
  assert.equal(response.status, 200);
  return response.json();
}

const scenarios = {
  // The documentation: every page that its list of flows leads to, gone through by its own links.
  async docs() {
    const { page, look } = await visitor();
    await page.goto(at('/docs'));
    await look('docs', 200);
    await page.getByRole('link', { name: 'Flows', exact: true }).click();
    await page.waitForURL(at('/docs/flows'));
    await look('docs-flows', 200);
    const flows = await page.locator('main ul.rows a').evaluateAll((links) => links.map((link) => link.href));
    for (const flow of flows) {
      await page.goto(flow);
      await look(`docs-flow-${flow.split('/').at(-1)}`, 200);
      // What an arrow shows is what its words say, and it ends inside its diagram.
      const outside = await page.locator('.flow').evaluate((diagram) => {
        const { left, right } = diagram.getBoundingClientRect();
        return [...diagram.querySelectorAll('.arrow')].filter((arrow) => {
          const box = arrow.getBoundingClientRect();
          return box.left < left - 1 || box.right > right + 1;
        }).length;
      });
      if (outside > 0) found.push(`${flow}: ${outside} arrows leave their diagram`);
    }
    // Its own address of a step leads there.
    await page.goto(`${flows[0]}#step-6`);
    await look('docs-flow-step', 200);
    assert.ok(await page.locator('#step-6 .step').evaluate((step) => step.getBoundingClientRect().top < innerHeight));
    const missing = await page.goto(at('/docs/flows/nonesuch'));
    assert.equal(missing.status(), 404);
    await look('docs-flow-missing', 404);
  },

  // Somebody without an account found a key of ours.
  async found_key() {
    const { page, look } = await visitor();
    await page.goto(at('/found-key'));
    await look('found-key', 200);
    await page.getByLabel('The key, or the line that it is in').fill(`export TOKEN=${input.found} # do not commit`);
    await page.getByLabel('Where it was').fill('https://forum.example/thread/7');
    await press(page, 'Report');
    await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    await look('found-key-thanks', 200);
  },

  // The first owner, by the code that the terminal shows.
  async set_up() {
    const { page, look } = await visitor();
    await page.goto(at('/set-up'));
    await look('set-up', 200);
    const fill = async (code) => {
      await page.getByLabel('Code').fill(code);
      await page.getByLabel('Your name').fill('Ada Lovelace');
      await page.getByLabel('Your e-mail address').fill(input.person.email);
      await page.getByLabel('Password').fill(input.person.password);
      await press(page, 'Set up');
    };
    await fill('AAAAA-AAAAA-AAAAA-AAAAA');
    await look('set-up-wrong-code', 403);
    assert.equal(await page.getByLabel('Your name').inputValue(), 'Ada Lovelace');
    await fill(input.terminal);
    await look('set-up-root-key', 200);
    await page.getByRole('link', { name: 'I kept it: go on' }).click();
    await page.waitForURL(at('/account'));
    await page.goto(at('/set-up'));
    await look('set-up-done', 404);
  },

  // By links that administrators send.
  async links() {
    const { invitation, reset } = await linksOf(input.invited, input.forgetful);
    const { page, look } = await visitor();
    await page.goto(invitation);
    await look('invitation', 200);
    await page.getByLabel('Your name').fill('Grace Hopper');
    await page.getByLabel('Password').fill('short');
    await pressUnchecked(page, 'Make my account');
    await look('invitation-refused', 400);
    await page.getByLabel('Password').fill(input.person.password);
    await press(page, 'Make my account');
    await page.waitForURL(at('/account'));
    await page.goto(invitation);
    await look('invitation-used', 404);

    await page.context().clearCookies();
    await page.goto(reset);
    await look('password-reset', 200);
    await page.getByLabel('Password').fill('short');
    await pressUnchecked(page, 'Set my password');
    await look('password-reset-refused', 400);
    await page.getByLabel('Password').fill('another correct horse');
    await press(page, 'Set my password');
    // Not signed in by it.
    assert.equal(new URL(page.url()).pathname, '/sign-in');
    await look('sign-in-after-reset', 200);
    await page.goto(reset);
    await look('password-reset-used', 404);
  },

  // One-time codes from their set-up to their use, and what is asked of those who have none.
  async codes() {
    const { page, look } = await visitor();
    const wrong = { email: input.person.email, password: 'not the password' };
    await signIn(page, wrong);
    await look('sign-in-wrong-password', 401);
    await signIn(page, input.person);
    await page.goto(at('/sign-in?acr=aal2&return_to=/account'));
    await look('second-factor-needed', 200);
    await page.goto(at('/sign-in?again=1&return_to=/account'));
    await look('sign-in-again', 200);
    await page.goto(at('/account/sign-in'));
    await press(page, 'Set up');
    await look('codes-set-up', 200);
    await page.getByLabel('Code that the app shows now').fill('000000');
    await press(page, 'Turn on');
    await look('codes-set-up-wrong', 400);
    const secret = await page.locator('p.mono').textContent();
    await page.getByLabel('Code that the app shows now').fill(oneTimeCode(secret));
    await press(page, 'Turn on');
    await look('recovery-codes', 200);
    const recovery = await page.locator('ul.codes li').allTextContents();
    assert.equal(recovery.length, 10);
    await page.getByRole('link', { name: 'I have kept them' }).click();
    await page.waitForURL(at('/account/sign-in'));
    await look('ways-with-codes', 200);
    await page.goto(at('/account'));
    await press(page, 'Sign out');
    await page.waitForURL(at('/account/ended'));
    await look('signed-out', 200);
    await signIn(page, input.person);
    assert.equal(new URL(page.url()).pathname, '/sign-in/code');
    await look('code', 200);
    await page.getByLabel('Code').fill('000000');
    await press(page, 'Go on');
    await look('code-wrong', 401);
    await page.getByLabel('Code').fill(recovery[0]);
    await press(page, 'Go on');
    await page.waitForURL(at('/account'));
    await page.goto(at('/account/history'));
    await look('history-with-failures', 200);
  },

  // What hygiene campaigns ask, and the answer to one of two questions.
  async questions() {
    const { page, look } = await visitor();
    await signIn(page, input.person);
    await page.goto(at('/account/api-keys/questions'));
    assert.ok((await page.locator('main').textContent()).includes('Nobody asks about your API keys.'));
    await campaign();
    await page.goto(at('/account/api-keys'));
    await look('keys-that-are-asked-about', 200);
    await page.getByRole('link', { name: 'answer', exact: true }).click();
    await page.waitForURL(at('/account/api-keys/questions'));
    await look('questions', 200);
    await page.getByRole('link', { name: /^Answer for The-yearly/ }).click();
    await look('question', 200);
    const fill = async (why) => {
      await page.getByLabel('What becomes of it').selectOption({ label: 'Keep it, and ask again after 90 days' });
      await page.getByLabel('Why').fill(why);
      await press(page, 'Answer');
    };
    await fill('');
    await look('question-without-a-reason', 400);
    assert.equal(await page.getByLabel('What becomes of it').inputValue(), 'keep_90');
    await fill('the yearly close');
    await page.waitForURL(at('/account/api-keys/questions?done=answered'));
    await look('questions-answered', 200);
    const rows = await page.locator('ul.rows li').allTextContents();
    assert.equal(rows.length, 2);
    assert.deepEqual(rows.map((row) => row.includes('Kept') && row.includes('the yearly close')).sort(), [false, true]);
  },

  // Devices, and the end of everything.
  async devices() {
    const { page, look } = await visitor();
    await signIn(page, input.person);
    await page.goto(at('/device?user_code=BBBB-BBBB'));
    await look('device-wrong-code', 400);
    const television = await device();
    await page.goto(at('/device'));
    await page.getByLabel('Code').fill(television.user_code);
    await press(page, 'Continue');
    await look('device-confirm', 200);
    await press(page, 'Allow');
    await look('device-allowed', 200);
    const tokens = await fetch(at('/oauth2/token'), { method: 'POST', body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code', client_id: input.client, device_code: television.device_code,
    }) });
    assert.equal(tokens.status, 200);
    await page.goto((await device()).verification_uri_complete);
    await press(page, 'Deny');
    await look('device-denied', 200);
    await page.goto(at('/account/applications'));
    await look('applications', 200);
    await page.goto(at(`/oauth2/end_session?client_id=${input.client}`));
    await look('end-session-of-a-client', 200);
    const answer = new URLSearchParams({
      client_id: input.client, redirect_uri: 'http://127.0.0.1:9999/callback', response_type: 'code', scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM', code_challenge_method: 'S256',
      response_mode: 'form_post', prompt: 'consent', state: 's',
    });
    await page.goto(at(`/oauth2/authorize?${answer}`));
    await press(page, /^Allow/);
    await look('answer-by-form', 200);
    await page.goto(at('/account/end-everything'));
    await look('end-everything', 200);
    await press(page, 'End everything');
    await page.waitForURL(at('/account/ended'));
    await page.goto(at('/account'));
    assert.equal(new URL(page.url()).pathname, '/sign-in');
  },

  // On to a provider, back from it, and all that can go wrong on the way.
  async providers() {
    const { page, look } = await visitor();
    await page.goto(at('/sign-in'));
    await look('sign-in-with-providers', 200);
    const failed = async (name, path, status) => {
      await page.goto(at(path));
      await look(name, status);
    };
    await failed('provider-unknown', '/rp/authorize?idp=nobody', 404);
    await failed('provider-silent', '/rp/authorize?idp=silent', 502);
    await failed('provider-twice', '/rp/authorize?idp=a&idp=b', 400);
    await failed('provider-state-unknown', '/rp/callback/upstream?code=c&state=s', 400);
    // Its answer, made by hand: what the person refused there.
    const state = async () => {
      const response = await page.request.get(at('/rp/authorize?idp=upstream&redirect_uri=/account'), { maxRedirects: 0 });
      return new URL(response.headers().location).searchParams.get('state');
    };
    const back = (fields) => `/rp/callback/upstream?${new URLSearchParams(fields)}`;
    const iss = input.provider;
    await failed('provider-denied', back({ error: 'access_denied', state: await state(), iss }), 400);
    const description = 'The frobnicator is <b>broken</b>: '.repeat(6);
    await failed('provider-error', back({ error: 'server_error', error_description: description, state: await state(), iss }), 400);
    await failed('provider-other-issuer', back({ code: 'c', state: await state(), iss: 'https://evil.example' }), 400);
    await failed('provider-bad-code', back({ code: 'c', state: await state(), iss }), 502);

    // Somebody whom nobody invited, all the way there and back.
    await page.goto(at('/rp/authorize?idp=upstream&redirect_uri=/account'));
    await page.locator('input[name=login]').fill('stranger');
    await page.locator('input[name=password]').fill('x');
    await page.locator('button[type=submit]').click();
    await page.locator('button[type=submit]').filter({ hasText: 'Continue' }).click();
    await page.waitForURL(`${at('/rp/callback/upstream')}?**`);
    await look('provider-stranger', 403);

    // Linking: a form first, then a page that goes on by itself; it is held here to be looked at.
    await signIn(page, input.person, '/account/sign-in');
    await page.locator('a[href*="/rp/link?idp=upstream"]').click();
    await page.waitForURL(/\/rp\/link/);
    await look('link', 200);
    await page.route(`${input.provider}/**`, (route) => route.fulfill({ status: 204 }));
    await press(page, /^Link/);
    await look('on-to-the-provider');
    const onward = await page.getByRole('link', { name: 'Continue' }).getAttribute('href');
    assert.ok(onward.startsWith(`${input.provider}/`), onward);
    // The session is another one when the answer comes.
    await page.context().clearCookies({ name: 'session' });
    const linking = new URL(onward).searchParams.get('state');
    await failed('provider-session-changed', back({ code: 'c', state: linking, iss }), 400);
  },
};

try {
  await scenarios[input.scenario]();
  process.stdout.write(`${JSON.stringify({ seen, found })}\n`);
} finally {
  await browser.close();
}
