// SPDX-License-Identifier: Apache-2.0
// A client of Node's http2: `node h2_client.js URL`. It prints nothing and exits with 0 when all was as it should be.
'use strict';

const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const http2 = require('node:http2');

const session = http2.connect(process.argv[2]);

const exchange = (headers, send, options = {}) =>
  new Promise((resolve, reject) => {
    const stream = session.request(headers, options);
    const answer = { body: [] };
    stream.on('response', (head) => (answer.head = head));
    stream.on('trailers', (fields) => (answer.trailers = fields));
    stream.on('data', (chunk) => answer.body.push(chunk));
    stream.on('error', reject);
    stream.on('end', () => resolve({ ...answer, body: Buffer.concat(answer.body) }));
    send(stream);
  });

async function echoes(size) {
  const body = randomBytes(size);
  const answer = await exchange({ ':method': 'POST', ':path': '/echo' }, (stream) => stream.end(body));
  assert(answer.body.equals(body));
}

async function main() {
  await Promise.all(Array.from({ length: 90 }, () => echoes(5000)));
  await echoes(1 << 21);
  const talk = (stream) => {
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '7' }));
    stream.end('1234567');
  };
  const answer = await exchange({ ':method': 'POST', ':path': '/grpc', te: 'trailers' }, talk, { waitForTrailers: true });
  assert.equal(answer.body.toString(), '1234567');
  assert.equal(answer.trailers['grpc-status'], '0');
  assert.equal(answer.trailers['x-got'], '7');
  session.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
