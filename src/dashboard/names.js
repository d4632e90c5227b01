// Names in place of ids. A name is loaded once, and replaces the id when it arrives.

import { get, path } from './api.js';
import { h } from './dom.js';
import { LONG_NAME } from './labels.js';

/** How long a name is cached: long enough to draw one view. */
const CACHE_MS = 5_000;

function names(where, nameOf) {
  const cache = new Map();
  /** The promise of a name, or of null if nothing has this id. */
  const name = (id) => {
    const cached = cache.get(id);
    if (cached && cached.until > Date.now()) return cached.name;
    const loading = get(where(id)).then(nameOf, (error) => {
      if (error.status !== 404) cache.delete(id);
      return null;
    });
    cache.set(id, { name: loading, until: Date.now() + CACHE_MS });
    return loading;
  };
  /** An element that shows the id until the name is loaded. */
  const element = (id) => {
    const shown = h('bdi', String(id));
    name(id).then((text) => {
      if (text === null) shown.title = 'Deleted';
      else {
        shown.textContent = text;
        if (text.length > LONG_NAME) shown.title = text;
      }
    });
    return shown;
  };
  return { name, element };
}

export const agentNames = names((id) => path`/agents/${id}`, (agent) => agent.name);
export const companyNames = names((id) => path`/end-companies/${id}`, (company) => company.psa_company_name);
export const channelNames = names((id) => path`/channels/${id}`, (channel) => channel.internal_name);
