// SPDX-License-Identifier: Apache-2.0
// The kinds, methods and names of PROTOCOL.md (sections 4, 5, 1.3 and 1.2). scripts/protocol_tables writes this file.
'use strict';

module.exports = {
  HELLO: 0, DEMAND: 1, READ: 2, DISCARD: 3, RESPOND: 4, HEAD: 5, DATA: 6, END: 7, INFORM: 8, ABORT: 9, DRAIN: 10,
  STATS: 11, PING: 12, UPGRADE: 13, SEND: 14, CLOSE: 15, PUSH: 16, RELEASE: 17, YIELD: 18, RESUME: 19, CERTIFICATES: 20,
  TICKETS: 21, REPORT: 22, FILE: 23, SHARED: 25, DECODE: 30, SEND_SHARED: 31, CLOSE_FILE: 32, READY: 64, REQUEST: 65,
  BODY: 66, BODY_END: 67, ROOM: 68, DONE: 69, GONE: 70, LOG: 71, ERROR: 72, FIGURES: 73, PONG: 74, DRAINED: 75,
  HANGUP: 76, RECV: 77, CLOSED: 78, OPENED: 79, ENDED: 80, CERTIFIED: 81, UNUSED: 84, COMPLETE: 89, SECURED: 91,
  METHODS: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'],
  NAMES: `
    accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-origin age allow
    authorization cache-control connection content-disposition content-encoding content-language content-length
    content-range content-type cookie date dnt etag expect expires forwarded from host if-match if-modified-since
    if-none-match if-range if-unmodified-since keep-alive last-modified link location origin pragma priority range
    referer retry-after sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site
    www-authenticate sec-fetch-user sec-websocket-accept sec-websocket-extensions sec-websocket-key
    sec-websocket-protocol sec-websocket-version server set-cookie te trailer transfer-encoding upgrade
    upgrade-insecure-requests user-agent vary x-forwarded-for
  `.trim().split(/\s+/),
};
