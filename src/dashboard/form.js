// A form that shows a server error at the field that it names, and keeps the input.

import { append, h, newId, setContent } from './dom.js';
import { button, errorText, linkButton, notice } from './components.js';

/** The value at a dotted name: `at(values, 'agent_settings.welcome_message')`. */
function at(values, name) {
  return name.split('.').reduce((inner, part) => inner?.[part], values);
}

function set(values, name, value) {
  const parts = name.split('.');
  const last = parts.pop();
  parts.reduce((inner, part) => (inner[part] ??= {}), values)[last] = value;
}

const lines = (text) => text.split('\n').map((line) => line.trim()).filter((line) => line !== '');

/** Creates the control of a field: `[element, read, focusable]`. */
function control(field, id, value) {
  const common = {
    id, name: field.name, required: field.required, disabled: field.disabled, placeholder: field.placeholder,
    autocomplete: 'off', spellcheck: field.code ? 'false' : null, class: field.code ? 'input code' : 'input',
    'aria-describedby': `${id}-hint ${id}-problem`,
  };
  switch (field.kind) {
    case 'textarea': {
      const element = h('textarea', { ...common, rows: field.rows ?? 4, value: value ?? '' });
      return [element, () => element.value];
    }
    case 'lines': {
      const element = h('textarea', { ...common, rows: field.rows ?? 4, value: (value ?? []).join('\n') });
      return [element, () => lines(element.value)];
    }
    case 'select': {
      const element = h('select', common, field.options.map(([key, label]) => h('option', { value: key }, label)));
      element.value = value ?? field.options[0][0];
      return [element, () => element.value];
    }
    case 'checkbox': {
      const element = h('input', { ...common, class: 'checkbox', type: 'checkbox', checked: Boolean(value) });
      return [element, () => element.checked];
    }
    case 'custom': {
      // Another control, such as a picker: { element, value(), focusable }.
      const made = field.make(id, value, `${id}-hint ${id}-problem`);
      return [made.element, made.value, made.focusable];
    }
    default: {
      const element = h('input', { ...common, type: field.kind ?? 'text', value: value ?? '' });
      // A pasted id often has spaces around it.
      return [element, () => (field.code ? element.value.trim() : element.value)];
    }
  }
}

/** Draws a field: `{ element, control }`. */
function fieldOf(field, values) {
  const id = newId('field');
  const [input, read, focusable = input] = control(field, id, at(values, field.name));
  const problem = h('p.problem', { id: `${id}-problem` });
  const hint = h('p.hint', { id: `${id}-hint` }, field.hint);
  const name = h('label', { for: id }, field.label, field.required && h('span.required', { 'aria-hidden': 'true' }, ' *'));
  const element = field.kind === 'checkbox'
    ? h('div.field.check', h('div.check-row', input, name), hint, problem)
    : h('div.field', name, input, hint, problem);
  const value = () => {
    const raw = read();
    if (field.nullable && (raw === '' || raw === undefined)) return null;
    return field.kind === 'number' && raw !== '' ? Number(raw) : raw;
  };
  return { element, control: { input: focusable, problem, value, start: null } };
}

/** The controls of a form by name: `{ input, problem, value(), start }`. */
class Controls extends Map {
  current() {
    return new Map([...this].map(([name, { value }]) => [name, value()]));
  }

  all() {
    const all = {};
    for (const [name, value] of this.current()) set(all, name, value);
    return all;
  }

  /** The values that have changed since the last `settle`. */
  changes() {
    const changed = {};
    for (const [name, value] of this.current()) {
      if (JSON.stringify(value) !== this.get(name).start) set(changed, name, value);
    }
    return changed;
  }

  settle() {
    for (const [name, value] of this.current()) this.get(name).start = JSON.stringify(value);
  }

  /** The control of the field that an error names: the most specific one, if fields are nested. */
  owner(error) {
    const named = String(error.details?.field ?? '');
    const name = [...this.keys()]
      .filter((key) => named === key || named.startsWith(`${key}.`) || named.startsWith(`${key}[`) || key.startsWith(`${named}.`) && named !== '')
      .sort((a, b) => b.length - a.length)[0];
    return this.get(name);
  }

  clearProblems() {
    for (const { input, problem } of this.values()) {
      problem.replaceChildren();
      input.removeAttribute('aria-invalid');
    }
  }
}

/**
 * Runs `submit` while the form takes no input, which would otherwise count as saved. Returns the
 * error, or null.
 */
async function submitInert(element, save, submit) {
  const focused = document.activeElement;
  element.inert = true;
  save.setAttribute('aria-disabled', 'true');
  let failure = null;
  try {
    await submit();
  } catch (error) {
    failure = error;
  }
  element.inert = false;
  save.removeAttribute('aria-disabled');
  if (document.activeElement === document.body && focused?.isConnected) focused.focus();
  return failure;
}

/**
 * A form. Returns `{ element, dirty(), show(error), settle() }`. `settle` makes the current values
 * the saved ones. `submit(values, changed)` receives all values, and only the changed ones. An
 * error that it throws is shown. The properties of a field:
 *
 * - `name`: dotted, as in the API
 * - `label`, `hint`, `placeholder`
 * - `kind`: `text`, `textarea`, `lines`, `select`, `checkbox`, `url`, `number`, `custom`
 * - `required`, `disabled`, and `nullable`, which turns an empty value into null
 * - `options` of a select, `rows` of a textarea, `make(id, value, describedBy)` of a custom control
 * - `code`: a monospace field for ids
 */
export function form({ fields, values = {}, submit, label = 'Save', cancel, extra, disabled }) {
  const problems = h('div.form-problem');
  const controls = new Controls();
  const element = h('form.form', { novalidate: true });
  const save = button(label, null, { kind: 'primary', type: 'submit' });

  for (const field of fields) {
    if (field.title) {
      append(element, h('h2.form-title', field.title));
      continue;
    }
    const drawn = fieldOf({ ...field, disabled: field.disabled || disabled }, values);
    append(element, drawn.element);
    controls.set(field.name, drawn.control);
  }

  /** Shows an error at the field that it names, or else below the fields. */
  const show = (error) => {
    const owner = controls.owner(error);
    if (owner === undefined) {
      setContent(problems, notice('bad', 'Not saved.', h('p', errorText(error))));
      problems.scrollIntoView({ block: 'nearest' });
      return;
    }
    setContent(owner.problem, errorText(error));
    owner.input.setAttribute('aria-invalid', 'true');
    owner.input.focus();
  };

  const firstMissing = () => fields.find((field) => field.required && [undefined, null, ''].includes(controls.get(field.name).value()));

  element.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (element.inert) return;
    problems.replaceChildren();
    controls.clearProblems();
    const empty = firstMissing();
    if (empty) {
      show({ message: `${empty.label} is required.`, details: { field: empty.name } });
      return;
    }
    const error = await submitInert(element, save, async () => {
      await submit(controls.all(), controls.changes());
      controls.settle();
    });
    if (error) show(error);
  });

  append(element, problems, !disabled && h('div.form-actions', save, cancel && linkButton('Cancel', cancel), extra));
  controls.settle();
  return { element, settle: () => controls.settle(), show, dirty: () => Object.keys(controls.changes()).length > 0 };
}
