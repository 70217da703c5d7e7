// SPDX-License-Identifier: Apache-2.0
// A client of the WebSockets that test/integration/ws_clients_test.exs serves, with the package ws: ws_client.js URL.
'use strict';

const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const WebSocket = require('ws');

const url = process.argv[2];
const MESSAGES = ['text', 'häh? '.repeat(1000), Buffer.alloc(0), randomBytes(70000), randomBytes(3000000)];

async function open(options, protocols = []) {
  const socket = new WebSocket(url, protocols, options);
  await once(socket, 'open');
  return socket;
}

async function answer(socket, message) {
  socket.send(message);
  const [data, binary] = await once(socket, 'message');
  assert.strictEqual(binary, typeof message !== 'string');
  assert.ok(Buffer.from(message).equals(data), 'another message came back');
}

async function echo() {
  for (const perMessageDeflate of [true, false]) {
    const socket = await open({ perMessageDeflate }, ['other', 'echo']);
    assert.strictEqual(socket.extensions.includes('permessage-deflate'), perMessageDeflate);
    assert.strictEqual(socket.protocol, 'echo');
    for (const message of MESSAGES) await answer(socket, message);
    socket.send('in ', { fin: false });
    socket.send('two fragments', { fin: true });
    assert.strictEqual(String((await once(socket, 'message'))[0]), 'in two fragments');
    socket.ping('are you there');
    assert.strictEqual(String((await once(socket, 'pong'))[0]), 'are you there');
    socket.close(1000, 'bye');
    assert.strictEqual((await once(socket, 'close'))[0], 1000);
  }
}

async function closed() {
  const socket = await open();
  socket.send('close');
  const [code, reason] = await once(socket, 'close');
  assert.deepStrictEqual([code, String(reason)], [4321, 'as you say']);
}

async function refused() {
  const socket = new WebSocket(url, { origin: 'https://elsewhere.example' });
  const [error] = await once(socket, 'error');
  assert.match(error.message, /403/);
}

async function main() {
  await echo();
  await closed();
  await refused();
  console.log('well');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
