/* SPDX-License-Identifier: Apache-2.0 */
/* The largest piece of a body, or of a WebSocket message, that crosses the pipe in one message (PROTOCOL.md 4). */
#ifndef SPARX_BASE_CHUNK_H
#define SPARX_BASE_CHUNK_H

enum { CHUNK_MAX = 65000 }; /* bytes; sockets are read in pieces of the same size, so that each becomes one message */

#endif
