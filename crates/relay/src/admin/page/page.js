(() => {
'use strict';

// --- small things ---

const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/** An element. `text` from a peer is safe here: it only ever becomes a text node. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const kind = (node, name) => { if (node.className !== name) node.className = name; };
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

// --- figures as text ---

const grouped = new Intl.NumberFormat('en');
const three = (x) => (x >= 99.95 ? String(Math.round(x)) : x >= 9.995 ? x.toFixed(1) : x.toFixed(2));
const count = (x) => (x < 1e6 ? grouped.format(x) : x < 1e9 ? three(x / 1e6) + ' M' : three(x / 1e9) + ' G');
const rate = (x) => (x > 0 && x < 10 && x % 1 ? x.toFixed(1) : count(Math.round(x)));
function bytes(x) {
  let unit = 0;
  for (; x >= 1023.5 && unit < 4; unit++) x /= 1024;
  return (unit ? three(x) : Math.round(x)) + ' ' + ['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit];
}
const micros = (x) => (x < 999.5 ? (x < 9.95 ? x.toFixed(1) : Math.round(x)) + ' µs' : millis(x / 1000));
const millis = (x) => (x < 999.5 ? three(x) + ' ms' : three(x / 1000) + ' s');
function span(seconds) {
  const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  return d ? `${d} d ${h % 24} h` : h ? `${h} h ${m % 60} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
}
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const minute = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`;

// --- samples: a column for each figure, one entry a second, at most 15 minutes of them ---

const SPAN = 900_000, MISSING = 2_500;
const CHARTS = [
  { name: 'Connections', format: count, least: 2, series: [['phones', 'phones'], ['binaries', 'binaries']] },
  { name: 'Frames per second', format: rate, least: 2, series: [['frames_up', 'up'], ['frames_down', 'down']] },
  { name: 'Bytes per second', format: bytes, least: 64, binary: true, series: [['received_bytes', 'received'], ['sent_bytes', 'sent']] },
  { name: 'Time in the relay', format: micros, least: 10, series: [['latency_p50_us', 'p50'], ['latency_p99_us', 'p99']] },
  { name: 'Heartbeat', format: millis, least: 1, series: [['heartbeat_p50_ms', 'p50'], ['heartbeat_p99_ms', 'p99']] },
  { name: 'Queues', format: bytes, least: 1024, binary: true, series: [['queue_bytes', 'bytes']] },
];
const columns = { t: [] };
for (const chart of CHARTS) for (const [key] of chart.series) columns[key] = [];

function add(sample) {
  // A clock that was set back: what is later than now never was.
  while (columns.t.length && columns.t.at(-1) >= sample.t) for (const key in columns) columns[key].pop();
  for (const key in columns) columns[key].push(sample[key] ?? null);
  while (columns.t.length && columns.t[0] < sample.t - SPAN) for (const key in columns) columns[key].shift();
}
function addHistory(history) {
  history.t.forEach((t, i) => {
    const sample = {};
    for (const key in columns) sample[key] = history[key]?.[i];
    add(sample);
  });
}

// --- charts: small multiples with one time axis and one crosshair ---

const charts = (() => {
  const HEIGHT = 118, TOP = 8, FOOT = 16, RIGHT = 5;
  /** The moment under the crosshair, Unix ms; null: now. */
  let moment = null, drawn = 0;

  const all = CHARTS.map((spec) => {
    const chart = { spec, width: 0, paths: [], fills: [], dots: [], values: [] };
    const image = svg('svg', { 'aria-hidden': 'true' });
    chart.rules = [0, 1].map(() => svg('path', { class: 'rule' }));
    chart.times = [0, 1, 2, 3].map(() => svg('text', { class: 'x', y: HEIGHT - 3 }));
    chart.levels = [0, 1].map(() => svg('text', { x: 2 }));
    chart.hair = svg('path', { class: 'hair' });
    const caption = make('figcaption', {}, make('b', {}, spec.name));
    spec.series.forEach(([, name], i) => {
      chart.fills.push(svg('path', { class: `fill s${i}` }));
      chart.paths.push(svg('path', { class: `line s${i}` }));
      chart.dots.push(svg('circle', { class: `dot s${i}`, r: 3, cx: -9, cy: -9 }));
      const value = make('span', {}, '–');
      chart.values.push(value);
      caption.append(make('span', { class: `legend s${i}` }, name + ' ', value));
    });
    chart.base = svg('path', { class: 'rule base' });
    image.append(...chart.rules, chart.base, ...[...chart.fills].reverse(), ...[...chart.paths].reverse(), ...chart.levels, ...chart.times, chart.hair, ...chart.dots);
    chart.plot = make('div', {
      class: 'plot', tabindex: '0', role: 'slider', 'aria-label': `${spec.name}, the last 15 minutes`,
      'aria-valuemin': '-900', 'aria-valuemax': '0', 'aria-valuenow': '0', 'aria-valuetext': 'now',
    }, image);
    chart.words = make('p', { class: 'hidden' });
    $('charts').append(make('figure', {}, caption, chart.plot, chart.words));
    chart.plot.addEventListener('pointermove', (event) => look(end() - (1 - (event.offsetX / (chart.width - RIGHT))) * SPAN));
    chart.plot.addEventListener('pointerleave', () => look(null));
    chart.plot.addEventListener('blur', () => look(null));
    chart.plot.addEventListener('focus', () => tell(chart));
    chart.plot.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 60, PageDown: -60, Home: -1e9, End: 1e9, Escape: 0 }[event.key];
      if (step === undefined || !columns.t.length || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const from = moment === null ? columns.t.length - 1 : nearest(moment);
      const to = Math.max(0, Math.min(columns.t.length - 1, from + step * (event.shiftKey ? 10 : 1)));
      look(event.key === 'Escape' ? null : columns.t[to]);
      tell(chart);
    });
    return chart;
  });

  new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) all.find((c) => c.plot === target).width = contentRect.width;
    draw();
  }).observe(all[0].plot);
  const watch = new ResizeObserver((entries) => {
    for (const entry of entries) all.find((c) => c.plot === entry.target).width = entry.contentRect.width;
    draw();
  });
  all.forEach((chart) => watch.observe(chart.plot));

  const end = () => columns.t.at(-1) ?? 0;
  function nearest(t) {
    const list = columns.t;
    let low = 0, high = list.length - 1;
    while (low < high) { const mid = (low + high) >> 1; if (list[mid] < t) low = mid + 1; else high = mid; }
    return low > 0 && t - list[low - 1] < list[low] - t ? low - 1 : low;
  }

  /** Moves the crosshair to the sample next to `t`; null: back to now. */
  function look(t) {
    moment = t === null || !columns.t.length ? null : columns.t[nearest(t)];
    point();
  }
  /** Says in words where the crosshair is; only when somebody moved it, or it would talk all the time. */
  function tell(chart) {
    const i = moment === null ? columns.t.length - 1 : nearest(moment);
    if (i < 0) return;
    const ago = Math.round((end() - columns.t[i]) / 1000);
    const values = chart.spec.series.map(([key, name]) => `${name} ${text(chart.spec, key, i)}`);
    chart.plot.setAttribute('aria-valuenow', String(-ago));
    chart.plot.setAttribute('aria-valuetext', `${ago ? clock.format(columns.t[i]) : 'now'}: ${values.join(', ')}`);
  }
  const text = (spec, key, i) => (columns[key][i] == null ? '–' : spec.format(columns[key][i]));

  /** The next round figure, so that its half is one, too. */
  function ceiling(value, { least, binary }) {
    if (value <= least) return least;
    if (binary) return 2 ** Math.ceil(Math.log2(value));
    const ten = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 4, 6, 8, 10].find((n) => n * ten >= value * 0.9999) * ten;
  }

  function draw() {
    const t = columns.t, last = end();
    const words = Date.now() - drawn > 15_000;
    for (const chart of all) {
      const wide = chart.width - RIGHT, { series } = chart.spec;
      if (wide <= 0) continue;
      let top = 0;
      for (const [key] of series) for (const value of columns[key]) if (value > top) top = value;
      chart.top = ceiling(top, chart.spec);
      series.forEach(([key], s) => {
        let line = '', fill = '', start = null, before = -Infinity, x = 0;
        const values = columns[key];
        for (let i = 0; i < t.length; i++) {
          if (values[i] === null) { before = -Infinity; continue; }
          const gap = t[i] - before > MISSING;
          if (gap && start !== null) fill += `V${HEIGHT - FOOT}H${start}Z`;
          x = (wide + (t[i] - last) / SPAN * wide).toFixed(1);
          const here = `${x} ${y(chart, values[i])}`;
          line += (gap ? `M${here}h.01` : `L${here}`);
          fill += (gap ? `M${here}` : `L${here}`);
          if (gap) start = x;
          before = t[i];
        }
        if (start !== null) fill += `V${HEIGHT - FOOT}H${start}Z`;
        chart.paths[s].setAttribute('d', line);
        chart.fills[s].setAttribute('d', fill);
      });
      axes(chart, wide, last);
      if (words && t.length) {
        const ranges = series.map(([key, name]) => {
          const seen = columns[key].filter((v) => v !== null);
          return seen.length ? `${name} between ${chart.spec.format(Math.min(...seen))} and ${chart.spec.format(Math.max(...seen))}, now ${text(chart.spec, key, t.length - 1)}` : `${name}: no figures`;
        });
        put(chart.words, `In the last 15 minutes: ${ranges.join('; ')}.`);
      }
    }
    if (words && t.length) drawn = Date.now();
    point();
  }
  const y = (chart, value) => (HEIGHT - FOOT - value / chart.top * (HEIGHT - FOOT - TOP)).toFixed(1);

  function axes(chart, wide, last) {
    let rules = '';
    [1, 0.5].forEach((part, i) => {
      const at = y(chart, chart.top * part);
      rules += `M0 ${at}H${wide}`;
      chart.levels[i].setAttribute('y', +at + 3);
      put(chart.levels[i], chart.spec.format(chart.top * part));
    });
    chart.rules[0].setAttribute('d', rules);
    chart.base.setAttribute('d', `M0 ${HEIGHT - FOOT}H${wide}`);
    let marks = '', tick = Math.ceil((last - SPAN) / 300_000) * 300_000;
    for (const label of chart.times) {
      const x = wide + (tick - last) / SPAN * wide, shown = last && tick <= last && x > 16 && x < wide - 12;
      if (last && tick <= last) marks += `M${x.toFixed(1)} ${TOP}V${HEIGHT - FOOT + 3}`;
      label.setAttribute('x', x.toFixed(1));
      put(label, shown ? minute.format(tick) : '');
      tick += 300_000;
    }
    chart.rules[1].setAttribute('d', marks);
  }

  /** The crosshair, and the values under it. */
  function point() {
    const i = moment === null ? columns.t.length - 1 : nearest(moment), last = end();
    if (i < 0) return;
    for (const chart of all) {
      const wide = chart.width - RIGHT, x = (wide + (columns.t[i] - last) / SPAN * wide).toFixed(1);
      chart.hair.setAttribute('d', moment === null ? '' : `M${x} ${TOP - 4}V${HEIGHT - FOOT}`);
      chart.spec.series.forEach(([key], s) => {
        const value = columns[key][i], there = value !== null && chart.top;
        put(chart.values[s], text(chart.spec, key, i));
        chart.dots[s].setAttribute('cx', there ? x : -9);
        chart.dots[s].setAttribute('cy', there ? y(chart, value) : -9);
      });
    }
    put($('moment'), moment === null ? 'now' : `${clock.format(columns.t[i])}, ${span((last - columns.t[i]) / 1000)} ago`);
  }
  return { draw };
})();

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
    refusals: rate(sample.refusals), accepts: `${rate(sample.accepts)} accepted; ${count(totals.refusals)} refused since the start`,
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
function happen(news) {
  if ($('pause').getAttribute('aria-pressed') === 'true') {
    held = held.concat(news).slice(-MANY);
    put($('pause'), `Continue (${held.length === MANY ? 'over ' : ''}${held.length} new)`);
    return;
  }
  happenings = happenings.concat(news).slice(-MANY);
  lists.forEach((of) => prepend(of, news));
}
$('pause').addEventListener('click', () => {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  put($('pause'), paused ? 'Continue' : 'Pause');
  if (!paused) happen(held.splice(0));
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
    addHistory(s.history);
    show(s);
    // Whatever is known from the first of these on is in them, too.
    const first = s.recent.length ? s.recent[0].t : Infinity;
    happenings = happenings.filter((h) => h.t < first);
    relist(lists[0]);
    relist(lists[1]);
    happen(s.recent);
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
  put($('slot-title'), 'Slot ' + found.slot);
  put($('slot-state'), found.state);
  kind($('slot-state'), 'state ' + found.state);
  const said = {
    since: span(found.since_seconds), id: found.server_id ? 'server-id ' + found.server_id : 'the server-id is not shown',
    version: binary ? binary.version ?? 'no version' : 'none', remote: binary ? 'from ' + binary.remote : 'phones wait for it',
    connected: binary ? span(binary.connected_seconds) : '–', resumable: binary ? (binary.resumable ? 'can resume' : 'cannot resume') : '',
    queue: binary ? bytes(binary.queue_bytes) : '–', 'queue-all': `${bytes(found.queue_bytes)} with its phones`,
    phones: count(found.phones_count ?? phones.length), parked: `${count(found.parked)} parked`,
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
  const line = row([['', 'id'], ['', 'device'], ['', 'state'], ['for', 'n'], ['queue', 'n'], ['up', 'n'], ['down', 'n'], ['from'], ['', 'n']]);
  for (const i of [5, 6]) line.cells[i].append(make('span'), svg('svg', { class: `sizes s${i - 5}`, viewBox: '0 0 47 16', role: 'img' }));
  const button = make('button', { class: 'danger', 'aria-label': 'Close phone ' + phone }, 'Close…');
  button.addEventListener('click', () => close(`phone ${phone}`, 'It is closed with 1001; its app may dial again.', `admin/slots/${encodeURIComponent(page.slot)}/phones/${encodeURIComponent(phone)}/close`));
  line.cells[8].append(button);
  return line;
}
function showPhone(cells, p) {
  [p.phone, p.device_name ?? '', p.state, span(p.connected_seconds), bytes(p.queue_bytes)].forEach((text, i) => put(cells[i], text));
  kind(cells[2], 'state ' + p.state);
  put(cells[7], p.remote);
  [[p.frames_up, p.last_up_bytes], [p.frames_down, p.last_down_bytes]].forEach(([frames, sizes], i) => {
    const [number, bars] = cells[5 + i].children;
    put(number, count(frames));
    const text = sizes.length ? 'last frames, oldest first: ' + sizes.map(bytes).join(', ') : 'no frames';
    if (bars.getAttribute('aria-label') === text) return;
    bars.setAttribute('aria-label', text);
    // 64 B is the lowest bar, each factor of four a step, 1 MiB and more the highest.
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
$('close-slot').addEventListener('click', () => close(`slot ${page.slot}`, 'Its binary and all its phones are closed with 1001. They may dial again.', `admin/slots/${encodeURIComponent(page.slot)}/close`));
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
    put($('slot-title'), 'Slot ' + page.slot);
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
