// A browser without a window: keeps cookies, follows redirects, fills in forms as a person does.
// It reads pages only as far as forms go; the real browser's turn is in pages.mjs.

const attribute = (tag, name) => {
  const found = new RegExp(`\\s${name}="([^"]*)"`).exec(tag);
  return found ? decode(found[1]) : tag.match(new RegExp(`\\s${name}(?=[\\s>/])`)) ? '' : null;
};
const decode = (text) =>
  text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>').replaceAll('&amp;', '&');

export class UserAgent {
  #cookies = [];

  constructor(headers = {}) {
    this.headers = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Test', ...headers };
  }

  cookieNames() {
    return this.#cookies.map((one) => one.name);
  }

  cookie(name) {
    return this.#cookies.find((one) => one.name === name)?.value;
  }

  // Goes to an address and follows where it leads; `until` is the beginning of an address that is
  // not ours to open: a client's redirect_uri.
  async go(url, { until, method = 'GET', body, headers } = {}) {
    let next = new URL(url);
    for (let hop = 0; hop < 20; hop += 1) {
      if (until && next.href.startsWith(until)) return { url: next, status: 0, body: '' };
      const response = await fetch(next, {
        method, body, redirect: 'manual',
        headers: { ...this.headers, ...headers, cookie: this.#header(next) },
      });
      this.#keep(next, response.headers.getSetCookie());
      // A page at the end of a form's redirects goes on by itself, with a GET and no end to its redirects.
      const refresh = /^0; url=(.*)$/.exec(response.headers.get('refresh') ?? '')?.[1];
      if (refresh && response.status === 200) {
        await response.arrayBuffer();
        next = new URL(refresh, next);
        [method, body, headers] = ['GET', undefined, undefined];
        continue;
      }
      const location = response.headers.get('location');
      if (!location || response.status < 300 || response.status > 399) {
        return { url: next, status: response.status, headers: response.headers, body: await response.text() };
      }
      await response.arrayBuffer();
      // Only 307 and 308 carry a body on, and nobody may answer a form with those (S13).
      if (response.status > 303) throw new Error(`a ${response.status} after ${method} ${next}`);
      next = new URL(location, next);
      [method, body, headers] = ['GET', undefined, undefined];
    }
    throw new Error(`no end of redirects at ${next}`);
  }

  // Sends the form of a page that has these fields, by the button whose words are like `button`.
  async submit(page, fields, { button, until } = {}) {
    const forms = [...page.body.matchAll(/<form[\s\S]*?<\/form>/g)].map((found) => found[0]);
    const names = Object.keys(fields);
    const form = forms.find((text) => names.every((name) => text.includes(`name="${name}"`))
      && (!button || this.#button(text, button)));
    if (!form) throw new Error(`no form with ${names} and ${button} on ${page.url}:\n${page.body}`);
    const opening = form.slice(0, form.indexOf('>') + 1);
    const values = new URLSearchParams();
    for (const [tag] of form.matchAll(/<input[^>]*>/g)) {
      const name = attribute(tag, 'name');
      if (!name || name in fields) continue;
      if (attribute(tag, 'type') === 'hidden') values.append(name, attribute(tag, 'value') ?? '');
      if (attribute(tag, 'type') === 'checkbox' && attribute(tag, 'checked') !== null) {
        values.append(name, attribute(tag, 'value') ?? 'on');
      }
    }
    for (const [name, value] of Object.entries(fields)) values.append(name, value);
    const pressed = button ? this.#button(form, button) : null;
    if (pressed && attribute(pressed, 'name')) {
      values.append(attribute(pressed, 'name'), attribute(pressed, 'value') ?? '');
    }
    const action = new URL(attribute(opening, 'action') ?? page.url, page.url);
    if ((attribute(opening, 'method') ?? 'get').toLowerCase() === 'get') {
      action.search = values;
      return this.go(action, { until });
    }
    return this.go(action, {
      until, method: 'POST', body: values.toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        // What browsers send with a form of a page that sends no referrer.
        origin: 'null', 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate',
      },
    });
  }

  #button(form, words) {
    for (const [all, tag, text] of form.matchAll(/(<button[^>]*>)([\s\S]*?)<\/button>/g)) {
      if (all && words.test(text.replaceAll(/<[^>]*>/g, '').trim())) return tag;
    }
    return null;
  }

  #header(url) {
    return this.#cookies
      .filter((one) => url.pathname === one.path || one.path === '/'
        || url.pathname.startsWith(`${one.path.replace(/\/$/, '')}/`))
      .filter((one) => one.host === url.hostname)
      .map((one) => `${one.name}=${one.value}`).join('; ');
  }

  #keep(url, lines) {
    for (const line of lines) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const at = pair.indexOf('=');
      const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
      const find = (key) => attributes.find((one) => one.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1);
      const path = find('path') ?? '/';
      this.#cookies = this.#cookies.filter((one) => one.name !== name || one.path !== path || one.host !== url.hostname);
      if (find('max-age') !== '0' && value !== '') this.#cookies.push({ name, value, path, host: url.hostname, line });
    }
  }
}

// Signs in and agrees, wherever that is asked, until the client's address comes up.
export async function approve(agent, url, person, until) {
  let page = await agent.go(url, { until });
  for (let step = 0; step < 6 && page.status !== 0; step += 1) {
    if (page.status >= 400) throw new Error(`${page.status} at ${page.url}:\n${page.body}`);
    if (page.body.includes('name="password"')) {
      page = await agent.submit(page, { email: person.email, password: person.password }, { until });
    } else {
      page = await agent.submit(page, {}, { button: /^(allow|continue|yes)/i, until });
    }
  }
  if (page.status !== 0) throw new Error(`it does not end at the client: ${page.url}\n${page.body}`);
  return page.url;
}
