// Dialogs that link an M365 tenant to exactly one company, so that Switchboard takes its messages.

import { allRows, call, get, path, post, put } from './api.js';
import { h, setContent } from './dom.js';
import { button, confirm, dialog, failure, notice, plural, toast } from './components.js';
import { form } from './form.js';
import { companies, picker } from './picker.js';

/** Companies of one M365 tenant that are shown. */
const SHARED_SHOWN = 50;

/**
 * Asks for an existing or a new company, and links an M365 tenant to it. True if a company was
 * linked.
 */
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
          const { tenant_ids: linked } = await get(path`/end-companies/${company.psa_company_id}`);
          if (linked.length > 0 && !linked.includes(directory) && !await confirm(
            `Add an M365 tenant to ${company.psa_company_name}?`,
            `${company.psa_company_name} is linked to ${linked.length === 1 ? `the M365 tenant ${linked[0]}` : `${linked.length} M365 tenants`}, and stays linked. People who write from ${directory} would be its staff too.`,
            'Add M365 tenant')) return;
          const all = linked.includes(directory) ? linked : [...linked, directory];
          const { meta } = await put(path`/end-companies/${company.psa_company_id}`, { tenant_ids: all });
          close({ name: company.psa_company_name, warnings: meta.warnings });
        },
        extra: button('Create a company instead', () => setContent(place, create().element), { kind: 'quiet' }),
      });
      return found;
    };
    const create = () => form({
      fields: [
        { name: 'psa_company_name', label: 'Name', required: true },
        { name: 'psa_company_id', label: 'PSA company id', required: true, code: true, hint: 'The id of the company in your PSA. It cannot be changed later.' },
      ],
      label: 'Create and link',
      async submit(values) {
        const { psa_company_name: name } = await post('/end-companies', { ...values, tenant_ids: [directory] });
        close({ name, warnings: [] });
      },
      extra: button('Choose an existing company', () => setContent(place, existing().element), { kind: 'quiet' }),
    });
    setContent(place, existing().element);
    return [h('p', 'Choose the company whose staff writes from the M365 tenant ', h('code', directory), '. Its people then reach the agent as staff of that company.'), place];
  });
  if (linked === null) return false;
  if (linked.warnings?.length) toast(linked.warnings.join(' '), 'bad');
  else toast(`${linked.name} was linked. Its next message reaches the agent.`);
  return true;
}

/**
 * Shows the companies that share an M365 tenant, so that a person can remove all links but one.
 * True if a link was removed.
 */
export async function unshareDirectory(directory) {
  let changed = false;
  await dialog('Which company keeps the link?', (close) => {
    const place = h('div.stack', { 'aria-live': 'polite' });
    const draw = async () => {
      try {
        const rows = [];
        for await (const row of allRows('/end-companies', { tenant_id: directory }, undefined, SHARED_SHOWN)) rows.push(row);
        if (rows.length <= 1) {
          setContent(place, notice('good', rows.length === 1 ? `Only ${rows[0].psa_company_name} is linked now. Its next message reaches the agent.` : 'No company is linked now.'),
            h('div.dialog-actions', button('Done', () => close(), { kind: 'primary' })));
          return;
        }
        setContent(place, h('ul.findings', rows.map((row) => h('li',
          h('div.finding-text', h('strong', row.psa_company_name), h('p', row.psa_company_id)),
          button('Remove link', async () => {
            await call('PUT', path`/end-companies/${row.psa_company_id}`, { body: { tenant_ids: row.tenant_ids.filter((id) => id !== directory) } });
            changed = true;
            await draw();
          }, { small: true })))));
      } catch (error) {
        setContent(place, failure(error, draw));
      }
    };
    draw();
    return [h('p', 'Several companies are linked to the M365 tenant ', h('code', directory), '. Switchboard refuses its messages until only one is left.'), place];
  }, { wide: true });
  if (changed) toast('The links were changed.');
  return changed;
}

/** The number of companies that are linked to an M365 tenant, if it is not one. */
export const linkedCompanies = (count) => (count === 0 ? 'no company linked' : `shared by ${plural(count, 'company', 'companies')}`);
