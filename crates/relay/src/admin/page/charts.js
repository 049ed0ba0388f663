// The charts, and what they and page.js stand on: elements, figures as text, samples.
'use strict';

// --- elements ---

const $ = (id) => document.getElementById(id);

/** Fills a new element. What a peer sent is safe here: it only ever becomes a text node. */
function fill(node, attributes, children) {
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  node.append(...children);
  return node;
}
const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const kind = (node, name) => { if (node.className !== name) node.className = name; };
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
  { title: 'Connections', format: count, least: 2, series: [['phones', 'phones'], ['binaries', 'binaries']] },
  { title: 'Frames per second', format: rate, least: 2, series: [['frames_up', 'up'], ['frames_down', 'down']] },
  { title: 'Bytes per second', format: bytes, least: 64, series: [['received_bytes', 'received'], ['sent_bytes', 'sent']] },
  { title: 'Time in the relay', format: micros, least: 10, series: [['latency_p50_us', 'p50'], ['latency_p99_us', 'p99']] },
  { title: 'Heartbeat', format: millis, least: 1, series: [['heartbeat_p50_ms', 'p50'], ['heartbeat_p99_ms', 'p99']] },
  { title: 'Queues', format: bytes, least: 1024, series: [['queue_bytes', 'bytes']] },
];
const columns = { t: [] };
for (const { series } of CHARTS) for (const [key] of series) columns[key] = [];

function add(sample) {
  const each = (act) => { for (const key in columns) act(columns[key], key); };
  // A clock that was set back: what is later than now never was.
  while (columns.t.at(-1) >= sample.t) each((column) => column.pop());
  each((column, key) => column.push(sample[key] ?? null));
  while (columns.t[0] < sample.t - SPAN) each((column) => column.shift());
}

// --- charts: small multiples with one time axis and one crosshair ---

const charts = (() => {
  const LEFT = 48, RIGHT = 5, TOP = 8, BOTTOM = 100;
  let moment = null; // the time under the crosshair, Unix ms; null: now
  let wide = 0, worded = 0;

  const latest = () => columns.t.at(-1) ?? 0;
  const x = (t) => (wide - RIGHT - (latest() - t) / SPAN * (wide - RIGHT - LEFT)).toFixed(1);
  const y = (chart, value) => (BOTTOM - value / chart.top * (BOTTOM - TOP)).toFixed(1);
  const said = (chart, key, i) => (columns[key][i] == null ? '–' : chart.format(columns[key][i]));

  const all = CHARTS.map((spec) => {
    const path = (name) => svg('path', { class: name });
    const text = (name, more) => svg('text', { class: name, ...more });
    const chart = { ...spec, top: spec.least, rule: path('rule'), base: path('rule base'), hair: path('hair'), fill: path('fill') };
    chart.times = [0, 1, 2, 3].map(() => text('x', { y: 115 }));
    chart.levels = [0, 1, 2].map(() => text('y', { x: LEFT - 6 }));
    chart.lines = spec.series.map(([key, name], i) => ({
      key, name, path: path(`line s${i}`), dot: svg('circle', { class: `dot s${i}`, r: 3 }), value: make('span', {}, '–'),
    }));
    const image = svg('svg', { 'aria-hidden': 'true' }, chart.rule, chart.base, chart.fill, ...chart.lines.map((l) => l.path).reverse(),
      ...chart.levels, ...chart.times, chart.hair, ...chart.lines.map((l) => l.dot));
    chart.plot = make('div', { class: 'plot', tabindex: 0, role: 'slider', 'aria-label': spec.title + ', the last 15 minutes',
      'aria-valuemin': -900, 'aria-valuemax': 0, 'aria-valuenow': 0, 'aria-valuetext': 'now' }, image);
    chart.words = make('p', { class: 'hidden' });
    $('charts').append(make('figure', {}, make('figcaption', {}, make('b', {}, spec.title),
      ...chart.lines.map((l, i) => make('span', { class: `legend s${i}` }, l.name + ' ', l.value))), chart.plot, chart.words));

    const on = (event, act) => chart.plot.addEventListener(event, act);
    on('pointermove', (event) => look(latest() - (wide - RIGHT - event.offsetX) / (wide - RIGHT - LEFT) * SPAN));
    on('pointerleave', () => look(null));
    on('blur', () => look(null));
    on('focus', () => tell(chart));
    on('keydown', (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 60, PageDown: -60, Home: -1e9, End: 1e9, Escape: NaN };
      if (!(event.key in steps) || !columns.t.length || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const to = nearest(moment ?? latest()) + steps[event.key] * (event.shiftKey ? 10 : 1);
      look(columns.t[Math.max(0, Math.min(columns.t.length - 1, to))] ?? null);
      tell(chart);
    });
    return chart;
  });
  // All are of one size.
  new ResizeObserver(([{ contentRect }]) => { wide = contentRect.width; draw(); }).observe(all[0].plot);

  /** The index of the sample next to `t`. */
  function nearest(t) {
    const after = columns.t.findIndex((other) => other >= t);
    if (after < 0) return columns.t.length - 1;
    return after > 0 && t - columns.t[after - 1] < columns.t[after] - t ? after - 1 : after;
  }
  /** Moves the crosshair; null: back to now. */
  function look(t) {
    moment = t === null || !columns.t.length ? null : columns.t[nearest(t)];
    point();
  }
  /** Says where the crosshair is. Only when somebody moved it: once a second would be a chatter. */
  function tell(chart) {
    if (!columns.t.length) return;
    const i = nearest(moment ?? latest()), values = chart.lines.map(({ key, name }) => `${name} ${said(chart, key, i)}`);
    chart.plot.setAttribute('aria-valuenow', Math.round((columns.t[i] - latest()) / 1000));
    chart.plot.setAttribute('aria-valuetext', `${moment === null ? 'now' : clock.format(moment)}: ${values.join(', ')}`);
  }

  /** The next round figure, so that its half is one, too. */
  function ceiling(value, { least, format }) {
    if (value <= least) return least;
    if (format === bytes) return 2 ** Math.ceil(Math.log2(value));
    const ten = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 4, 6, 8, 10].find((n) => n * ten >= value * 0.9999) * ten;
  }
  function trace(chart, values, fill) {
    let path = '', from = null, before = -Infinity, to;
    const end = () => (fill && from !== null ? `V${BOTTOM}H${from}Z` : '');
    columns.t.forEach((t, i) => {
      if (values[i] === null) return;
      const gap = t - before > MISSING;
      if (gap) path += end();
      to = x(t);
      path += `${gap ? 'M' : 'L'}${to} ${y(chart, values[i])}`;
      if (gap) { from = to; path += 'h.01'; } // so that a sample between two gaps is a dot
      before = t;
    });
    return path + end();
  }
  function axes(chart) {
    chart.levels.forEach((level, i) => {
      level.setAttribute('y', +y(chart, chart.top * i / 2) + 3.5);
      put(level, chart.format(chart.top * i / 2).replace(/\.0+(?= )/, ''));
    });
    let rules = [0.5, 1].map((part) => `M${LEFT} ${y(chart, chart.top * part)}H${wide - RIGHT}`).join('');
    let tick = Math.ceil((latest() - SPAN) / 300_000) * 300_000;
    for (const label of chart.times) {
      const at = x(tick), there = latest() && tick <= latest();
      if (there) rules += `M${at} ${TOP}V${BOTTOM + 3}`;
      label.setAttribute('x', at);
      put(label, there && at < wide - 14 ? minute.format(tick) : '');
      tick += 300_000;
    }
    chart.rule.setAttribute('d', rules);
    chart.base.setAttribute('d', `M${LEFT} ${BOTTOM}H${wide - RIGHT}`);
  }
  function draw() {
    if (!wide) return;
    const words = columns.t.length && Date.now() - worded > 15_000;
    if (words) worded = Date.now();
    for (const chart of all) {
      chart.top = ceiling(Math.max(...chart.lines.flatMap(({ key }) => columns[key])), chart);
      axes(chart);
      for (const { key, path } of chart.lines) path.setAttribute('d', trace(chart, columns[key], false));
      chart.fill.setAttribute('d', trace(chart, columns[chart.lines[0].key], true));
      if (words) put(chart.words, 'In the last 15 minutes: ' + chart.lines.map(({ key, name }) => {
        const seen = columns[key].filter((value) => value !== null);
        return name + (seen.length ? ` between ${chart.format(Math.min(...seen))} and ${chart.format(Math.max(...seen))}` : ': no figures');
      }).join('; ') + '.');
    }
    point();
  }
  /** The crosshair, and the values under it. */
  function point() {
    if (!columns.t.length) return;
    const i = nearest(moment ?? latest()), at = x(columns.t[i]);
    for (const chart of all) {
      chart.hair.setAttribute('d', moment === null ? '' : `M${at} ${TOP - 4}V${BOTTOM}`);
      for (const { key, dot, value } of chart.lines) {
        const there = columns[key][i] !== null;
        put(value, said(chart, key, i));
        dot.setAttribute('cx', there ? at : -9);
        dot.setAttribute('cy', there ? y(chart, columns[key][i]) : -9);
      }
    }
    put($('moment'), moment === null ? 'now' : `${clock.format(moment)}, ${span((latest() - moment) / 1000)} ago`);
  }
  return { draw };
})();
