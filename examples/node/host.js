#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// A host for sparx_port: it starts the program, and answers the requests that come over the pipe (PROTOCOL.md).
//
//     node host.js [--port 4000] [--host 127.0.0.1]
//
// It needs only the program: the one that SPARX_PORT names, or the one of this repository, or the one in PATH.
'use strict';

const { createHash } = require('node:crypto');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Encoder, Decoder } = require('./msgpack.js');
const {
  HELLO, DEMAND, READ, RESPOND, HEAD, DATA, END, ABORT, DRAIN, UPGRADE, SEND, CLOSE, RELEASE,
  READY, REQUEST, COMPLETE, BODY, BODY_END, ROOM, DONE, GONE, LOG, ERROR, DRAINED, HANGUP, RECV, CLOSED, METHODS, NAMES,
} = require('./protocol.js');

const CHUNK = 65000; // bytes of a chunk of a body, and of a DATA
const AHEAD = 2; // chunks of a request body that may be on their way
const INLINE = 16384; // bytes of a request body that may come with its request
const FRAME = 32768; // bytes of messages after which a frame is sent, so that even with the largest RESPOND it stays below max_frame
const [TEXT, BINARY] = [1, 2];
const SEND_COST = 16; // bytes of room that a message of a WebSocket, or a piece of one, costs in addition to its data
const EMPTY = Buffer.alloc(0);

// The client has left, or a limit was exceeded. A handler does not have to catch it.
class Gone extends Error {}

// One exchange (a stream). Its methods wait for credit, or for the client.
class Request {
  constructor(host, stream, head) {
    Object.assign(this, { host, stream, room: host.window });
    const [version, method, scheme, authority, path, query, , body, flags, peer, peerPort, listener, , fields] = head;
    Object.assign(this, { version, authority, path, query, flags, peer, peerPort, listener, fields });
    this.method = typeof method === 'number' ? METHODS[method] : method;
    this.scheme = ['http', 'https'][scheme];
    this.chunks = [];
    this.granted = 0;
    this.bodyEnded = body === null;
    this.answered = this.released = this.left = false; // left: the handler has ended
    this.bodiless = false; // the response has no body: it is complete with its head
    this.socket = null; // a WebSocket, once accepted
    this.hungUp = false; // the client has closed its side: most clients have left then, some wait for the response
    this.over = null; // why the stream has ended
    this.waiting = [];
  }

  // Returns when the client has closed its side, or the exchange has ended.
  async clientLeft() {
    while (!this.hungUp && !this.over) await this.wait();
  }

  // Waits for something else, such as an event; throws Gone if the client leaves first. Otherwise an idle response would stay for ever, since nothing is
  // written that would show that the client has left.
  async unlessLeft(promise) {
    const gone = this.clientLeft().catch(() => {});
    return Promise.race([
      promise,
      gone.then(() => {
        throw new Gone(this.over ?? 'hangup');
      }),
    ]);
  }

  // Pairs of a name (lower case) and a value (Buffer).
  get headers() {
    const pairs = [];
    for (let i = 0; i < this.fields.length; i += 2)
      pairs.push([typeof this.fields[i] === 'number' ? NAMES[this.fields[i]] : this.fields[i], this.fields[i + 1]]);
    return pairs;
  }

  // Waits for the next message about this stream.
  async wait() {
    if (this.over) throw new Gone(this.over);
    await new Promise((resolve) => this.waiting.push(resolve));
  }

  // The next chunk of the request body; null when it has ended. The client is read no faster than this is called.
  async read() {
    while (!this.chunks.length && !this.bodyEnded) {
      if (this.granted < AHEAD && !this.over) {
        this.host.send(READ, this.stream, AHEAD - this.granted, CHUNK);
        this.granted = AHEAD;
      }
      await this.wait();
    }
    if (!this.chunks.length) return null;
    this.granted--;
    return this.chunks.shift();
  }

  // Sends a complete response; one that is larger than the window is streamed.
  async respond(status, headers = [], body = '') {
    const bytes = Buffer.from(body);
    if (bytes.length > this.room) {
      this.start(status, headers, bytes.length);
      await this.write(bytes);
      return this.finish();
    }
    this.answered = true;
    this.room -= bytes.length;
    this.host.send(RESPOND, this.stream, status, headers.flat(), bytes);
  }

  start(status, headers = [], length = null) {
    this.bodiless = this.method === 'HEAD' || [204, 205, 304].includes(status);
    this.host.send(HEAD, this.stream, status, headers.flat(), length);
  }

  // Sends a part of a streamed response: returns when all of it is in the window, so as fast as the client reads.
  async write(data) {
    if (this.bodiless) return;
    for (let at = 0; at < data.length; ) {
      const n = await this.takeRoom(data.length - at);
      this.host.send(DATA, this.stream, data.subarray(at, (at += n)));
    }
  }

  // Waits for room for at most this many bytes plus `cost`, and for at least one byte, if there are any.
  async takeRoom(most, cost = 0) {
    while (this.room < cost + Math.min(most, 1) || this.over) await this.wait();
    const n = Math.min(this.room - cost, most, CHUNK);
    this.room -= n + cost;
    return n;
  }

  finish(trailers = null) {
    this.answered = true;
    if (!this.bodiless) this.host.send(END, this.stream, trailers && trailers.flat());
  }

  // Makes it a WebSocket: the handler continues with the socket, and no longer counts as running.
  accept(headers = [], options = {}) {
    this.answered = true;
    this.socket = new WebSocket(this);
    this.host.send(UPGRADE, this.stream, 'websocket', headers.flat(), options);
    this.host.release(this);
    return this.socket;
  }

  // Handles a message of the port about this stream.
  heard(kind, fields) {
    if (kind === BODY) this.chunks.push(fields[0]);
    else if (kind === BODY_END) this.bodyEnded = true;
    else if (kind === ROOM) this.room += fields[0];
    else if (kind === HANGUP) this.hungUp = true;
    else if (kind === DONE) this.over = 'done';
    else if (kind === GONE) this.over = fields[0];
    else if (this.socket) this.socket.heard(kind, fields);
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

class WebSocket {
  constructor(request) {
    Object.assign(this, { request, messages: [], pieces: [], asked: false });
    this.closed = null; // [code, reason], once it is closed
  }

  // The next message, [TEXT or BINARY, Buffer], or null at the end. Nothing is read before it is called.
  async receive() {
    while (!this.messages.length) {
      if (this.closed || this.request.over) return null;
      if (!this.asked) this.request.host.send(READ, this.request.stream, 1, CHUNK);
      this.asked = true;
      await this.request.wait();
    }
    return this.messages.shift();
  }

  async send(type, data) {
    let at = 0;
    do {
      const n = await this.request.takeRoom(data.length - at, SEND_COST);
      this.request.host.send(SEND, this.request.stream, type, data.subarray(at, (at += n)), data.length - at);
    } while (at < data.length);
  }

  close(code = 1000, reason = '') {
    this.request.host.send(CLOSE, this.request.stream, code, Buffer.from(reason));
  }

  heard(kind, [first, second, left]) {
    if (kind === CLOSED) this.closed = [first, second.toString()];
    if (kind !== RECV) return;
    this.pieces.push(second);
    if (left > 0) return;
    if (first === TEXT || first === BINARY) this.messages.push([first, Buffer.concat(this.pieces)]); // pings are answered
    this.pieces = [];
    this.asked = false;
  }
}

// The program, with its options. `handler` is an async function of a Request; `workers` of them run concurrently.
class Host {
  constructor(handler, { workers = 256, onReady = () => {}, ...options }) {
    Object.assign(this, { handler, workers, onReady, options });
    Object.assign(this, { requests: new Map(), outbox: new Encoder(), input: EMPTY, window: 0, drained: false });
  }

  // Serves until it was drained; false if it ended otherwise.
  run() {
    this.process = spawn(program(), [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.process.stdout.on('data', (data) => this.received(data));
    this.process.stdout.on('end', () => this.process.stdin.end());
    this.process.stdin.on('error', () => {}); // the program has ended: that is reported below
    this.send(HELLO, 1, { inline_body: INLINE, ...this.options });
    return new Promise((resolve) => {
      this.process.on('error', (error) => (console.error(`sparx_port: ${error.message}`), resolve(false)));
      this.process.on('close', (status, signal) => {
        for (const request of this.requests.values()) request.heard(GONE, ['closed']);
        if (!this.drained) console.error(`sparx_port ended, ${signal ?? `status ${status}`}`);
        resolve(this.drained);
      });
    });
  }

  // Stops accepting; the program ends when the last response has left, or at the deadline (ms).
  drain(deadline = 30000) {
    this.send(DRAIN, deadline);
  }

  // Messages of one turn of the loop leave in one frame.
  send(...message) {
    if (this.outbox.at === 0) {
      this.outbox.room(4); // for the length
      setImmediate(() => this.flush());
    }
    this.outbox.put(message);
    if (this.outbox.at > FRAME) this.flush();
  }

  flush() {
    if (this.outbox.at === 0) return;
    const frame = this.outbox.take();
    frame.writeUInt32BE(frame.length - 4);
    this.process.stdin.write(frame); // no limit of our own: windows bound what can wait here
  }

  received(data) {
    this.input = this.input.length ? Buffer.concat([this.input, data]) : data;
    while (this.input.length >= 4) {
      const end = 4 + this.input.readUInt32BE(0);
      if (this.input.length < end) return;
      const messages = new Decoder(this.input.subarray(4, end));
      this.input = this.input.subarray(end);
      while (!messages.done) this.heard(...messages.next());
    }
  }

  // Unknown kinds, and fields beyond those read here, are ignored.
  heard(kind, ...fields) {
    if (kind === REQUEST || kind === COMPLETE) {
      const request = new Request(this, fields[0], new Decoder(fields[1]).next());
      this.requests.set(request.stream, request);
      if (kind === COMPLETE) {
        request.heard(BODY, [fields[2]]);
        request.heard(BODY_END, [null]);
      }
      this.work(request);
    } else if (kind === READY) {
      this.window = fields[1].limits.window;
      this.send(DEMAND, this.workers);
      this.onReady(fields[1]);
    } else if (kind === LOG) console.error(`sparx_port: ${fields[0]}: ${fields[1]}`);
    else if (kind === ERROR) console.error(`sparx_port: wrong message ${fields[0]}: ${fields.slice(2, 5).join(': ')}`);
    else if (kind === DRAINED) this.drained = true;
    else if ([BODY, BODY_END, ROOM, DONE, GONE, HANGUP, RECV, CLOSED].includes(kind)) {
      const request = this.requests.get(fields[0]);
      if (kind === DONE || kind === GONE) this.requests.delete(fields[0]);
      if (request) request.heard(kind, fields.slice(1));
      if (request && kind === GONE && request.left) this.send(RELEASE, request.stream);
    }
  }

  async work(request) {
    try {
      await this.handler(request);
      if (!request.answered) {
        if (request.hungUp || request.over) throw new Gone();
        throw new Error(`${request.method} ${request.path} was not answered`);
      }
    } catch (error) {
      // Errors because a client has left are worth one line, not more.
      const left = request.hungUp || request.over;
      if (!(error instanceof Gone)) console.error(left ? `${request.method} ${request.path}: its client had left: ${error}` : error);
      if (!(error instanceof Gone) || (!request.answered && !request.over)) this.send(ABORT, request.stream, 500);
    }
    request.left = true;
    this.release(request);
    // Over HTTP/2 the client's stream counts until this RELEASE.
    if (request.over && request.over !== 'done') this.send(RELEASE, request.stream);
  }

  // The worker is free: grants demand for another request, once per request.
  release(request) {
    if (!request.released) this.send(DEMAND, 1);
    request.released = true;
  }
}

function program() {
  const ours = path.resolve(__dirname, '../../priv/sparx_port');
  return process.env.SPARX_PORT || (fs.existsSync(ours) ? ours : 'sparx_port');
}

// ---- the application: handlers and their routes

const PLAIN = [['content-type', 'text/plain']];

const hello = (request) => request.respond(200, PLAIN, 'Hello, world!\n');

async function upload(request) {
  const hash = createHash('sha256');
  let size = 0;
  for (let chunk; (chunk = await request.read()); size += chunk.length) hash.update(chunk);
  await request.respond(200, PLAIN, `${size} bytes, sha256 ${hash.digest('hex')}\n`);
}

async function download(request) {
  const text = new URLSearchParams(request.query ?? '').get('bytes') ?? '10000000';
  if (!/^[0-9]{1,15}$/.test(text)) return request.respond(400, PLAIN, 'bytes is a number.\n');
  let left = Number(text);
  request.start(200, [['content-type', 'application/octet-stream']], left);
  for (; left > 0 && !request.bodiless; left -= CHUNK) await request.write(Buffer.alloc(Math.min(left, CHUNK), '.'));
  request.finish();
}

// An event stream: a greeting, and then nothing, until the client leaves.
async function events(request) {
  request.start(200, [['content-type', 'text/event-stream']]);
  await request.write(Buffer.from('data: hello\n\n'));
  await request.unlessLeft(new Promise(() => {}));
}

async function echo(request) {
  if (!(request.flags & 8)) return request.respond(426, PLAIN, 'This is a WebSocket.\n');
  const socket = request.accept();
  for (let message; (message = await socket.receive()); ) await socket.send(...message);
}

const ROUTES = { 'GET /': hello, 'PUT /upload': upload, 'GET /download': download, 'GET /events': events, 'GET /echo': echo };

async function route(request) {
  const handler = ROUTES[`${request.method === 'HEAD' ? 'GET' : request.method} ${request.path}`];
  await (handler ? handler(request) : request.respond(404, PLAIN, 'Not found.\n'));
}

// A listener's `tls` (PROTOCOL.md, section 7.2): one certificate and its key; null without them.
function certificate(certfile, keyfile) {
  if (!certfile) return null;
  return { certificates: [{ chain: fs.readFileSync(certfile), key: fs.readFileSync(keyfile || certfile) }] };
}

// Serves until Ctrl-C or SIGTERM; a second signal cuts the rest.
async function main() {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '4000' },
      host: { type: 'string', default: '127.0.0.1' },
      certfile: { type: 'string' },
      keyfile: { type: 'string' },
    },
  });
  const tls = certificate(values.certfile, values.keyfile);
  const host = new Host(route, {
    listeners: [{ address: values.host, port: Number(values.port), tls }],
    onReady: ({ listeners: [{ address, port }] }) => console.log(`${tls ? 'https' : 'http'}://${address}:${port}`),
  });
  let deadline = 30000;
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.on(signal, () => {
      host.drain(deadline);
      deadline = 0;
    });
  process.exitCode = (await host.run()) ? 0 : 1;
}

if (require.main === module) main();

module.exports = { Host, Gone, TEXT, BINARY };
