// The table of records: which one is open, which are ticked, and everything that one key does.
//
// components/dataset/records.py gives this file to a gr.HTML as js_on_load; the rows come as HTML (components/picking.py).
// The ticks are ids in the hidden box #ticked-records, where they outlive a page and where the studio reads them. The word
// "all" there stands for whatever the filter leaves.

window.__recordsOff?.(); // a table that was here before a re-mount must not hear the keys any more
const life = new AbortController();
window.__recordsOff = () => life.abort();
const listen = (target, type, heard, options = {}) => target.addEventListener(type, heard, { signal: life.signal, ...options });

const root = element.closest('#records') ?? element;
const rows = () => [...root.querySelectorAll('tr[data-key]')];
const rowOf = (event) => event.target.closest?.('tr[data-key]');
const open = () => root.querySelector('tr[aria-selected="true"]');

// -- ticks ---------------------------------------------------------------------------------------------------------

const box = () => document.querySelector('#ticked-records :is(textarea, input)');
const ids = () => (box()?.value ?? '').split(' ').filter(Boolean);
const isAll = () => box()?.value === 'all';
const ticked = () => new Set(isAll() ? rows().map((tr) => tr.dataset.key) : ids());
let from = null; // the row ticked last: Shift ticks up to here

function write(keys) {
  const field = box();
  if (!field) return;
  field.value = [...keys].join(' ');
  field.dispatchEvent(new Event('input', { bubbles: true }));
  paint();
}

function paint() {
  const keys = ticked();
  const here = rows();
  for (const tr of here) {
    const isOn = keys.has(tr.dataset.key);
    tr.querySelector('.tick input').checked = isOn;
    if (tr.dataset.ticked !== String(isOn)) tr.dataset.ticked = isOn;
  }
  const head = root.querySelector('th.tick input');
  if (!head) return;
  const many = here.filter((tr) => tr.dataset.ticked === 'true').length;
  head.checked = many > 0 && many === here.length;
  head.indeterminate = many > 0 && many < here.length;
}

// `all` becomes the rows of this page as soon as one of them is taken out.
function tick(tr, isOn, isRange) {
  const keys = ticked();
  const here = rows();
  const [a, b] = [here.findIndex((row) => row.dataset.key === from), here.indexOf(tr)].sort((x, y) => x - y);
  for (const row of isRange && a >= 0 ? here.slice(a, b + 1) : [tr]) keys[isOn ? 'add' : 'delete'](row.dataset.key);
  from = tr.dataset.key;
  write(keys);
}

function tickPage(isOn) {
  const keys = ticked();
  for (const tr of rows()) keys[isOn ? 'add' : 'delete'](tr.dataset.key);
  write(keys);
}

listen(element, 'click', (event) => {
  const tr = rowOf(event);
  if (event.target.closest('th.tick')) {
    if (event.target.tagName === 'INPUT') tickPage(event.target.checked);
  } else if (tr && event.target.closest('.tick')) { // the cell is a larger target than the box in it
    if (event.target.tagName !== 'INPUT') event.preventDefault();
    tick(tr, tr.dataset.ticked !== 'true', event.shiftKey);
  } else if (tr && !event.target.closest('a') && getSelection().isCollapsed) {
    wantsToRead = true;
    trigger('pick', { key: tr.dataset.key });
  }
});
listen(element, 'mousedown', (event) => { if (event.shiftKey && rowOf(event)) event.preventDefault(); }); // marks no text

// -- which one is open ---------------------------------------------------------------------------------------------

let current = open()?.dataset.key ?? '';
let isInside = false; // the keys were in the table when it was drawn anew
listen(element, 'focusin', () => { isInside = true; });
listen(document, 'focusin', (event) => { if (!root.contains(event.target)) isInside = false; });
listen(document, 'pointerdown', (event) => { if (!root.contains(event.target)) isInside = false; });

function mark() {
  for (const tr of rows()) {
    const isOpen = tr.dataset.key === current;
    if ((tr.getAttribute('aria-selected') === 'true') !== isOpen) tr.setAttribute('aria-selected', isOpen);
  }
  const tr = open();
  if (isInside && tr && (document.activeElement === document.body || root.contains(document.activeElement))) {
    tr.focus({ preventScroll: true });
  }
}

let wantsToRead = false; // a row was touched: where the form lies below the table, go there
const NARROW = matchMedia('(max-width: 900px)');

listen(root, 'opened', (event) => {
  current = event.detail;
  mark();
  if (wantsToRead && NARROW.matches) {
    wantsToRead = false;
    document.querySelector('.record-column')?.scrollIntoView({ block: 'start' });
    answered();
    return;
  }
  wantsToRead = false;
  open()?.scrollIntoView({ block: 'nearest' });
  top = root.querySelector('.records')?.scrollTop ?? 0;
  answered();
});

// -- drawn anew ----------------------------------------------------------------------------------------------------

let page = '', top = 0;
listen(element, 'scroll', (event) => { if (event.target.matches?.('.records')) top = event.target.scrollTop; }, { capture: true });

// A row may be replaced, or kept and given the words and the key of another one.
const painter = new MutationObserver(() => {
  const sheet = root.querySelector('.records');
  if (sheet && sheet.dataset.page === page) sheet.scrollTop = top;
  else {
    [page, top] = [sheet?.dataset.page ?? '', 0];
    if (sheet) sheet.scrollTop = 0;
  }
  paint();
  mark();
});
const drawn = ['data-page', 'data-key', 'data-ticked', 'aria-selected'];
painter.observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: drawn });
life.signal.addEventListener('abort', () => painter.disconnect());
page = root.querySelector('.records')?.dataset.page ?? '';
listen(root, 'ticked', () => requestAnimationFrame(paint)); // once the box holds them
paint();

// -- what is typed into the filters ---------------------------------------------------------------------------------

// Gradio's own event for typing comes with the keys that make a letter, so neither a deletion nor a paste would be heard.
const REST_MS = 250;
let rest = 0;
const isFilter = (event) => {
  const field = event.target;
  return field.matches?.('.filters input, .filters textarea, .more-filters input') && field.getAttribute('role') !== 'combobox'
    && field.type !== 'checkbox' && !field.closest('ul');
};
const heard = new WeakMap(); // field -> what was asked for
const seek = (event) => {
  if (!isFilter(event) || (event.type === 'change' && heard.get(event.target) === event.target.value)) return;
  heard.set(event.target, event.target.value);
  clearTimeout(rest);
  rest = setTimeout(() => trigger('seek', {}), REST_MS);
};
listen(document, 'input', seek);
listen(document, 'change', seek); // the arrows of a number

// -- keys ----------------------------------------------------------------------------------------------------------

// A key that is pressed while the one before is on its way waits for it: it is about the record that comes then.
const WAITS_MS = 8000;
const MOST_WAITING = 30;
const waiting = [];
let isBusy = false, patience = 0;

function ask(event, key) {
  later(() => {
    isBusy = true;
    clearTimeout(patience);
    patience = setTimeout(() => { isBusy = false; waiting.length = 0; }, WAITS_MS); // refused, or at the end of the list
    trigger(event, { key });
  });
}

function later(act) {
  if (waiting.length < MOST_WAITING) waiting.push(act);
  next();
}

function next() {
  while (!isBusy && waiting.length) waiting.shift()();
}

function answered() {
  if (!isBusy) return;
  isBusy = false;
  clearTimeout(patience);
  setTimeout(next, 0);
}

const VERDICTS = { a: 'approved', r: 'rejected', d: 'draft' };
const isTyping = () => {
  const active = document.activeElement;
  if (active?.type === 'checkbox') return false;
  return active && (active.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName));
};

function press(event) {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key !== 'z' && key !== 'y') return false;
    const way = key === 'y' || event.shiftKey ? 'redo' : 'undo';
    document.querySelector(`#strokes [data-do="${way}"]:not(:disabled)`)?.click();
    return true;
  }
  const isHere = root.contains(document.activeElement);
  if (!isHere && document.activeElement !== document.body) return false; // a button or a list has its own keys
  const tr = document.activeElement?.closest?.('tr[data-key]');
  const here = () => document.activeElement?.closest?.('tr[data-key]') ?? open();
  if (key === 'j' || (isHere && key === 'arrowdown')) ask('move', '1');
  else if (key === 'k' || (isHere && key === 'arrowup')) ask('move', '-1');
  else if (VERDICTS[key] && !event.shiftKey) ask('judge', VERDICTS[key]);
  else if (key === 'x' && here()) later(() => here() && tick(here(), here().dataset.ticked !== 'true', event.shiftKey));
  else if (tr && (key === 'enter' || key === ' ')) trigger('pick', { key: tr.dataset.key });
  else if (key === '/') document.querySelector('#records-search :is(textarea, input)')?.focus();
  else return false;
  return true;
}

listen(document, 'keydown', (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing || isTyping()) return;
  if (event.repeat && !/^(j|k|Arrow)/i.test(event.key)) return;
  if (!root.isConnected || !root.checkVisibility()) return; // another page is open
  if (press(event)) event.preventDefault();
});
