// Speaks with the server: the public API as any other client has it (contract, sections 1 to 10).

const ROOT = new URL('public-api/', document.baseURI);
const TOKEN = 'switchboard.token';

let token = sessionStorage.getItem(TOKEN);

/** The credential of this tab; it is kept in memory and in session storage, and is never part of an address. */
export const credential = {
  get: () => token,
  set(value) {
    token = value;
    sessionStorage.setItem(TOKEN, value);
  },
  clear() {
    token = null;
    sessionStorage.removeItem(TOKEN);
  },
  /** Gets a fresh token ahead of a call where the old one is about to end; set by whoever signed in. */
  renew: async () => {},
  /** Asks the person to sign in again, and says whether they did; set by the page. */
  ask: async () => false,
};

/** What the server answered when it did not do what was asked. */
export class Refused extends Error {
  constructor(status, error, requestId, retryAfter) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.details = error.details ?? {};
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** The address of a path of the API, `query` without what is empty. */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ''), ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
  }
  return url;
}

/** A signed link, on the server that this page came from: a link can name the server by another host. */
export function signedAddress(link) {
  const { pathname, search } = new URL(link);
  const url = address(pathname.slice(pathname.indexOf('/chat/attachments/')));
  url.search = search;
  return url.href;
}

/** A path with its variable parts escaped: path`/agents/${id}`. */
export function path(strings, ...values) {
  return strings.reduce((all, part, index) => all + encodeURIComponent(values[index - 1]) + part);
}

async function once(method, url, { body, headers, signal }) {
  await credential.renew();
  const all = { ...headers };
  if (token !== null) all.Authorization = `Bearer ${token}`;
  if (body !== undefined) all['Content-Type'] = 'application/json';
  try {
    return await fetch(url, {
      method, signal, headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, { code: 'unreachable', message: 'The server cannot be reached. Nothing was lost here; try again.' });
  }
}

/** The refusal that a response carries. */
export async function refusal(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // What stands before the server may answer with a page of its own.
  }
  const error = body?.error ?? { code: 'unknown', message: `The server answered with status ${response.status}.` };
  return new Refused(response.status, error, body?.meta?.request_id ?? response.headers.get('x-request-id'),
    Number(response.headers.get('retry-after')) || null);
}

/** The response to a call, whatever its success looks like. Throws `Refused`. */
export async function send(method, url, options = {}) {
  let response = await once(method, url, options);
  if (response.status === 401 && token !== null && !options.quiet && await credential.ask(await refusal(response.clone()))) {
    response = await once(method, url, options);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/**
 * Calls the API. `options`: `query`, `body` (an object), `headers`, `signal`, `quiet` (a 401 is thrown, and nobody is asked to sign in).
 * Gives the envelope's `{ data, meta }`, or null where there is no body. Throws `Refused`.
 */
export async function call(method, where, options = {}) {
  const response = await send(method, address(where, options.query), options);
  return response.status === 204 ? null : response.json();
}

export const get = async (where, query, signal) => (await call('GET', where, { query, signal })).data;
export const post = async (where, body, options) => (await call('POST', where, { ...options, body }))?.data;
export const put = (where, body) => call('PUT', where, { body });
export const patch = (where, body) => call('PATCH', where, { body });
export const remove = (where) => call('DELETE', where);

/** Everything of a list, page by page, as far as `most` rows. */
export async function* all(where, query = {}, signal, most = Infinity) {
  let cursor = null;
  let seen = 0;
  do {
    const { data, meta } = await call('GET', where, { query: { page_size: 200, ...query, cursor }, signal });
    for (const row of data) {
      yield row;
      seen += 1;
      if (seen >= most) return;
    }
    cursor = meta.pagination.next_cursor;
  } while (cursor !== null);
}

/**
 * The events of a session's stream, `{ id, envelope }` each, until the server ends it (contract, section 5).
 * Nothing comes where there is nothing to resume. Throws `Refused`, and `TypeError` where the connection breaks.
 */
export async function* events(session, query, signal) {
  const response = await send('GET', address(path`/chat/sessions/${session}/events`, query), { signal });
  if (response.status === 204) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let id = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith('id:')) id = line.slice(3).trim();
        if (!line.startsWith('data:')) continue;
        const data = line.slice(5).trim();
        if (data !== '[DONE]') yield { id, envelope: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
