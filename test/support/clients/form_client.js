// SPDX-License-Identifier: Apache-2.0
// Forms by Node's fetch: form_client.js PORT. Nothing is printed when all is well.
const assert = require("node:assert");
const url = `http://127.0.0.1:${process.argv[2]}/`;

async function post(expected, body) {
  const answer = await fetch(url, {method: "POST", body, duplex: "half"});
  assert.deepStrictEqual([answer.status, await answer.text()], [200, expected]);
}

function form(...entries) {
  const form = new FormData();
  for (const entry of entries) form.append(...entry);
  return form;
}

async function main() {
  await post('field a "x"\nfield a "ä\\r\\n"\n', form(["a", "x"], ["a", "ä\n"]));
  await post('file f "a\\"b.txt" "text/plain" 5\n', form(["f", new Blob(["hello"], {type: "text/plain"}), 'a"b.txt']));
  await post('file f "blob" "application/octet-stream" 3000000\n', form(["f", new Blob([new Uint8Array(3e6)])]));
  await post('field z ""\nfield z ""\n', form(["z", ""], ["z", ""]));
  await post('field a\\"\\r\\nb "x"\n'.replace(/\\(.)/g, (_, c) => ({'"': '"', r: "\r", n: "\n"})[c]), form(['a"\nb', "x"]));
  await post('form a "x y"\nform ä "&=+%"\n', new URLSearchParams([["a", "x y"], ["ä", "&=+%"]]));
}

main();
