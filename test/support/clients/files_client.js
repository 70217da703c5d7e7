// SPDX-License-Identifier: Apache-2.0
// Files by Node's fetch, which keeps the connection: files_client.js PORT. Nothing is printed when all is well.
const assert = require("node:assert");
const url = (path) => `http://127.0.0.1:${process.argv[2]}${path}`;

async function main() {
  const first = await fetch(url("/page.html"));
  assert.strictEqual(first.status, 200);
  assert.strictEqual(first.headers.get("content-encoding"), "gzip"); // fetch decodes it
  assert.strictEqual(await first.text(), "<h1>page</h1>\n".repeat(100));

  const etag = first.headers.get("etag");
  const second = await fetch(url("/page.html"), {headers: {"if-none-match": etag}});
  assert.deepStrictEqual([second.status, await second.text(), second.headers.get("etag")], [304, "", etag]);

  const part = await fetch(url("/large.bin"), {headers: {range: "bytes=1000000-1999999"}});
  assert.strictEqual(part.status, 206);
  assert.strictEqual((await part.arrayBuffer()).byteLength, 1000000);

  const several = await fetch(url("/large.bin"), {headers: {range: "bytes=0-0,-1"}});
  assert.match(await several.text(), /content-range: bytes 0-0\/3000000\r\n/);

  const none = await fetch(url("/large.bin"), {headers: {range: "bytes=3000000-"}});
  assert.deepStrictEqual([none.status, none.headers.get("content-range")], [416, "bytes */3000000"]);

  const post = await fetch(url("/large.bin"), {method: "POST", body: "x"});
  assert.deepStrictEqual([post.status, post.headers.get("allow")], [405, "GET, HEAD"]);
}

main();
