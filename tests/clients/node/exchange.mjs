// One exchange through the relay with npm `ws`, on both legs. Usage: node exchange.mjs ws[s]://HOST:PORT
// Prints one `ok` line per check; exits with 1 at the first that fails.
import assert from 'node:assert/strict';
import WebSocket from 'ws';

const relay = process.argv[2];
const serverId = 'node-' + process.pid;
const deadline = setTimeout(() => fail(new Error('no progress for 30 s')), 30_000);

function fail(error) {
  console.error(error);
  process.exit(1);
}

function ok(what) {
  console.log('ok ' + what);
}

/** A connection whose events are awaited one by one. `ws` offers permessage-deflate by default. */
class Peer {
  #events = [];
  #waiting = [];

  constructor(path, headers) {
    this.socket = new WebSocket(relay + path, { headers });
    this.socket.on('open', () => this.#push({ open: true }));
    this.socket.on('message', (data, isBinary) => this.#push({ text: String(data), isBinary }));
    this.socket.on('close', (code, reason) => this.#push({ code, reason: String(reason) }));
    this.socket.on('error', (error) => this.#push({ error: error.message }));
    this.socket.on('upgrade', (response) => (this.response = response));
  }

  #push(event) {
    const next = this.#waiting.shift();
    if (next) next(event);
    else this.#events.push(event);
  }

  next() {
    if (this.#events.length > 0) return Promise.resolve(this.#events.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async opened() {
    assert.deepEqual(await this.next(), { open: true });
    assert.equal(this.response.headers['sec-websocket-extensions'], undefined);
    assert.equal(this.response.headers['sec-websocket-protocol'], undefined);
    assert.equal(this.socket.extensions, '');
    return this;
  }

  async text() {
    const event = await this.next();
    assert.equal(event.isBinary, false, 'a text message: ' + JSON.stringify(event));
    return event.text;
  }
}

function daemon() {
  const headers = {
    'x-pyrycode-server': serverId,
    'x-pyrycode-version': '1.0.0',
    'user-agent': 'pyry/1.0.0',
  };
  return new Peer('/v1/server', headers).opened();
}

function phone(id = serverId) {
  const headers = {
    'x-pyrycode-server': id,
    'x-pyrycode-token': 'phone-token-6f1c02',
    'user-agent': 'pyrycode-desktop/1.0.0',
    'x-pyrycode-device-name': 'node',
  };
  return new Peer('/v1/client', headers).opened();
}

async function exchange() {
  const holder = await daemon();
  ok('a daemon is accepted, nothing negotiated');
  const guest = await phone();
  ok('a phone that offers permessage-deflate is accepted, nothing negotiated');

  const hello = '{"v":2,"type":"noise_init","data":"opaque-1"}';
  guest.socket.send(hello);
  const first = JSON.parse(await holder.text());
  assert.deepEqual(Object.keys(first), ['conn_id', 'frame']);
  assert.deepEqual(first.frame, JSON.parse(hello));
  const connId = first.conn_id;
  ok('a frame reaches the daemon as text');

  const answer = '{ "v":2, "type":"noise_resp","data":"opaque-2" }';
  holder.socket.send(`{"conn_id":"${connId}","frame":${answer}}`);
  assert.equal(await guest.text(), answer);
  ok('the answer reaches the phone as text');

  const large = JSON.stringify('opaque-' + 'x'.repeat(87_500));
  for (let n = 0; n < 50; n++) {
    guest.socket.send(large);
    holder.socket.send(`{"conn_id":"${connId}","frame":${large}}`);
  }
  for (let n = 0; n < 50; n++) {
    assert.equal(JSON.stringify(JSON.parse(await holder.text()).frame), large);
    assert.equal(await guest.text(), large);
  }
  ok('fifty large frames each way');

  holder.socket.send(`{"conn_id":"${connId}","frame":{"bye":1},"close_code":4401}`);
  assert.equal(await guest.text(), '{"bye":1}');
  assert.deepEqual(await guest.next(), { code: 4401, reason: '' });
  ok('a directive delivers its frame, then closes 4401 without a reason');

  const leaver = await phone();
  leaver.socket.send('1');
  const leaverId = JSON.parse(await holder.text()).conn_id;
  leaver.socket.close(1000);
  assert.equal(await holder.text(), `{"conn_id":"${leaverId}","close_code":1000}`);
  assert.deepEqual(await leaver.next(), { code: 1000, reason: '' });
  ok('a phone that leaves is noticed');

  const lost = await phone(serverId + '-nobody');
  assert.deepEqual(await lost.next(), { code: 4404, reason: 'no server with that id' });
  ok('a phone without a daemon is closed 4404');

  const rival = await daemon();
  assert.deepEqual(await rival.next(), { code: 4409, reason: 'server-id already claimed' });
  ok('a second daemon is closed 4409');
  holder.socket.terminate();
}

exchange().then(() => clearTimeout(deadline), fail);
