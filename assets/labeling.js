// The labeling desk: one item, a ranking typed in a few keys, and no judgement lost on the way to the studio.
//
// components/labeling.py gives this file to a gr.HTML as js_on_load: `element` is the root of the desk, and `props.value`
// says what to label: {batch, items, guidelines}. Everything else comes from studio/serving/labeling.py.
//
// Prompts and answers are not ours: they reach the page through textContent and nothing else. What waits to be saved
// lies in localStorage as ids, one key each, so that neither a closed page nor a second one can lose or mix them.

const AHEAD = 3; // items at hand, so that the next one is painted in the same frame as the key press
const IDLE_MS = 30_000; // a longer pause without any input is not work on the item
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const LONGEST_LIST = 20; // what the studio gives at once
const LOOK_AGAIN_MS = 10_000; // when what is left is with other people
const GIVE_UP_MS = 20_000; // for one request
const UNDO_WAITS_MS = 3_000;
const STORED = 'ladder-unsaved:';
const NOT_REFUSED = new Set([401, 408, 425, 429]); // of 4xx: signed out, too slow, too early, too many; asked again later
const RANKS = ['1st', '2nd', '3rd', '4th'];

window.__deskOff?.(); // a desk that was here before a re-mount must not hear the keys any more
const life = new AbortController();
window.__deskOff = () => life.abort();
const listen = (target, type, heard, options = {}) => target.addEventListener(type, heard, { signal: life.signal, ...options });

// -- the parts ---------------------------------------------------------------------------------------------------

const card = (n) => `
  <article aria-label="Answer ${n}" hidden>
    <button type="button" class="place" data-key="${n}"><kbd>${n}</kbd><span class="rank"></span></button>
    <div class="text" dir="auto" tabindex="0" role="group" aria-label="Text of answer ${n}"></div>
  </article>`;
const key = (name, cap, words) =>
  `<button type="button" data-key="${name}"><kbd aria-hidden="true">${cap}</kbd><span>${words}</span></button>`;

element.innerHTML = `
<div class="desk">
  <div class="desk-progress">
    <progress max="1" value="0" aria-label="Items judged"></progress>
    <span class="count" role="status" aria-live="polite"></span>
    <span class="save"></span>
  </div>
  <div class="desk-refused" role="alert" hidden>
    <span aria-hidden="true">!</span><span class="why"></span><button type="button" class="again">Label it again</button>
  </div>
  <div class="desk-room">
    <div class="desk-main">
      <div class="desk-item" hidden>
        <section class="desk-prompt" aria-label="Prompt" tabindex="0"></section>
        <div class="desk-answers">${[1, 2, 3, 4].map(card).join('')}</div>
      </div>
      <div class="desk-empty" hidden>
        <p role="status"></p><button type="button" class="onward" data-open-tab="alignment">Open Alignment</button>
      </div>
      <div class="desk-keys" role="group" aria-label="Rank the answers">
        ${key('=', '=', 'Tie with the next')}${key('0', '0', '')}${key('x', 'X', '')}${key('backspace', '⌫', 'Take back')}
        <span class="gap"></span>
        ${key('s', 'S', 'Skip')}${key('u', 'U', 'Undo')}${key('g', 'G', 'Guidelines')}
      </div>
      <p class="desk-hint"><span class="next"></span><span class="last"></span></p>
      <p class="said" aria-live="polite"></p>
    </div>
    <aside class="desk-guidelines" aria-label="Guidelines" hidden>
      <button type="button" class="round" data-key="g" aria-label="Close the guidelines">✕</button>
      <h2>Guidelines</h2><div class="text" dir="auto" tabindex="0"></div>
    </aside>
  </div>
</div>`;

const part = (selector) => element.querySelector(selector);
const cards = [...element.querySelectorAll('article')].map((root) => ({
  root, place: root.querySelector('.place'), rank: root.querySelector('.rank'), text: root.querySelector('.text'),
}));
const button = (name) => part(`.desk-keys [data-key="${name}"]`);
const say = (words) => { part('.said').textContent = words; };
const plural = (n, one) => `${n} ${one}${n === 1 ? '' : 's'}`;

// -- talking to the studio ---------------------------------------------------------------------------------------

// {ok, isRefused, why, body}; throws when nothing came back. A page of another server (a sign-in, a proxy) is not an answer.
async function ask(path, body) {
  const answer = await fetch(`/api/v1/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: body ? { 'content-type': 'application/json' } : {},
    body: body && JSON.stringify(body),
    keepalive: Boolean(body), // a judgement on its way goes on when the page closes
    cache: 'no-store',
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  const said = await answer.json().catch(() => null);
  const isRefused = answer.status >= 400 && answer.status < 500 && !NOT_REFUSED.has(answer.status);
  return { ok: answer.ok && said !== null, isRefused, body: said, why: sentence(said, answer.status) };
}

const sentence = (said, status) =>
  typeof said?.detail === 'string' ? said.detail : `The studio refused this (status ${status}). Its log has the details.`;

const ofBatch = (name) => `labeling/${encodeURIComponent(name)}`;

// randomUUID is there on https and localhost only; a studio in an office network may be neither.
const newId = () => crypto.randomUUID?.() ??
  '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, (c) =>
    (+c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (+c / 4)))).toString(16));

// -- what is not saved yet ---------------------------------------------------------------------------------------

// Sent one at a time and in order: a judgement that was undone and given again must arrive after the first one. Sending
// twice is harmless, since the studio knows the client id.
const unsaved = loadUnsaved();
let wakeSender = () => {};
let isSending = false;

function loadUnsaved() {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(STORED))
      .map((name) => { try { return JSON.parse(localStorage.getItem(name)); } catch { return null; } })
      .filter((entry) => entry?.client_id && entry.assignment)
      .sort((a, b) => a.at - b.at);
  } catch { return []; } // no storage in this browser: then only this page remembers
}

function keep(entry) {
  // What a new ranking replaces was refused, so it need not be sent again.
  unsaved.filter((e) => e.why && e.assignment === entry.assignment).forEach(forget);
  unsaved.push(entry);
  const { why, ...stored } = entry;
  try { localStorage.setItem(STORED + entry.client_id, JSON.stringify(stored)); } catch { /* see loadUnsaved */ }
  send();
}

function forget(entry) {
  const place = unsaved.indexOf(entry);
  if (place >= 0) unsaved.splice(place, 1);
  try { localStorage.removeItem(STORED + entry.client_id); } catch { /* see loadUnsaved */ }
}

const waiting = () => unsaved.filter((entry) => !entry.why);
const unsavedHere = () => unsaved.filter((entry) => entry.batch === batch);

async function send() {
  if (isSending) return;
  isSending = true;
  let pause = 0;
  while (!life.signal.aborted && waiting().length) {
    const entry = waiting()[0];
    const answer = await post(entry);
    if (answer?.isSaved) {
      pause = 0;
      forget(entry);
      arrived(entry, answer.body.progress);
    } else if (answer?.isRefused) {
      pause = 0;
      entry.why = answer.why;
      paintSaving();
    } else {
      pause = Math.min(Math.max(FIRST_RETRY_MS, pause * 2), LAST_RETRY_MS);
      say(`${unsaved.length} unsaved. Trying again.`);
      await new Promise((woken) => { wakeSender = woken; setTimeout(woken, pause); });
    }
  }
  isSending = false;
}

async function post(entry) {
  const { assignment, client_id, groups, tie_kind, wall_ms, active_ms } = entry;
  try {
    const answer = entry.isSkip
      ? await ask(`${ofBatch(entry.batch)}/skip`, { assignment })
      : await ask('judgements', { client_id, assignment, groups, tie_kind, wall_ms, active_ms });
    return { ...answer, isSaved: answer.ok && (entry.isSkip || Number.isInteger(answer.body.judgement)) };
  } catch { return null; }
}

function arrived(entry, counts) {
  arrivals += 1;
  if (entry.batch === batch && counts) progress = counts;
  paintSaving();
  if (!queue.length) refill();
}

// -- the items at hand -------------------------------------------------------------------------------------------

let batch = '';
let queue = []; // the first one is on screen
let progress = null; // as the studio counted last
let arrivals = 0; // judgements acknowledged; tells whether a count that comes back is older than one of them
let trouble = ''; // why there is nothing to show, when something is wrong
let isFilling = false;
let lookAgain = 0;
const handled = new Set(); // assignments judged or skipped here: a list asked for before that may still hold them

function open(asked) {
  batch = asked;
  queue = [];
  progress = null;
  trouble = '';
  last = null;
  say('');
  begin();
  refill();
}

async function refill() {
  if (isFilling || !batch) return;
  isFilling = true;
  clearTimeout(lookAgain);
  const asked = batch;
  let wait = 0;
  try {
    while (asked === batch && queue.length < AHEAD && await fetchItems(asked));
    if (!queue.length && !trouble && left() > 0) wait = LOOK_AGAIN_MS;
  } catch {
    trouble = 'The studio does not answer. Trying again.';
    wait = LOOK_AGAIN_MS / 5;
  }
  isFilling = false;
  if (life.signal.aborted) return;
  if (asked !== batch) return refill();
  if (!queue.length) paint();
  if (wait) lookAgain = setTimeout(refill, wait);
}

// True when something new came.
async function fetchItems(asked) {
  const before = arrivals;
  // Items whose judgement is still on its way are open for the studio and come along.
  const count = Math.min(AHEAD + unsavedHere().length, LONGEST_LIST);
  const answer = await ask(`${ofBatch(asked)}/items?count=${count}`);
  if (asked !== batch) return false;
  trouble = answer.isRefused ? answer.why : '';
  if (trouble) return false;
  if (!answer.ok) throw new Error('no list of items');
  if (!progress || (before === arrivals && !unsavedHere().length)) progress = answer.body.progress;
  const known = new Set([...handled, ...[...queue, ...unsaved].map((one) => one.assignment)]);
  const came = answer.body.items.filter((item) => !known.has(item.assignment)).slice(0, AHEAD - queue.length);
  const wasEmpty = !queue.length;
  queue.push(...came);
  if (wasEmpty && queue.length) begin();
  else paintSaving();
  return came.length > 0;
}

const newHere = () => unsavedHere().filter((entry) => !entry.isRevision && !entry.why);
const left = () => (progress ? Math.max(0, progress.left - newHere().length) : 0);
const judgedHere = () => newHere().filter((entry) => !entry.isSkip).length;
const judgedNow = () => Math.min(progress.items, progress.judged + judgedHere());

// -- ranking -----------------------------------------------------------------------------------------------------

let groups = []; // places on screen, best first; those in one group tie
let isTying = false;
let isBusy = false; // the item on screen is about to change
let last = null; // the item judged or skipped last, and how
let shownAt = 0;
let inputAt = 0;
let activeMs = 0;

function begin() {
  groups = [];
  isTying = false;
  shownAt = inputAt = performance.now();
  activeMs = 0;
  paint();
}

function countInput() {
  const now = performance.now();
  if (now - inputAt <= IDLE_MS) activeMs += now - inputAt;
  inputAt = now;
}

function act(name) {
  if (name === 'g') showGuidelines(part('.desk-guidelines').hidden);
  else if (name === 'u') undo();
  else if (isBusy || !queue.length) return;
  else if (name === '0') restTies();
  else if (name === 'x') finish([everyone()], 'both_bad');
  else if (name === 's') skip();
  else if (name === 'backspace') takeBack();
  else if (name === '=') tie();
  else place(Number(name) - 1);
}

const everyone = () => queue[0].answers.map((_, place) => place);
const leftOver = () => everyone().filter((place) => !groups.flat().includes(place));

function place(which) {
  if (!leftOver().includes(which)) return;
  if (isTying) groups.at(-1).push(which);
  else groups.push([which]);
  isTying = false;
  if (leftOver().length === 1) return finish([...groups, leftOver()]);
  say(`Answer ${which + 1} placed ${rankOf(which)}.`);
  paintRanking();
}

function tie() {
  if (queue[0].answers.length === 2) return finish([everyone()]);
  if (!groups.length) return;
  isTying = !isTying;
  paintRanking();
}

function restTies() {
  if (isTying) groups.pop(); // then those are left over again
  finish([...groups, leftOver()]);
}

function takeBack() {
  if (isTying) isTying = false;
  else {
    groups.at(-1)?.pop();
    groups = groups.filter((group) => group.length);
  }
  paintRanking();
}

function finish(ranking, tieKind = ranking.length === 1 ? 'equal' : '') {
  const item = queue[0];
  countInput();
  last = { item, ranking, tieKind };
  done(item, {
    groups: ranking.map((group) => group.map((place) => item.answers[place].id)),
    tie_kind: tieKind,
    wall_ms: Math.round(performance.now() - shownAt),
    active_ms: Math.round(activeMs),
  });
}

function skip() {
  last = { item: queue[0], ranking: null };
  done(queue[0], { isSkip: true });
}

function done(item, outcome) {
  queue.shift();
  handled.add(item.assignment);
  const about = { client_id: newId(), batch, assignment: item.assignment, at: performance.timeOrigin + performance.now() };
  keep({ ...about, isRevision: Boolean(item.wasJudged), ...outcome });
  begin();
  say('');
  if (queue.length < AHEAD) refill();
}

async function undo() {
  if (isBusy || !batch) return;
  if (queue[0]?.before) return tell('Undo goes back one item.');
  isBusy = true;
  const asked = batch;
  try {
    if (!(await allSaved())) return tell('The last judgement is not saved yet. Undo works once it is.');
    const answer = await ask(`${ofBatch(asked)}/undo`, {});
    if (asked !== batch) return;
    if (answer.isRefused) return tell(answer.why);
    if (!answer.ok) throw new Error('no item came back');
    bringBack(answer.body);
  } catch {
    tell('The studio does not answer, so nothing was undone. Try again.');
  } finally {
    isBusy = false;
  }
}

async function allSaved() {
  wakeSender();
  const until = performance.now() + UNDO_WAITS_MS;
  while (waiting().length && performance.now() < until) await new Promise((then) => setTimeout(then, 10));
  return !waiting().length;
}

function bringBack(item) {
  const isKnown = last?.item.assignment === item.assignment;
  item.before = !isKnown ? 'You had it before.' : last.ranking ? `You ranked it ${write(last)}.` : 'You skipped it.';
  item.wasJudged = !isKnown || Boolean(last.ranking);
  handled.delete(item.assignment);
  queue = [item, ...queue.filter((other) => other.assignment !== item.assignment)];
  last = null;
  begin();
  say(`The last item is back. ${item.before}`);
}

// After a refusal the studio knows best whether the item can still be judged, so it is asked for anew.
async function labelAgain() {
  const refused = unsaved.filter((entry) => entry.why);
  const about = new Set(refused.map((entry) => entry.assignment));
  refused.forEach((entry) => { forget(entry); handled.delete(entry.assignment); });
  if (!refused.some((entry) => entry.batch === batch)) return paintSaving();
  while (isFilling) await new Promise((then) => setTimeout(then, 10));
  queue = [];
  await refill();
  queue.sort((a, b) => about.has(b.assignment) - about.has(a.assignment));
  begin();
  if (!queue.some((item) => about.has(item.assignment))) tell('The studio does not ask you for that item any more.');
}

// -- painting ----------------------------------------------------------------------------------------------------

const write = ({ ranking, tieKind }) =>
  tieKind === 'both_bad' ? 'all bad'
    : tieKind === 'equal' ? 'all equally good'
      : ranking.map((group) => group.map((place) => place + 1).join(' = ')).join(' › ');

function rankOf(which) {
  const group = groups.findIndex((places) => places.includes(which));
  if (group < 0) return '';
  const rank = RANKS[groups.slice(0, group).flat().length];
  return groups[group].length > 1 ? `tied ${rank}` : rank;
}

function paint() {
  const item = queue[0];
  part('.desk-item').hidden = !item;
  part('.desk-empty').hidden = Boolean(item);
  if (item) paintItem(item);
  else paintEmpty();
  paintRanking();
  paintSaving();
}

function paintItem(item) {
  paintPrompt(item.prompt);
  part('.desk-answers').dataset.count = item.answers.length;
  cards.forEach(({ root, text }, place) => {
    root.hidden = place >= item.answers.length;
    text.textContent = item.answers[place]?.text ?? '';
    text.scrollTop = 0;
  });
}

// One question stands alone; of a conversation every turn says who speaks.
function paintPrompt(turns) {
  const names = { user: 'Person', assistant: 'Model', system: 'Instructions' };
  part('.desk-prompt').replaceChildren(...turns.flatMap(({ role, content }) => {
    const text = document.createElement('p');
    text.dir = 'auto';
    text.textContent = content;
    if (turns.length === 1) return [text];
    const who = document.createElement('h3');
    who.textContent = names[role] ?? role;
    return [who, text];
  }));
  part('.desk-prompt').scrollTop = 0;
}

function paintEmpty() {
  part('.desk-empty p').textContent = whyEmpty();
  part('.onward').hidden = !isOver();
}

const isOver = () => !trouble && progress?.items > 0 && left() === 0;

function whyEmpty() {
  if (trouble) return trouble;
  if (!progress) return 'Loading the items.';
  if (progress.items === 0) return 'No items yet. They appear here while answers are sampled.';
  if (isOver()) return thanks(progress.items, progress.items - judgedNow());
  // Every item that the studio gives out is one whose judgement waits here.
  if (unsavedHere().length) return `The next items come when the ${plural(unsavedHere().length, 'unsaved judgement')} here can be saved.`;
  return `What is left (${plural(left(), 'item')}) is with other people. It comes here if they do not judge it soon.`;
}

function thanks(items, open) {
  if (open) return `You have been through all ${plural(items, 'item')}, ${open} of which nobody has judged yet. Thank you.`;
  return items === 1 ? 'The one item is judged. Thank you.' : `All ${items} items are judged. Thank you.`;
}

function paintRanking() {
  const item = queue[0];
  const isPair = item?.answers.length === 2;
  cards.forEach(({ root, place: to, rank }, which) => {
    const words = item ? rankOf(which) : '';
    root.dataset.placed = String(Boolean(words));
    rank.textContent = words;
    to.setAttribute('aria-label', words ? `Answer ${which + 1}, placed ${words}` : `Place answer ${which + 1}`);
  });
  button('0').lastChild.textContent = groups.length ? 'The rest equally good' : isPair ? 'Both equally good' : 'All equally good';
  button('x').lastChild.textContent = isPair ? 'Both bad' : 'All bad';
  button('=').hidden = button('backspace').hidden = isPair || !item;
  button('0').hidden = button('x').hidden = button('s').hidden = !item;
  button('u').hidden = !item && !progress;
  button('=').disabled = button('backspace').disabled = !groups.length;
  button('=').setAttribute('aria-pressed', String(isTying));
  part('.desk-hint').dataset.told = String(Boolean(item?.before));
  part('.desk-hint .next').textContent = hint(item, isPair);
  part('.desk-hint .last').textContent = last ? `Last: ${last.ranking ? write(last) : 'skipped'}` : '';
}

function hint(item, isPair) {
  if (!item) return '';
  if (isTying) return `Which answer ties with ${groups.at(-1).map((place) => place + 1).join(' and ')}? Press its number.`;
  if (groups.length) return 'Which is next? The last one left is placed by itself.';
  const question = isPair ? 'Which answer is better? Press its number.' : 'Which answer is best? Press its number, then the next best.';
  return item.before ? `Back again. ${item.before} ${question}` : question;
}

// A word in place of the hint, until the next key.
function tell(words) {
  part('.desk-hint').dataset.told = 'true';
  part('.desk-hint .next').textContent = words;
  say(words);
}

function paintSaving() {
  const refused = unsaved.find((entry) => entry.why);
  part('.save').dataset.state = unsaved.length ? 'unsaved' : 'saved';
  part('.save').textContent = unsaved.length ? `${unsaved.length} unsaved` : last ? 'Saved' : '';
  part('.desk-refused').hidden = !refused;
  part('.desk-refused .why').textContent = refused ? `Not saved. ${refused.why}` : '';
  part('.desk-progress progress').hidden = part('.count').hidden = !progress;
  if (!progress) return;
  const [mine, judged] = [progress.mine + judgedHere(), judgedNow()];
  part('.desk-progress progress').value = progress.items ? judged / progress.items : 0;
  const words = `${judged} of ${progress.items} judged${mine === judged ? '' : `, ${mine} by you`}`;
  if (part('.count').textContent !== words) part('.count').textContent = words; // else it would be read out again
}

function showGuidelines(isShown) {
  part('.desk-guidelines').hidden = !isShown;
  part('.desk').dataset.guidelines = String(isShown);
  button('g').setAttribute('aria-expanded', String(isShown));
}

// -- keys, clicks and the rest of the world ----------------------------------------------------------------------

const KEYS = new Set(['0', '1', '2', '3', '4', '=', 'x', 's', 'u', 'g', 'backspace']);

function keyOf(event) {
  const name = event.key.toLowerCase();
  if (KEYS.has(name)) return name;
  // Keyboards whose number row needs Shift, and those without Latin letters: then the place of the key counts.
  const position = /^(?:Digit([0-4])|Key([XSUG]))$/.exec(event.shiftKey ? '' : event.code);
  return position && !/[a-z0-9]/.test(name) ? (position[1] ?? position[2].toLowerCase()) : '';
}

function isTyping() {
  const at = document.activeElement;
  return Boolean(at && (at.isContentEditable || at.matches('textarea, select, [role=textbox], [role=combobox]')
    || at.matches('input:not([type=checkbox], [type=radio], [type=button], [type=submit])')));
}

listen(document, 'keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || event.defaultPrevented) return;
  if (isTyping() || !element.isConnected || !element.checkVisibility()) return; // checkVisibility: another tab is open
  const isClosing = event.key === 'Escape' && !part('.desk-guidelines').hidden;
  const name = isClosing ? 'g' : keyOf(event);
  if (!name) return;
  event.preventDefault();
  act(name);
});

listen(element, 'click', (event) => {
  if (event.target.closest('.again')) labelAgain();
  const name = event.target.closest('[data-key]')?.dataset.key;
  if (name && event.detail < 2) act(name); // the second click of a double click would judge the next item, unread
});

for (const type of ['keydown', 'pointerdown', 'pointermove', 'wheel', 'scroll'])
  listen(document, type, countInput, { capture: true, passive: true });

listen(window, 'online', () => { wakeSender(); refill(); });
listen(document, 'visibilitychange', () => wakeSender());
listen(window, 'beforeunload', (event) => {
  if (unsaved.length && !window.__left) event.preventDefault(); // __left: the session is over, see head.html
});

function look() {
  const asked = props.value ?? {};
  const guidelines = part('.desk-guidelines .text');
  if (guidelines.textContent !== asked.guidelines) guidelines.textContent = asked.guidelines ?? ''; // else it would scroll up
  button('g').hidden = !asked.guidelines;
  if ((asked.batch ?? '') !== batch) return open(asked.batch ?? '');
  const more = progress ? asked.items - progress.items : 0; // sampling goes on
  if (more > 0) progress = { ...progress, items: progress.items + more, left: progress.left + more };
  paintSaving();
  if (queue.length < AHEAD && (more > 0 || !queue.length)) refill();
}

watch('value', look);
look();
paint();
send();
