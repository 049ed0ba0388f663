// The page: what the relay tells of itself, shown. Together with charts.js, which comes before it.
'use strict';
(() => {

// --- small things ---

/** The elements below `root` that have `data-<key>`, by its value. */
const fields = (root, key) => Object.fromEntries([...root.querySelectorAll(`[data-${key}]`)].map((node) => [node.dataset[key], node]));
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Storage that may be forbidden. */
const keep = {
  get(store, name) { try { return window[store].getItem(name); } catch { return null; } },
  set(store, name, value) { try { value ? window[store].setItem(name, value) : window[store].removeItem(name); } catch { /* then it is not kept */ } },
};

/** Makes `parent` hold one row for each item, in order. Rows stay the same nodes, and keep their focus. */
function rows(parent, items, key, build, update) {
  const have = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Set(items.map((item) => item[key]));
  for (const [id, row] of have) if (!wanted.has(id)) row.remove();
  let at = parent.firstElementChild;
  for (const item of items) {
    let row = have.get(item[key]);
    if (!row) { row = build(item); row.dataset.key = item[key]; }
    update(row.cells, item);
    if (row === at) at = at.nextElementSibling; else parent.insertBefore(row, at);
  }
  if (focused && focused !== document.activeElement) (focused.isConnected ? focused : parent.closest('.scroll')).focus({ preventScroll: true });
}

/** A table row whose cells have these labels (shown where the table is stacked) and classes. */
function row(cells) {
  return make('tr', {}, ...cells.map(([label, name]) => make('td', { 'data-label': label, class: name || '' })));
}

// --- head and figures ---

const figure = fields($('figures'), 'f');
const meters = fields($('figures'), 'm');
for (const node of Object.values(meters)) node.append(svg('svg', { 'aria-hidden': 'true', viewBox: '0 0 100 1', preserveAspectRatio: 'none' }, svg('rect', { height: 1, width: 0 })));

function meter(name, now, limit) {
  const part = limit > 0 ? Math.min(100, 100 * now / limit) : 0;
  meters[name].querySelector('rect').setAttribute('width', part.toFixed(2));
  kind(meters[name], part > 80 ? 'meter high' : 'meter');
}

function show(s) {
  const { sample, totals } = s;
  put($('version'), s.version);
  put($('phase'), s.phase);
  kind($('phase'), 'state ' + s.phase);
  put($('uptime'), 'up ' + span(s.uptime_seconds));
  const said = {
    phones: count(s.phones), parked: `${count(s.parked)} parked`,
    binaries: count(s.binaries), slots: `slots: ${count(s.slots.live)} live, ${count(s.slots.grace)} grace, ${count(s.slots.waiting)} waiting`,
    connections: count(s.connections.now), 'connections-limit': 'of ' + count(s.connections.limit),
    handshakes: plural(s.handshakes.now, 'handshake') + ' under way',
    'frames-up': rate(sample.frames_up), 'frames-down': rate(sample.frames_down),
    'frames-total': `${count(totals.frames_up + totals.frames_down)} since the start`,
    received: bytes(sample.received_bytes), sent: bytes(sample.sent_bytes),
    'bytes-total': `${bytes(totals.received_bytes)} received, ${bytes(totals.sent_bytes)} sent`,
    queue: bytes(s.queue_bytes.now), 'queue-limit': 'of ' + bytes(s.queue_bytes.limit),
    'queue-peak': `peak ${bytes(s.queue_bytes.high_water)}; parked ${bytes(s.park_bytes.now)}`,
    refusals: rate(sample.refusals), accepts: `${count(totals.refusals)} in all; ${rate(sample.accepts)} accepted per second`,
    cpu: three(sample.cpu_percent) + ' %', rss: bytes(s.process.rss_bytes),
    files: `${count(s.process.open_fds)} of ${count(s.process.fds_limit)} descriptors`,
    ...certificate(s), ...push(s.push),
  };
  for (const name in said) put(figure[name], said[name]);
  meter('connections', s.connections.now, s.connections.limit);
  meter('queue', s.queue_bytes.now, s.queue_bytes.limit);
}
function certificate({ certificate: c, now_ms }) {
  kind(figure.certificate, 'value ' + ({ valid: 'ok', expiring: 'warn', expired: 'bad', missing: 'bad' }[c?.state] ?? 'off'));
  if (!c) return { certificate: 'no TLS', 'certificate-of': 'plain HTTP, behind a proxy' };
  const left = c.not_after * 1000 - now_ms, days = Math.floor(left / 86_400_000);
  const value = c.state === 'missing' ? 'missing' : left < 0 ? 'expired' : days < 2 ? span(left / 1000) : `${grouped.format(days)} days`;
  return { certificate: value, 'certificate-of': [c.state, c.source, c.domain].filter(Boolean).join(', ') };
}
function push(p) {
  kind(figure.push, p.on ? 'value' : 'value off');
  if (!p.on) return { push: 'off', 'push-outcomes': 'no credentials of the push service' };
  const outcomes = [[p.unregistered, 'unregistered'], [p.send_failed, 'failed'], [p.token_fetch_failed, 'without a token'], [p.dropped, 'dropped'], [p.in_flight, 'in flight']];
  return { push: count(p.sent) + ' sent', 'push-outcomes': outcomes.map(([n, what]) => (n ? `${count(n)} ${what}` : '')).filter(Boolean).join(', ') || 'none failed' };
}

// --- what just happened ---

const MANY = 300;
let happenings = [], held = [];

function happened(h) {
  if (h.skipped) return make('li', { class: 'warn' }, make('time'), make('span', { class: 'level' }), make('p', { class: 'detail' }, `${plural(h.skipped, 'more happening')} in this second`));
  const about = make('p', {}, make('b', {}, h.event), ' ');
  if (h.slot) about.append(make('a', { href: '#/slot/' + encodeURIComponent(h.slot) }, h.slot), ' ');
  if (h.phone) about.append(make('span', { class: 'detail' }, 'phone=' + h.phone), ' ');
  if (h.server_id) about.append(make('span', { class: 'detail' }, 'server_id=' + h.server_id), ' ');
  about.append(make('span', { class: 'detail' }, h.detail || ''));
  return make('li', { class: h.level }, make('time', { datetime: new Date(h.t).toISOString() }, clock.format(h.t)), make('span', { class: 'level' }, h.level), about);
}
const lists = [
  { list: $('recent'), blank: $('recent-blank'), wanted: (h) => chosen('level') === '' || h.level !== 'info' },
  { list: $('slot-recent'), blank: $('slot-recent-blank'), wanted: (h) => h.slot && h.slot === page.slot },
];
function prepend({ list, blank, wanted }, news) {
  list.prepend(...news.filter(wanted).reverse().map(happened));
  while (list.children.length > MANY) list.lastElementChild.remove();
  blank.hidden = list.children.length > 0;
}
function relist(of) {
  of.list.replaceChildren();
  prepend(of, happenings);
}
const paused = () => $('pause').getAttribute('aria-pressed') === 'true';
function hold(news) {
  held = news.slice(-MANY);
  put($('pause'), held.length ? `Continue (${held.length === MANY ? 'over ' : ''}${held.length} new)` : 'Continue');
}
function happen(news) {
  if (paused()) return hold(held.concat(news));
  happenings = happenings.concat(news).slice(-MANY);
  lists.forEach((of) => prepend(of, news));
}
/** What a stream begins with: all that the relay remembers, of which some may be known. */
function remember(recent) {
  // Whatever is known from the first of these on is among them, too.
  const first = recent.length ? recent[0].t : Infinity;
  if (paused()) {
    const shown = new Set(happenings.map((h) => JSON.stringify(h)));
    const news = recent.filter((h) => !shown.has(JSON.stringify(h)));
    return hold(held.filter((h) => h.t < first).concat(news));
  }
  happenings = happenings.filter((h) => h.t < first);
  lists.forEach(relist);
  happen(recent);
}
$('pause').addEventListener('click', () => {
  $('pause').setAttribute('aria-pressed', String(!paused()));
  put($('pause'), paused() ? 'Continue' : 'Pause');
  if (!paused()) happen(held.splice(0));
});
$('levels').addEventListener('change', () => relist(lists[0]));

// --- the stream: EventSource reconnects by itself; only an answer that isn't a stream ends it for good ---

const RETRY = 2_000, STALE = 6_000;
let stream = null, heard = 0, again = 0;

function connect() {
  disconnect();
  heard = Date.now();
  stream = new EventSource('admin/events');
  const on = (name, act) => stream.addEventListener(name, (event) => {
    heard = Date.now();
    act(JSON.parse(event.data));
    state('live', 'live');
  });
  on('hello', (s) => {
    s.history.t.forEach((_, i) => add(Object.fromEntries(Object.entries(s.history).map(([key, column]) => [key, column[i]]))));
    show(s);
    remember(s.recent);
    charts.draw();
    refresh();
  });
  on('sample', (s) => {
    add(s.sample);
    show(s);
    if (page.slot === null) requestAnimationFrame(charts.draw);
  });
  on('recent', happen);
  stream.onerror = () => {
    again = Date.now() + (stream.readyState === EventSource.CLOSED ? 2 * RETRY : RETRY);
    tick();
  };
}
function disconnect() {
  stream?.close();
  stream = null;
}
function state(name, words) {
  kind($('link'), 'link ' + name);
  put($('link'), words);
  document.body.classList.toggle('lost-contact', name === 'lost');
}
function tick() {
  if (!stream) return;
  const now = Date.now();
  if (stream.readyState === EventSource.OPEN) {
    if (now - heard > STALE) connect();
    return;
  }
  if (stream.readyState === EventSource.CLOSED && now >= again) connect();
  const wait = Math.ceil((again - now) / 1000);
  if (again) state('lost', wait > 0 ? `reconnecting in ${wait} s` : 'reconnecting');
}
setInterval(tick, 1_000);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) disconnect();
  else { connect(); refresh(); }
});

// --- asking the relay ---

/** The answer's JSON; an error says what the relay said. */
async function ask(path, options) {
  let response, body;
  try {
    response = await fetch(path, options);
    body = await response.json();
  } catch {
    throw Object.assign(new Error(response ? `The relay answered ${response.status} without JSON.` : 'The relay cannot be reached.'), { status: response?.status ?? 0 });
  }
  if (!response.ok) throw Object.assign(new Error(body.error || `The relay answered ${response.status}.`), { status: response.status });
  return body;
}

// --- slots ---

const PAGE = 100;
const query = { sort: 'age', order: 'asc', offset: 0 };

async function slots() {
  const asked = { ...query, limit: PAGE };
  if (chosen('state')) asked.state = chosen('state');
  if ($('search').value.trim()) asked.q = $('search').value.trim();
  const text = new URLSearchParams(asked).toString();
  slots.last = text;
  try {
    const found = await ask('admin/slots?' + text);
    if (slots.last === text) list(found);
  } catch (error) {
    if (slots.last === text && error.status) list({ total: 0, matching: 0, offset: 0, slots: [], error: error.message });
  }
}
function list({ total, matching, offset, slots: found, error }) {
  if (!found.length && offset > 0 && matching > 0) { query.offset = Math.floor((matching - 1) / PAGE) * PAGE; return slots(); }
  rows($('slots'), found, 'slot', (slot) => {
    const line = row([['', 'id'], ['', 'state'], ['', 'n'], ['phones', 'n'], ['queue', 'n'], ['version'], ['from']]);
    line.cells[0].append(make('a', { href: '#/slot/' + encodeURIComponent(slot.slot) }, slot.server_id ?? slot.slot));
    return line;
  }, (cells, slot) => {
    kind(cells[1], 'state ' + slot.state);
    [slot.state, span(slot.since_seconds), count(slot.phones) + (slot.parked ? ` + ${count(slot.parked)} parked` : ''), bytes(slot.queue_bytes), slot.version ?? '', slot.remote ?? '']
      .forEach((text, i) => put(cells[i + 1], text));
  });
  const blank = $('slots-blank');
  blank.hidden = found.length > 0;
  put(blank, error ?? (total ? 'No slot matches.' : 'No slot yet: none is there before a binary claims its server-id.'));
  const range = found.length ? `${count(offset + 1)} to ${count(offset + found.length)} of ` : '';
  put($('slots-total'), `${range}${count(matching)}${matching < total ? ` matching, ${count(total)} in all` : ''}`);
  $('previous').disabled = offset === 0;
  $('next').disabled = offset + found.length >= matching;
  for (const button of document.querySelectorAll('[data-sort]')) {
    const here = button.dataset.sort === query.sort, header = button.parentElement;
    if (here) header.setAttribute('aria-sort', query.order === 'asc' ? 'ascending' : 'descending'); else header.removeAttribute('aria-sort');
  }
}
function again_from(offset) {
  query.offset = offset;
  $('slots-scroll').scrollTop = 0;
  return slots();
}
for (const button of document.querySelectorAll('[data-sort]')) button.addEventListener('click', () => {
  const same = query.sort === button.dataset.sort;
  query.order = same ? (query.order === 'asc' ? 'desc' : 'asc') : /phones|queue/.test(button.dataset.sort) ? 'desc' : 'asc';
  query.sort = button.dataset.sort;
  again_from(0);
});
$('states').addEventListener('change', () => again_from(0));
$('search').addEventListener('input', () => {
  clearTimeout(slots.typing);
  slots.typing = setTimeout(again_from, 150, 0);
});
$('previous').addEventListener('click', () => again_from(Math.max(0, query.offset - PAGE)));
$('next').addEventListener('click', () => again_from(query.offset + PAGE));

// --- one slot ---

const page = { slot: null };
const fact = fields($('facts'), 's');

async function slot() {
  const asked = page.slot;
  let found;
  try {
    found = await ask('admin/slots/' + encodeURIComponent(asked));
  } catch (error) {
    if (page.slot !== asked || !error.status) return;
    gone(error.status === 404 ? `${error.message} Slots have new names after each start of the relay.` : error.message);
    return;
  }
  if (page.slot !== asked) return;
  gone('');
  const { binary, phones } = found;
  put($('slot-state'), found.state);
  kind($('slot-state'), 'state ' + found.state);
  const said = {
    since: span(found.since_seconds), id: found.server_id ? 'server-id ' + found.server_id : '--admin-show-ids shows its server-id',
    version: binary ? binary.version ?? 'no version' : 'none', remote: binary ? 'from ' + binary.remote : 'phones wait for it',
    connected: binary ? span(binary.connected_seconds) : '–', resumable: binary ? (binary.resumable ? 'can resume' : 'cannot resume') : '',
    queue: binary ? bytes(binary.queue_bytes) : '–', 'queue-all': `${bytes(found.queue_bytes)} with its phones`,
    phones: count(phones.length), parked: `${count(found.parked)} parked`,
  };
  for (const name in said) put(fact[name], said[name]);
  rows($('phones'), phones, 'phone', buildPhone, showPhone);
  $('phones-blank').hidden = phones.length > 0;
}
function gone(why) {
  put($('slot-gone'), why);
  $('slot-gone').hidden = !why;
  $('slot-there').hidden = $('close-slot').hidden = Boolean(why);
  if (why) { put($('slot-state'), ''); kind($('slot-state'), 'hidden'); }
}
function buildPhone({ phone }) {
  const line = row([['', 'id'], [''], ['', 'state'], ['for', 'n'], ['queue', 'n'], ['from'], ['up', 'n'], ['down', 'n'], ['', 'n']]);
  for (const i of [0, 1]) line.cells[6 + i].append(make('span'), svg('svg', { class: `sizes s${i}`, viewBox: '0 0 47 16', role: 'img' }));
  const button = make('button', { class: 'danger', 'aria-label': 'Close phone ' + phone }, 'Close…');
  button.addEventListener('click', () => close(`phone ${phone}`, 'It is closed with 1001 “closed by the operator”. Its app may dial again.', `admin/slots/${encodeURIComponent(page.slot)}/phones/${encodeURIComponent(phone)}/close`));
  line.cells[8].append(button);
  return line;
}
function showPhone(cells, p) {
  [p.phone, p.device_name ?? '', p.state, span(p.connected_seconds), bytes(p.queue_bytes), p.remote].forEach((text, i) => put(cells[i], text));
  kind(cells[2], 'state ' + p.state);
  [[p.frames_up, p.last_up_bytes], [p.frames_down, p.last_down_bytes]].forEach(([frames, sizes], i) => {
    const [number, bars] = cells[6 + i].children;
    put(number, count(frames));
    const text = sizes.length ? 'last frames, oldest first: ' + sizes.map(bytes).join(', ') : 'no frames';
    if (bars.getAttribute('aria-label') === text) return;
    bars.setAttribute('aria-label', text);
    // 64 B is the lowest bar, 1 MiB and more the highest, a factor of two the same height everywhere.
    const bar = (size, k) => {
      const height = size === undefined ? 1 : Math.max(2, Math.min(16, 2 + Math.log2(size / 64)));
      return svg('rect', { x: k * 6, y: 16 - height, width: 5, height, class: size === undefined ? 'none' : '' });
    };
    const eight = [...Array(8 - Math.min(8, sizes.length)), ...sizes.slice(-8)];
    bars.replaceChildren(svg('title', {}, text), ...eight.map(bar));
  });
}

// --- closing ---

const TOKEN = 'admin-token';
let closing = null;

function close(what, consequence, path) {
  closing = { what, path };
  put($('dialog-title'), `Close ${what}?`);
  put($('dialog-text'), consequence);
  put($('dialog-error'), '');
  put($('confirm'), `Close ${what.split(' ')[0]}`);
  $('token').value = '';
  $('token-part').hidden = Boolean(keep.get('sessionStorage', TOKEN));
  $('dialog').showModal();
  ($('token-part').hidden ? $('cancel') : $('token')).focus();
}
$('close-slot').addEventListener('click', () => close(`slot ${page.slot}`, 'Its binary and all its phones are closed with 1001 “closed by the operator”. They may dial again.', `admin/slots/${encodeURIComponent(page.slot)}/close`));
$('cancel').addEventListener('click', () => $('dialog').close());
$('dialog').addEventListener('close', () => {
  if (!document.activeElement || document.activeElement === document.body) $('phones-title').focus();
});
$('dialog-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const token = $('token-part').hidden ? keep.get('sessionStorage', TOKEN) : $('token').value.trim();
  if (!/^[\x21-\x7e]+$/.test(token ?? '')) return refused('The token is what the relay printed: printable ASCII, no spaces.');
  $('confirm').disabled = true;
  put($('dialog-error'), '');
  try {
    const { closed } = await ask(closing.path, { method: 'POST', headers: { 'X-Pyrycode-Admin-Token': token } });
    keep.set('sessionStorage', TOKEN, token);
    $('dialog').close();
    notice(`Closed ${closing.what}: ${plural(closed, 'connection')}.`);
  } catch (error) {
    refused(error.message, error.status);
  }
  $('confirm').disabled = false;
  refresh();
});
function refused(message, status) {
  put($('dialog-error'), message);
  if (status && status !== 401) return;
  if (status) keep.set('sessionStorage', TOKEN, null);
  $('token-part').hidden = false;
  $('token').focus();
  $('token').select();
}
function notice(text) {
  put($('notice'), text);
  clearTimeout(notice.timer);
  notice.timer = setTimeout(put, 8_000, $('notice'), '');
}

// --- which page; theme; start ---

function refresh() {
  if (document.hidden) return;
  clearTimeout(refresh.timer);
  refresh.timer = setTimeout(refresh, 2_000);
  return page.slot === null ? slots() : slot();
}
function route(event) {
  const before = page.slot;
  const named = /^#\/slot\/(.+)$/.exec(location.hash);
  try { page.slot = named ? decodeURIComponent(named[1]) : null; } catch { page.slot = null; }
  $('overview').hidden = page.slot !== null;
  $('slot').hidden = page.slot === null;
  document.title = page.slot === null ? 'pyrycode-relay' : `slot ${page.slot} – pyrycode-relay`;
  if (page.slot !== null && page.slot !== before) {
    put($('slot-name'), page.slot);
    gone('');
    $('slot-there').hidden = $('close-slot').hidden = true;
    $('phones').replaceChildren();
    relist(lists[1]);
  }
  refresh();
  if (!event) return;
  if (page.slot !== null) $('slot-title').focus();
  else (document.querySelector(`#slots a[href$="${CSS.escape(before ?? '')}"]`) ?? $('slots-title')).focus();
}
window.addEventListener('hashchange', route);
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault(); // the fragment names the page shown, it is not for jumping
  $('main').focus();
});

function theme(name) {
  if (name === 'light' || name === 'dark') document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}
$('theme').addEventListener('change', () => {
  const name = chosen('theme');
  theme(name);
  keep.set('localStorage', 'theme', name === 'system' ? null : name);
});
const remembered = document.querySelector(`input[name="theme"][value="${CSS.escape(keep.get('localStorage', 'theme') ?? 'system')}"]`);
if (remembered) { remembered.checked = true; theme(remembered.value); }

route();
if (!document.hidden) connect();
})();
