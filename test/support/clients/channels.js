// SPDX-License-Identifier: Apache-2.0
// Phoenix's own client against an endpoint: joins, replies, broadcasts, bytes, refusals, leaving and coming back.
// Usage: node channels.js ws://HOST:PORT/socket PATH-OF-phoenix.cjs.js
// Prints ok, or what was wrong; exit status 1 then.
const [url, library] = process.argv.slice(2)
// The library looks for a browser there.
globalThis.self = globalThis
const { Socket } = require(library)
const assert = require("node:assert")

const options = { reconnectAfterMs: () => 50 }
const pushed = (push) => new Promise((done, fail) =>
  push.receive("ok", done).receive("error", (reason) => fail(Error(JSON.stringify(reason)))).receive("timeout", () => fail(Error("timeout"))))
const event = (channel, name) => new Promise((done) => { const ref = channel.on(name, (payload) => { channel.off(name, ref); done(payload) }) })

async function main() {
  const socket = new Socket(url, { ...options, params: { token: "right" } })
  socket.connect()

  const room = socket.channel("room:one", { name: "Ada" })
  assert.deepEqual(await pushed(room.join()), { room: "one" })
  assert.deepEqual(await pushed(room.push("echo", { a: [1, "ü", null] })), { a: [1, "ü", null] })

  const large = "x".repeat(500_000)
  assert.equal((await pushed(room.push("echo", { large }))).large, large)

  const bytes = await pushed(room.push("bytes", new Uint8Array([1, 2, 255]).buffer))
  assert.deepEqual([...new Uint8Array(bytes)], [1, 2, 255, 1, 2, 255])

  const other = new Socket(url, options)
  other.connect()
  const same = other.channel("room:one", { name: "Grace" })
  await pushed(same.join())
  const heard = Promise.all([event(room, "said"), event(same, "said")])
  same.push("say", { text: "hello" })
  for (const said of await heard) assert.deepEqual(said, { text: "hello", name: "Grace" })

  await assert.rejects(pushed(socket.channel("lobby", {}).join()), /unmatched topic|who/)

  // Heartbeats are answered: some come back. Phoenix closes the socket if one is late, and opens it again.
  const beating = new Socket(url, { ...options, heartbeatIntervalMs: 200 })
  let beats = 0
  const enough = new Promise((done) => beating.onMessage(({ topic, event }) => {
    if (topic === "phoenix" && event === "phx_reply" && ++beats === 3) done()
  }))
  beating.connect()
  await enough
  beating.disconnect()

  await pushed(room.push("stop", {}))
  await pushed(same.leave())

  const refused = new Socket(url, { ...options, params: { token: "wrong" } })
  const error = new Promise((done) => refused.onError(done))
  refused.connect()
  await error
  refused.disconnect()

  const gone = new Promise((done) => socket.onClose(done))
  socket.disconnect(undefined, 1000, "bye")
  await gone
  other.disconnect()
}

main().then(() => { console.log("ok"); process.exit(0) }, (error) => { console.log(error); process.exit(1) })
