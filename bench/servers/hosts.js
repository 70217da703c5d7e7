// SPDX-License-Identifier: Apache-2.0
// Node's own server, to measure the host of examples/node beside: node hosts.js PORT
const server = require('node:http').createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': 14 });
  response.end('Hello, world!\n');
});
server.listen(Number(process.argv[2]), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
