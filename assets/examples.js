// The list of a bank's examples: open one, switch it, lock it, and put it where it belongs.
//
// components/playground/examples.py gives this file to a gr.HTML as js_on_load. `props.value` is {rows, current, fixed,
// nothing}; `fixed` is true while a search leaves rows out, when nobody could tell where a moved row would go. What a
// person does shows at once and is told to the studio as an 'act'; if the studio knows better, it sends the list again.
//
// Examples are not ours: they reach the page through textContent and nothing else.

element.innerHTML = `
<div class="bank" role="grid" aria-label="Examples">
  <div class="bank-head" role="row">
    <span role="columnheader">No.</span><span role="columnheader">On</span><span role="columnheader">Lock</span>
    <span role="columnheader">Instruction</span><span role="columnheader">Response</span>
    <span role="columnheader">Category</span><span role="columnheader">Source</span>
  </div>
  <div class="bank-body" role="rowgroup"></div>
</div>
<p class="bank-nothing" hidden></p>
<p class="said" aria-live="polite"></p>`;

const blank = document.createElement('template');
blank.innerHTML = `
<div class="bank-row" role="row" tabindex="-1">
  <span class="number" role="gridcell"></span>
  <span role="gridcell"><button type="button" class="switch" data-do="on" tabindex="-1" title="May be shown in prompts"></button></span>
  <span role="gridcell"><button type="button" class="lock" data-do="locked" tabindex="-1" title="In every prompt"><svg
    viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path d="M5 7.5V5a3 3 0 0 1 6 0v2.5" fill="none" stroke="currentColor"
    stroke-width="1.5"/><rect x="3" y="7.5" width="10" height="6.5" rx="1.5"/></svg></button></span>
  <span class="asked" role="gridcell"></span>
  <span class="answered" role="gridcell"></span>
  <span class="kind" role="gridcell"></span>
  <span class="from" role="gridcell"></span>
</div>`.trim();

const part = (selector) => element.querySelector(selector);
const body = part('.bank-body');
const rowOf = (event) => event.target.closest?.('.bank-row');
const say = (words) => { part('.said').textContent = words; };
const placeOf = (row) => [...body.children].indexOf(row) + 1;
let isFixed = false;

// -- painting ------------------------------------------------------------------------------------------------------

function made([id, number, isOn, isLocked, instruction, response, category, source, held]) {
  const row = blank.content.firstElementChild.cloneNode(true);
  row.dataset.key = id;
  row.draggable = !isFixed;
  for (const [selector, text] of [['.number', number], ['.asked', instruction], ['.answered', response], ['.kind', category], ['.from', source]]) {
    row.querySelector(selector).textContent = text;
  }
  if (held) {
    const mark = document.createElement('b');
    mark.textContent = 'held out';
    mark.title = held;
    row.querySelector('.from').prepend(mark);
  }
  set(row, 'on', isOn);
  set(row, 'locked', isLocked);
  return row;
}

function set(row, what, value) {
  row.dataset[what] = value;
  const button = row.querySelector(`[data-do="${what}"]`);
  button.setAttribute('aria-pressed', value);
  button.setAttribute('aria-label', what === 'on' ? 'On: may be shown in prompts' : 'Locked into every prompt');
}

function paint() {
  const { rows = [], current = '', fixed = false, nothing = '' } = props.value ?? {};
  const focused = body.contains(document.activeElement) ? document.activeElement.closest('.bank-row')?.dataset.key : null;
  isFixed = fixed;
  body.replaceChildren(...rows.map(made));
  part('.bank').hidden = rows.length === 0;
  part('.bank-nothing').hidden = !nothing;
  part('.bank-nothing').textContent = nothing;
  for (const row of body.children) row.setAttribute('aria-selected', row.dataset.key === String(current));
  const back = [...body.children].find((row) => row.dataset.key === focused);
  const entry = back ?? body.querySelector('[aria-selected="true"]') ?? body.firstElementChild;
  if (entry) entry.tabIndex = 0;
  back?.focus({ preventScroll: true });
}

// -- what a person does --------------------------------------------------------------------------------------------

const pick = (row) => trigger('pick', { key: row.dataset.key });

function flip(row, what) {
  const value = row.dataset[what] !== 'true';
  set(row, what, value);
  say({ on: ['Off', 'On'], locked: ['Not locked', 'Locked'] }[what][Number(value)]);
  trigger('act', { do: what, key: row.dataset.key, value });
}

function move(row, side, other) {
  if (isFixed || !row?.isConnected || !other?.isConnected || row === other) return;
  other[side](row); // Element.before and Element.after
  [...body.children].forEach((each, place) => { each.querySelector('.number').textContent = place + 1; });
  say(`Moved to place ${placeOf(row)}.`);
  trigger('act', { do: 'move', key: row.dataset.key, side, other: other.dataset.key });
}

function step(row, by) {
  if (isFixed) return say('Clear the search to change the order.');
  move(row, by < 0 ? 'before' : 'after', by < 0 ? row.previousElementSibling : row.nextElementSibling);
  row.scrollIntoView({ block: 'nearest' });
}

element.addEventListener('click', (event) => {
  const row = rowOf(event), button = event.target.closest('[data-do]');
  if (row && button) flip(row, button.dataset.do);
  else if (row) pick(row);
});

element.addEventListener('focusin', (event) => {
  const row = rowOf(event);
  if (!row) return;
  for (const other of body.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  row.tabIndex = 0; // one stop for the Tab key, wherever one left the list
});

element.addEventListener('keydown', (event) => {
  const row = rowOf(event);
  if (!row || event.ctrlKey || event.metaKey) return;
  const isButton = event.target !== row;
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const ends = { Home: body.firstElementChild, End: body.lastElementChild }[event.key];
  if (event.altKey && by) { step(row, by); row.focus(); }
  else if (event.altKey) return;
  else if (by) (by > 0 ? row.nextElementSibling : row.previousElementSibling)?.focus();
  else if (ends) ends.focus();
  else if (isButton) return;
  else if (event.key === 'Enter') pick(row);
  else if (event.key === ' ') flip(row, 'on');
  else if (event.key === 'l' || event.key === 'L') flip(row, 'locked');
  else return;
  event.preventDefault();
});

element.addEventListener('shift', (event) => step(rowOf(event), event.detail)); // the buttons of the form beside the list

// -- dragging ------------------------------------------------------------------------------------------------------

let dragged = null;
let over = null;

const sideOf = (row, event) => {
  const { top, height } = row.getBoundingClientRect();
  return event.clientY < top + height / 2 ? 'before' : 'after';
};
const mark = (row, side) => {
  if (over && over !== row) delete over.dataset.drop;
  over = row;
  if (row && row.dataset.drop !== side) row.dataset.drop = side;
};

element.addEventListener('dragstart', (event) => {
  dragged = rowOf(event);
  if (!dragged || isFixed) return event.preventDefault();
  event.dataTransfer.effectAllowed = 'move';
  event.dataTransfer.setData('text/plain', dragged.querySelector('.asked').textContent);
  dragged.dataset.dragged = 'true';
});
element.addEventListener('dragover', (event) => {
  const row = rowOf(event);
  if (!dragged || !row) return;
  event.preventDefault(); // else nothing can be dropped here
  event.dataTransfer.dropEffect = 'move';
  mark(row, sideOf(row, event));
});
element.addEventListener('drop', (event) => {
  const row = rowOf(event);
  if (!dragged || !row) return;
  event.preventDefault();
  move(dragged, sideOf(row, event), row);
});
element.addEventListener('dragend', () => {
  if (over) delete over.dataset.drop;
  if (dragged) delete dragged.dataset.dragged;
  dragged = over = null;
});

watch('value', paint);
paint();
