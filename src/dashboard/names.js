// Names in the place of ids: asked for once each, filled in when they come.

import { get, path } from './api.js';
import { h } from './dom.js';

/** A name that was asked for is good for this long: for one view as it is drawn, and hardly for the next. */
const KEPT_MS = 5_000;

function names(where, nameOf) {
  const known = new Map();
  /** The name's promise; of what is gone it is null. */
  const name = (id) => {
    const old = known.get(id);
    if (old && old.until > Date.now()) return old.name;
    const asked = get(where(id)).then(nameOf, (error) => {
      if (error.status !== 404) known.delete(id);
      return null;
    });
    known.set(id, { name: asked, until: Date.now() + KEPT_MS });
    return asked;
  };
  /** An element that shows the id until the name is there. */
  const element = (id) => {
    const shown = h('bdi', String(id));
    name(id).then((text) => {
      if (text === null) shown.title = 'It is gone.';
      else shown.textContent = text;
    });
    return shown;
  };
  return { name, element };
}

export const agentNames = names((id) => path`/agents/${id}`, (agent) => agent.name);
export const companyNames = names((id) => path`/end-companies/${id}`, (company) => company.psa_company_name);
export const channelNames = names((id) => path`/channels/${id}`, (channel) => channel.internal_name);
