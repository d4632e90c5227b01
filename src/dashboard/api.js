// A client of the public API (contract, sections 1 to 10). The dashboard needs nothing else of the
// server, except the command on the sign-in page.

const ROOT = new URL('public-api/', document.baseURI);
const TOKEN = 'switchboard.token';

let token = sessionStorage.getItem(TOKEN);

/** The credential of this tab, in memory and in session storage. It is never part of an address. */
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
  /** Refreshes the token before a call if the token is about to expire. `auth.js` sets it. */
  renew: async () => {},
  /** Asks the person to sign in again. True if the person did. `app.js` sets it. */
  signInAgain: async () => false,
};

/** An error that the server answered with. `status` is 0 if the server could not be reached. */
class ApiError extends Error {
  constructor(status, error, requestId, retryAfter) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.details = error.details ?? {};
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** The address of a path of the API. Empty values of `query` are left out. */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ''), ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
  }
  return url;
}

/** A signed link to a file, on the origin of this page: the link can name another host, or none. */
export function signedAddress(link) {
  const { pathname, search } = new URL(link, ROOT);
  const url = address(pathname.slice(pathname.indexOf('/chat/attachments/')));
  url.search = search;
  return url.href;
}

/** A path with escaped values: path`/agents/${id}`. */
export function path(strings, ...values) {
  return strings.reduce((all, part, index) => all + encodeURIComponent(values[index - 1]) + part);
}

async function fetchOnce(method, url, { body, headers, signal }) {
  await credential.renew();
  const sent = { ...headers };
  if (token !== null) sent.Authorization = `Bearer ${token}`;
  const isFile = body instanceof Blob;
  if (body !== undefined) sent['Content-Type'] = isFile ? body.type : 'application/json';
  try {
    return await fetch(url, {
      method, signal, headers: sent,
      body: body === undefined || isFile ? body : JSON.stringify(body),
      cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { code: 'unreachable', message: 'The server cannot be reached. Nothing on this page is lost. Try again.' });
  }
}

/** The error in a response. */
export async function errorOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // A proxy in front of the server can answer with a page of its own.
  }
  const error = body?.error ?? { code: 'unknown', message: `The server answered with status ${response.status}.` };
  return new ApiError(response.status, error, body?.meta?.request_id ?? response.headers.get('x-request-id'),
    Number(response.headers.get('retry-after')) || null);
}

/**
 * Sends a request, a second time after a new sign-in if the first answer is 401. Throws `ApiError`.
 */
async function send(method, url, options = {}) {
  let response = await fetchOnce(method, url, options);
  if (response.status === 401 && token !== null && !options.quiet && await credential.signInAgain(await errorOf(response.clone()))) {
    response = await fetchOnce(method, url, options);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/**
 * Calls the API. `options`: `query`, `body` (an object or a file), `headers`, `signal`, and `quiet`, which
 * throws a 401 instead of asking the person to sign in. Returns the envelope's `{ data, meta }`, or
 * null if the response has no body. Throws `ApiError`.
 */
export async function call(method, where, options = {}) {
  const response = await send(method, address(where, options.query), options);
  return response.status === 204 ? null : response.json();
}

export const get = async (where, query, signal) => (await call('GET', where, { query, signal })).data;
/** The bytes of a file, and the name that the server gives it. */
export async function file(where, signal) {
  const response = await send('GET', address(where), { signal });
  const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '');
  return { blob: await response.blob(), name: name?.[1] ?? null };
}
export const post = async (where, body, options) => (await call('POST', where, { ...options, body }))?.data;
export const put = (where, body) => call('PUT', where, { body });
export const patch = (where, body) => call('PATCH', where, { body });
export const remove = (where) => call('DELETE', where);

/** The rows of a list, page by page, up to `limit` rows. */
export async function* allRows(where, query = {}, signal, limit = Infinity) {
  let cursor = null;
  let seen = 0;
  do {
    const { data, meta } = await call('GET', where, { query: { page_size: 200, ...query, cursor }, signal });
    for (const row of data) {
      yield row;
      seen += 1;
      if (seen >= limit) return;
    }
    cursor = meta.pagination.next_cursor;
  } while (cursor !== null);
}

/**
 * The events of a session's stream, `{ id, envelope }` each, until the server ends the stream
 * (contract, section 5). Yields nothing if there is nothing to resume. Throws `ApiError`, and
 * `TypeError` if the connection breaks.
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
