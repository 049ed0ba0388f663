// The admin page in a real browser. Usage: node admin.mjs SCENARIO http://HOST:PORT/ [TOKEN]
// Prints a line `ok …` for each check and `done` at the end; exits with 1 at the first check that fails.
import assert from 'node:assert/strict';
import { Admin, launch, ok, please } from './browser.mjs';

const [scenario, url, token] = process.argv.slice(2);
const WRONG = 'not-the-token-that-was-printed';
const REFUSED = /^console: Failed to load resource: .* 401/;

/** Opens the slot with the most phones. */
async function busiest(admin) {
  await admin.page.click('[data-sort="phones"]');
  await admin.until('sorted by phones', () => document.querySelector('[aria-sort="descending"] [data-sort="phones"]'));
  await admin.page.click('#slots a');
  await admin.until('the phones', () => document.querySelector('#phones tr'));
}

/** What just happened, newest first. */
const listed = (admin) => admin.page.evaluate(() => [...document.querySelectorAll('#recent li')].map((li) => li.textContent));

const scenarios = {
  /** Traffic flows meanwhile: one daemon, two phones. */
  async live(browser) {
    const admin = await Admin.open(browser, url);
    assert.equal(await admin.page.title(), 'pyrycode-relay');
    assert.match(await admin.text('#version'), /./);
    assert.equal(await admin.text('#phase'), 'ready');
    await admin.until('one binary and two phones', () => [...document.querySelectorAll('[data-f="binaries"], [data-f="phones"]')].map((n) => n.textContent).join() === '2,1');
    ok('the head and the figures are there');

    await admin.until('frames both ways', () => ['frames-up', 'frames-down'].every((f) => parseFloat(document.querySelector(`[data-f="${f}"]`).textContent) > 0));
    const total = await admin.figure('bytes-total'), uptime = await admin.text('#uptime');
    await admin.until('the figures change', ([t, u]) => document.querySelector('[data-f="bytes-total"]').textContent !== t && document.querySelector('#uptime').textContent !== u, [total, uptime]);
    ok('the figures follow the traffic');

    const points = () => admin.page.evaluate(() => [...document.querySelectorAll('.plot .line')].map((path) => (path.getAttribute('d').match(/[ML]/g) ?? []).length));
    const before = await points();
    assert.equal(before.length, 11);
    await admin.until('the charts get points', (then) => [...document.querySelectorAll('.plot .line')].slice(0, 6).every((path, i) => path.getAttribute('d').match(/[ML]/g).length > then[i]), before);
    await admin.until('a latency is known', () => /\d µs|\d ms/.test(document.querySelectorAll('.charts figure')[3].querySelector('.legend').textContent));
    ok('the charts get points');

    const { x, y, width } = await admin.page.locator('.plot').nth(1).boundingBox();
    await admin.page.mouse.move(x + width - 10, y + 40);
    assert.notEqual(await admin.text('#moment'), 'now');
    assert.equal(await admin.page.evaluate(() => [...document.querySelectorAll('.hair')].filter((h) => h.getAttribute('d')).length), 6);
    await admin.page.mouse.move(0, 0);
    assert.equal(await admin.text('#moment'), 'now');
    ok('one crosshair on all charts');

    await admin.until('the slot is listed', () => document.querySelectorAll('#slots tr').length === 1);
    await admin.until('its claim is among what just happened', () => /server_claimed|claimed/.test(document.querySelector('#recent').textContent));
    const slot = await admin.text('#slots a');
    const shown = await listed(admin);
    await admin.page.click('#pause');
    await admin.page.evaluate(() => {
      document.querySelector('#pause').textContent = 'until the stream begins anew';
      for (const hidden of [true, false]) {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }
    });
    await admin.until('a new stream', () => !/until/.test(document.querySelector('#pause').textContent));
    assert.deepEqual([await listed(admin), await admin.text('#pause')], [shown, 'Continue']);
    await admin.page.click('#pause');
    assert.deepEqual([await listed(admin), await admin.text('#pause')], [shown, 'Pause']);
    ok('a list that is paused stays as it is when the stream begins anew');

    await admin.page.click('#slots a');
    await admin.until('two phones with bars', () => document.querySelectorAll('#phones tr').length === 2 && document.querySelectorAll('#phones .sizes rect:not(.none)').length >= 4);
    assert.equal(new URL(admin.page.url()).hash, '#/slot/' + slot);
    await admin.page.reload();
    await admin.until('the slot again', () => document.querySelectorAll('#phones tr').length === 2);
    const sent = await admin.text('#phones td:nth-child(7) span');
    await admin.until('its frames are counted', (then) => document.querySelector('#phones td:nth-child(7) span').textContent !== then, sent);
    ok('a slot has a page, which is reloaded and follows the traffic');
    await admin.page.click('nav a');
    await admin.page.goBack();
    await admin.until('the slot by the back button', () => !document.querySelector('#slot-there').hidden);
    await admin.page.goBack();
    await admin.until('the overview by the back button', () => !document.querySelector('#overview').hidden);
    ok('the back button works');

    await admin.page.goto(url + '#/slot/000000000000');
    await admin.until('no such slot', () => /\w/.test(document.querySelector('#slot-gone').textContent));
    admin.expected.push(/^console: Failed to load resource: .* 404/);
    ok('a slot that is not there is said to be gone');
    await admin.close();
  },

  /** Both themes, and a narrow window; some slots, and traffic. */
  async looks(browser) {
    const backgrounds = {};
    for (const colorScheme of ['light', 'dark']) {
      const admin = await Admin.open(browser, url, { colorScheme, viewport: { width: 1440, height: 900 } });
      await admin.until('slots and happenings', () => document.querySelector('#slots tr') && document.querySelector('#recent li'));
      backgrounds[colorScheme] = await admin.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      await admin.legible(colorScheme);
      for (const width of [1440, 1280, 1024, 800]) {
        await admin.page.setViewportSize({ width, height: 900 });
        await admin.fits(`${width} px`);
      }
      await admin.page.setViewportSize({ width: 1440, height: 900 });
      await admin.shot(colorScheme);
      await busiest(admin);
      await admin.legible(`${colorScheme}, a slot`);
      await admin.shot(`slot-${colorScheme}`);
      await admin.page.click('#close-slot');
      await admin.page.fill('#token', 'two words');
      await admin.page.keyboard.press('Enter');
      await admin.until('the error', () => document.querySelector('#dialog-error').textContent);
      await admin.legible(`${colorScheme}, closing`, 5);
      await admin.shot(`closing-${colorScheme}`);
      await admin.close();
    }
    assert.notEqual(backgrounds.light, backgrounds.dark);
    ok('both themes of the system, every text with a contrast of 4.5');

    const admin = await Admin.open(browser, url, { colorScheme: 'light' });
    const background = () => admin.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await admin.page.check('input[value="dark"]', { force: true });
    assert.equal(await background(), backgrounds.dark);
    await admin.page.reload();
    assert.equal(await background(), backgrounds.dark);
    await admin.page.check('input[name="theme"][value="system"]', { force: true });
    assert.equal(await background(), backgrounds.light);
    await admin.close();
    ok('the theme is chosen, and remembered');

    for (const [name, hash] of [['phone', ''], ['slot-phone', '#/slot/']]) {
      const narrow = await Admin.open(browser, url, { colorScheme: 'dark', viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true });
      await narrow.until('slots', () => document.querySelector('#slots tr'));
      if (hash) await busiest(narrow);
      await narrow.fits(name);
      await narrow.legible(name);
      await narrow.shot(name);
      if (hash) {
        await narrow.page.click('#close-slot');
        await narrow.fits(`${name}, closing`);
      }
      await narrow.close();
    }
    ok('nothing is wider than a window of 360 px');
  },

  /** One daemon with two phones. Never touches the mouse. */
  async keyboard(browser) {
    const admin = await Admin.open(browser, url);
    const { page } = admin;
    const press = (key) => page.keyboard.press(key);
    await admin.until('the slot is listed', () => document.querySelector('#slots a'));

    const seen = [];
    for (let i = 0; i < 60; i++) {
      await press('Tab');
      const name = await admin.focused();
      if (seen.includes(name)) break;
      seen.push(name);
      const visible = await page.evaluate(() => {
        const at = document.activeElement;
        const shown = at.matches('.choice input') ? at.nextElementSibling : at;
        return at === document.body || at.matches('.skip') || getComputedStyle(shown).outlineStyle !== 'none';
      });
      assert.ok(visible, `the focus is seen on: ${name}`);
    }
    const slot = await admin.text('#slots a');
    const order = ['Skip to the content', 'pyrycode-relay', 'theme=system', 'Connections, the last 15 minutes', 'Queues, the last 15 minutes', 'search', 'slot', 'age', 'phones', 'queue', slot, 'pause'];
    assert.deepEqual(seen.filter((name) => order.includes(name)), order, seen.join(' | '));
    ok('everything is reached by Tab, in order, and the focus is seen');

    await page.focus('.plot >> nth=0');
    await admin.until('some samples', () => columns.t.length > 3);
    await press('ArrowLeft');
    await press('ArrowLeft');
    assert.match(await admin.text('#moment'), /\d\d:\d\d:\d\d, .* ago/);
    assert.match(await page.getAttribute('.plot >> nth=0', 'aria-valuetext'), /^\d\d:\d\d:\d\d: phones \d, binaries \d$/);
    await press('Escape');
    assert.equal(await admin.text('#moment'), 'now');
    ok('arrow keys move the crosshair, and it is told in words');

    await page.focus('#slots a');
    await press('Enter');
    await admin.until('the slot', () => document.querySelectorAll('#phones tr').length === 2);
    assert.equal(await admin.focused(), 'slot-title');
    await page.focus('.skip');
    await press('Enter');
    assert.deepEqual([await admin.focused(), await page.isVisible('#slot-there')], ['main', true]);
    const phone = await admin.text('#phones tr:nth-child(1) td');
    for (let i = 0; (await admin.focused()) !== `Close phone ${phone}`; i++) {
      assert.ok(i < 20, 'the button is reached');
      await press('Tab');
    }
    await press('Enter');
    assert.equal(await admin.focused(), 'token');
    for (const key of [...Array(7).fill('Tab'), ...Array(7).fill('Shift+Tab')]) {
      await press(key);
      assert.ok(await page.evaluate(() => document.activeElement === document.body || document.querySelector('#dialog').contains(document.activeElement)), 'the focus stays in the dialog');
    }
    await press('Escape');
    assert.equal(await page.evaluate(() => document.querySelector('#dialog').open), false);
    assert.equal(await admin.focused(), `Close phone ${phone}`);
    ok('the dialog keeps the focus, Escape gives it back');

    await press('Enter');
    await page.keyboard.type(token);
    await press('Enter');
    await admin.until('it is said to be closed', () => /^Closed phone/.test(document.querySelector('#notice').textContent));
    await admin.until('it is gone', () => document.querySelectorAll('#phones tr').length === 1);
    assert.ok(!page.url().includes(token));
    ok('a phone is closed by keyboard');
    await admin.close();
  },

  /** One daemon with one phone. */
  async closing(browser) {
    const admin = await Admin.open(browser, url);
    const { page } = admin;
    admin.expected.push(REFUSED);
    await admin.until('the slot is listed', () => document.querySelector('#slots a'));
    await page.click('#slots a');
    await admin.until('the phone', () => document.querySelector('#phones tr'));

    await page.click('#close-slot');
    assert.match(await admin.text('#token-help'), /standard output/);
    await page.fill('#token', WRONG);
    await page.keyboard.press('Enter');
    await admin.until('the relay refuses', () => document.querySelector('#dialog-error').textContent);
    assert.match(await admin.text('#dialog-error'), /token/);
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    ok('a wrong token is refused, in the words of the relay');
    await please('see that nobody was closed');

    await page.fill('#token', token);
    await page.click('#confirm');
    await admin.until('it is said to be closed', () => /^Closed slot/.test(document.querySelector('#notice').textContent));
    ok('a slot is closed');
    await please('see that both were closed, and connect again');

    await page.click('nav a');
    await admin.until('the slot is back', () => document.querySelector('#slots .live'));
    await page.click('#slots a');
    await admin.until('the phone is back', () => document.querySelector('#phones button'));
    await page.click('#phones button');
    assert.ok(await page.evaluate(() => document.querySelector('#token-part').hidden), 'the token is asked for once');
    await page.click('#confirm');
    await admin.until('it is said to be closed', () => /^Closed phone/.test(document.querySelector('#notice').textContent));
    ok('the token is asked for once');
    await please('see that the phone was closed');
    const kept = await page.evaluate(() => JSON.stringify([location.href, { ...localStorage }, document.cookie]));
    assert.ok(!kept.includes(token), kept);
    await admin.close();
  },

  /** The relay is stopped and started when asked to. */
  async restart(browser) {
    const admin = await Admin.open(browser, url);
    await admin.until('a sample', () => columns.t.length > 1);
    admin.expected.push(/net::ERR_|^failed:/);
    await admin.page.click('#pause');
    const shown = await listed(admin);
    await please('stop the relay');
    await admin.until('it is said to be gone', () => /^reconnecting/.test(document.querySelector('#link').textContent));
    await admin.until('a gap', () => Date.now() - columns.t.at(-1) > 2_600);
    ok('a lost relay is said to be lost');
    const samples = await admin.page.evaluate(() => columns.t.length);
    await please('start it, with a daemon');
    await admin.live();
    await admin.until('the new relay', () => document.querySelector('[data-f="binaries"]').textContent === '1' && document.querySelectorAll('#slots tr').length === 1);
    assert.ok((await admin.page.evaluate(() => columns.t.length)) > samples, 'what was known is kept');
    await admin.until('the gap is left open', () => document.querySelector('.plot .line').getAttribute('d').match(/M/g).length === 2);
    ok('the page finds the relay again');
    await admin.until('what happened meanwhile waits', () => /^Continue \(\d+ new\)$/.test(document.querySelector('#pause').textContent));
    const news = parseInt((await admin.text('#pause')).slice('Continue ('.length), 10);
    assert.deepEqual(await listed(admin), shown);
    await admin.page.click('#pause');
    const all = await listed(admin);
    assert.deepEqual([all.length, all.slice(news)], [shown.length + news, shown]);
    ok('what happened while the list was paused comes behind it, once');
    await admin.close();
  },

  /** A daemon and a phone whose names are markup. */
  async hostile(browser) {
    const admin = await Admin.open(browser, url);
    await admin.until('the slot is listed', () => document.querySelector('#slots a'));
    assert.match(await admin.text('#slots'), /<b>9\.9<\/b>/);
    await admin.until('it is among what happened', () => document.querySelector('#recent li'));
    await admin.page.click('#slots a');
    await admin.until('the phone', () => document.querySelector('#phones tr'));
    assert.match(await admin.text('#phones'), /<script>/);
    assert.match(await admin.text('#facts'), /<b>9\.9<\/b>/);
    await admin.page.goto(url + '#/slot/' + encodeURIComponent('<img src=x onerror=alert(1)>'));
    await admin.until('no such slot', () => document.querySelector('#slot-gone').textContent);
    admin.expected.push(/^console: Failed to load resource: .* 40[04]/);
    const made = await admin.page.evaluate(() => [document.images.length, document.scripts.length, document.querySelectorAll('td b, dd b').length, document.title.startsWith('owned')]);
    assert.deepEqual(made, [0, 2, 0, false]);
    ok('what peers send is text');
    await admin.close();
  },

  /** 260 slots: 200 live, of them 20 with two phones; 40 in grace; 20 waiting. */
  async many(browser) {
    const admin = await Admin.open(browser, url);
    const { page } = admin;
    const listed = () => page.evaluate(() => [...document.querySelectorAll('#slots tr')].map((row) => [...row.cells].map((cell) => cell.textContent)));
    const total = (text) => admin.until(`the total is ${text}`, (wanted) => document.querySelector('#slots-total').textContent === wanted, text);
    await total('1 to 100 of 260');
    assert.equal((await listed()).length, 100);
    await page.click('#next');
    await total('101 to 200 of 260');
    await page.click('#next');
    await total('201 to 260 of 260');
    assert.equal(await page.isDisabled('#next'), true);
    await page.click('#previous');
    await total('101 to 200 of 260');
    ok('a hundred on each page, back and forth');

    await page.click('[data-sort="slot"]');
    await total('1 to 100 of 260');
    await admin.until('sorted by name', () => document.querySelector('[aria-sort] button').dataset.sort === 'slot');
    const names = (await listed()).map(([name]) => name);
    assert.deepEqual(names, [...names].sort());
    await page.click('[data-sort="slot"]');
    await admin.until('the other way', () => document.querySelector('[aria-sort="descending"]'));
    const back = (await listed()).map(([name]) => name);
    assert.deepEqual(back, [...back].sort().reverse());
    await page.click('[data-sort="phones"]');
    await admin.until('sorted by phones', () => document.querySelector('[aria-sort] button').dataset.sort === 'phones');
    const phones = (await listed()).slice(0, 20).map((cells) => cells[3]);
    assert.deepEqual(phones, Array(20).fill('2'));
    ok('sorted by the headers');

    for (const [state, n] of [['grace', 40], ['waiting', 20]]) {
      await page.check(`input[value="${state}"]`, { force: true });
      await total(`1 to ${n} of ${n} matching, 260 in all`);
      assert.ok((await listed()).every((cells) => cells[1] === state));
    }
    await page.check('input[name="state"][value=""]', { force: true });
    ok('filtered by state');

    await page.fill('#search', names[7].slice(0, 9));
    await total('1 to 1 of 1 matching, 260 in all');
    assert.equal((await listed())[0][0], names[7]);
    await page.fill('#search', 'server-number-3');
    await total('1 to 1 of 1 matching, 260 in all');
    await page.fill('#search', 'nobody');
    await admin.until('nothing matches', () => /No slot matches/.test(document.querySelector('#slots-blank').textContent));
    ok('found by the start of a hash, and by a server-id');
    await admin.close();
  },
};

const browser = await launch();
try {
  await scenarios[scenario](browser);
  console.log('done');
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.stdin.destroy();
}
