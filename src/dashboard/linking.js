// Links an M365 tenant to a company, so that its people's next message gets through.

import { all, call, path, post, put } from './api.js';
import { h, refill } from './dom.js';
import { button, confirm, dialog, failure, notice, plural, say } from './parts.js';
import { form } from './form.js';
import { companies, picker } from './picker.js';

/** As many companies of one directory are shown to choose from. */
const SHARED_SHOWN = 50;

/** Asks which company an M365 tenant belongs to, one that is there or a new one, and links it. True once it is done. */
export async function linkDirectory(directory) {
  const linked = await dialog('Link to a company', (close) => {
    const place = h('div.stack');
    const existing = () => {
      const found = form({
        fields: [{
          name: 'company', label: 'Company', kind: 'custom', required: true, hint: 'Search by name or PSA id.',
          make(id, _, described) {
            const made = picker({ id, search: companies(), described, placeholder: 'Search companies…' });
            return { element: made.element, focusable: made.focusable, value: () => made.option()?.row ?? null };
          },
        }],
        label: 'Link',
        async submit({ company }) {
          if (company.tenant_id && company.tenant_id !== directory && !await confirm(
            `Move ${company.psa_company_name} here?`,
            `${company.psa_company_name} is linked to the M365 tenant ${company.tenant_id}. Its people there would be refused from then on.`,
            'Move the link')) return;
          const { meta } = await put(path`/end-companies/${company.psa_company_id}`, { tenant_id: directory });
          close({ name: company.psa_company_name, warnings: meta.warnings });
        },
        extra: button('Create a company instead', () => refill(place, create().element), { kind: 'quiet' }),
      });
      return found;
    };
    const create = () => form({
      fields: [
        { name: 'psa_company_name', label: 'Name', required: true },
        { name: 'psa_company_id', label: 'PSA company id', required: true, code: true, hint: 'As your PSA names it; it cannot be changed later.' },
      ],
      label: 'Create and link',
      async submit(values) {
        const { psa_company_name: name } = await post('/end-companies', { ...values, tenant_id: directory });
        close({ name, warnings: [] });
      },
      extra: button('Choose one that is there', () => refill(place, existing().element), { kind: 'quiet' }),
    });
    refill(place, existing().element);
    return [h('p', 'Whose people write from the M365 tenant ', h('code', directory), '? They reach the agent as that company, and as no other.'), place];
  });
  if (linked === null) return false;
  if (linked.warnings?.length) say(linked.warnings.join(' '), 'bad');
  else say(`${linked.name} is linked. The next message from there gets through.`);
  return true;
}

/** Shows the companies that share an M365 tenant, to take the link from all but one. True once something was changed. */
export async function unshareDirectory(directory) {
  let changed = false;
  await dialog('Which company keeps the link?', (close) => {
    const place = h('div.stack', { 'aria-live': 'polite' });
    const draw = async () => {
      try {
        const rows = [];
        for await (const row of all('/end-companies', { tenant_id: directory }, undefined, SHARED_SHOWN)) rows.push(row);
        if (rows.length <= 1) {
          refill(place, notice('good', rows.length === 1 ? `${rows[0].psa_company_name} alone is linked now. The next message gets through.` : 'No company is linked now.'),
            h('div.dialog-actions', button('Done', () => close(), { kind: 'primary' })));
          return;
        }
        refill(place, h('ul.todo', rows.map((row) => h('li',
          h('div.todo-what', h('strong', row.psa_company_name), h('p', row.psa_company_id)),
          button('Take the link away', async () => {
            await call('PUT', path`/end-companies/${row.psa_company_id}`, { body: { tenant_id: null } });
            changed = true;
            await draw();
          }, { small: true })))));
      } catch (error) {
        refill(place, failure(error, draw));
      }
    };
    draw();
    return [h('p', 'From ', h('code', directory), ' nobody can be told apart: while several companies carry it, everyone there is refused.'), place];
  }, { wide: true });
  if (changed) say('The links were changed.');
  return changed;
}

/** How many companies carry a directory, in words. */
export const carriers = (count) => (count === 0 ? 'no company is linked' : `${plural(count, 'company', 'companies')} share it`);
