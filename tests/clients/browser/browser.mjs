// A real browser on the admin page, and what every scenario asks of the page: see `Admin`.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import readline from 'node:readline';
import { chromium } from 'playwright-core';

/** How long a scenario waits for what must happen; far beyond what it takes. */
const PATIENCE = 20_000;

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Where screenshots go. */
const SCREENSHOTS = new URL('../../../target/screenshots/', import.meta.url).pathname;

export function ok(what) {
  console.log(`ok ${what} (${performance.now().toFixed()} ms)`);
}

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test that started this to do something only it can do; returns when it has. */
export async function please(what) {
  console.log('please ' + what);
  const { value } = await answers.next();
  assert.equal(value, what);
}

/** Starts the browser. `CHROMIUM` names it. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

/** The admin page, open in a context of its own. Whatever goes wrong in it is noted. */
export class Admin {
  /** What must not happen: errors in the console, exceptions, failed requests, requests to anywhere else. */
  wrong = [];
  /** Texts of `wrong` that a scenario brings about on purpose. */
  expected = [];

  static async open(browser, url, options = {}, hash = '') {
    const admin = new Admin();
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    Object.assign(admin, { page, context, url });
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && admin.wrong.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => admin.wrong.push(`exception: ${error.stack}`));
    page.on('dialog', (dialog) => admin.wrong.push(`dialog: ${dialog.message()}`));
    page.on('request', (request) => {
      const to = new URL(request.url());
      if (to.protocol !== 'data:' && to.origin !== new URL(url).origin) admin.wrong.push(`request to ${request.url()}`);
    });
    page.on('requestfailed', (request) => {
      // A page that is left ends its requests.
      if (request.failure().errorText !== 'net::ERR_ABORTED') admin.wrong.push(`failed: ${request.url()} ${request.failure().errorText}`);
    });
    await page.goto(url + hash);
    await admin.live();
    return admin;
  }

  /** Waits until the page shows what the relay says now. */
  live() {
    return this.until('the page is live', () => document.querySelector('#link').textContent === 'live');
  }

  /** Waits until `probe(argument)` holds in the page; returns what it returned. Not Playwright's own: the page's CSP forbids it. */
  async until(what, probe, argument) {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const value = await this.page.evaluate(probe, argument);
      if (value) return value;
      if (Date.now() > deadline) {
        await this.shot(`failed-${process.argv[2]}`);
        assert.fail(`waited in vain: ${what}\n${this.wrong.join('\n')}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
  }

  text(selector) {
    return this.page.evaluate((s) => document.querySelector(s).textContent, selector);
  }

  /** The text of a figure. */
  figure(name) {
    return this.text(`[data-f="${name}"]`);
  }

  async shot(name) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: `${SCREENSHOTS}admin-${name}.png` });
  }

  /** What has the focus: its id, its accessible name, or its text. */
  focused() {
    return this.page.evaluate(() => {
      const at = document.activeElement;
      return at.id || at.getAttribute('aria-label') || at.dataset.sort || (at.name ? `${at.name}=${at.value}` : at.textContent.trim());
    });
  }

  /** That the page is no wider than the window, and no figure is cut off. */
  async fits(where) {
    const cut = await this.page.evaluate(() => [...document.querySelectorAll('.value')].filter((v) => v.scrollWidth > v.clientWidth).map((v) => v.textContent));
    assert.deepEqual(cut, [], `${where}: figures that are cut off`);
    const [wide, window] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= window, `${where}: the page is ${wide} px wide in a window of ${window} px`);
  }

  /** That every text in sight has a contrast of at least 4.5 with what is behind it (WCAG 2.2, AA). */
  async legible(where, least = 20) {
    const { checked, poor } = await this.page.evaluate(contrasts);
    assert.ok(checked >= least, `${where}: only ${checked} texts were found`);
    assert.deepEqual(poor, [], where);
  }

  /** That nothing went wrong so far; then closes it. */
  async close() {
    const wrong = this.wrong.filter((text) => !this.expected.some((pattern) => pattern.test(text)));
    assert.deepEqual(wrong, []);
    await this.context.close();
  }
}

/** Runs in the page. */
function contrasts() {
  const channels = (colour) => {
    const numbers = colour.match(/[\d.]+/g).map(Number);
    return colour.startsWith('color(') ? [numbers[0] * 255, numbers[1] * 255, numbers[2] * 255, numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, alpha] = channels(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  let checked = 0;
  const modal = document.querySelector('dialog[open]');
  for (const node of (modal ?? document.body).querySelectorAll('*')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const field = node.matches('input[placeholder]');
    if (!(own || field) || node.closest('script, style, noscript, .hidden, .skip, :disabled') || !node.getClientRects().length) continue;
    const style = getComputedStyle(node, field ? '::placeholder' : null);
    const [r, g, b] = channels(node instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance([r, g, b]), luminance(behind(node))].sort((x, y) => y - x);
    const ratio = (light + 0.05) / (dark + 0.05);
    checked += 1;
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className.baseVal ?? node.className} ${node.textContent.slice(0, 30)}`);
  }
  return { checked, poor };
}
