/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS, independent of the library.
 *
 * A store is what a listener shows (certificates) and demands (versions, clients' certificates). It never changes: new
 * certificates are a new store, and a session keeps the store that it began with. A session is one handshake, then one record
 * layer. It does no I/O itself: its bytes go through its wire.
 *
 *   transport ──bytes of the peer──> session ──plain bytes──>      tls_session_handshake, _read
 *   transport <──records── session <──plain bytes──                tls_session_write, _bye
 */
#ifndef SPARX_TLS_TLS_H
#define SPARX_TLS_TLS_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/secure.h"
#include "config.h"

/* Call it once, before the sandbox, so that libraries open their files. False: there is no TLS. */
bool tls_start(void);

/* ---- a listener's certificates and rules ---- */

enum { TLS_TICKET_KEY = 64, TLS_NAME_MAX = 256, TLS_CERTIFICATES_MAX = 1024 };
enum tls_client { TLS_CLIENT_UNASKED, TLS_CLIENT_ASKED, TLS_CLIENT_REQUIRED };

struct tls_store;

/* Reads a listener's `tls` map (PROTOCOL.md section 7.2). NULL: *fault names the key and the rule; if the fault is in a
   certificate, the rule begins with its index, from 0. */
struct tls_store *tls_store_read(struct slice map, struct config_fault *fault);
/* Adds a reference; drops one. The last one frees the store. */
struct tls_store *tls_store_keep(struct tls_store *store);
void tls_store_drop(struct tls_store *store);
unsigned tls_store_certificates(const struct tls_store *store);
/* The store was made only as a trial. */
bool tls_store_is_trial(const struct tls_store *store);
/* Sets the secret of tickets, from the next session on. Tickets of another secret are not accepted. False: its length is wrong.
 * */
bool tls_store_tickets(struct tls_store *store, struct slice key);
/* A new store without its own secret takes over the old store's tickets. */
void tls_store_inherit(struct tls_store *store, const struct tls_store *before);

/* ---- the first bytes of a client ---- */

enum tls_first {
	TLS_FIRST_MORE,  /* an incomplete ClientHello */
	TLS_FIRST_WHOLE, /* a ClientHello, or input that a session refuses with the right alert */
	TLS_FIRST_HTTP,  /* a plain HTTP request */
	TLS_FIRST_WRONG, /* input that gets an alert, without a session */
};

enum { TLS_HELLO_MAX = 16384 }; /* bytes of a ClientHello */

struct tls_hello {
	char name[TLS_NAME_MAX]; /* the server name that the client asks for (SNI), in lower case; empty: none */
	bool takes_13;           /* it speaks TLS 1.3 */
	bool lacks_quic;         /* tls_first_message: QUIC's parameters are missing */
	uint8_t alert;           /* the alert for it; 0: none */
};

/* Classifies the first bytes. */
enum tls_first tls_first_bytes(const uint8_t *bytes, size_t len, struct tls_hello *hello);
/* The alert for a client with which the store has no common version; 0: there is one. */
uint8_t tls_store_refuses(const struct tls_store *store, const struct tls_hello *hello);

/* ---- a session ---- */

/* Receives and sends records. */
struct tls_wire {
	void *ctx;
	/* Reads bytes of the peer; 0: end of file; -1 with errno EAGAIN: none now. */
	ssize_t (*pull)(void *ctx, void *bytes, size_t n);
	/* Accepts all bytes. -1: the wire is broken, or out of memory. */
	ssize_t (*push)(void *ctx, const struct iovec *iov, int count);
};

struct tls_session;

enum tls_outcome { TLS_DONE, TLS_AGAIN, TLS_EOF, TLS_FAILED };

/* NULL: out of memory. The name is the one that tls_first_bytes found. */
struct tls_session *tls_session_new(struct tls_store *store, const char *name, const struct tls_wire *wire);
void tls_session_free(struct tls_session *s);
/* Continues while the wire has bytes. TLS_FAILED: the alert was pushed. */
enum tls_outcome tls_session_handshake(struct tls_session *s);
/* At least one byte if TLS_DONE. TLS_FAILED: the alert was pushed. */
enum tls_outcome tls_session_read(struct tls_session *s, void *bytes, size_t size, size_t *n);
/* Plain bytes that were decrypted and not read yet. */
bool tls_session_pending(const struct tls_session *s);
/* One record of at most `record` bytes; returns how many of the bytes are in it, 0 if the wire broke. */
size_t tls_session_write(struct tls_session *s, const void *bytes, size_t n, size_t record);
/* Says that no more will be written. */
void tls_session_bye(struct tls_session *s);

/* The negotiated parameters, after the handshake. They point into the session. */
const struct secure *tls_session_facts(const struct tls_session *s);
/* Whether the certificates cover a host other than the one of the handshake. */
bool tls_session_covers(const struct tls_session *s, struct slice host);

/* ---- QUIC: the handshake without records (RFC 9001), whose messages another library transports ---- */

/* The same as tls_first_bytes, for a handshake message without records. */
enum tls_first tls_first_message(const uint8_t *bytes, size_t len, struct tls_hello *hello);
/* TLS 1.3 with the protocol h3, which the client must offer too. NULL: out of memory. The library that transports the messages
   finds `ctx` at the session (tls_session_native). */
struct tls_session *tls_session_for_quic(struct tls_store *store, const char *name, void *ctx);
void *tls_session_native(struct tls_session *s);
/* The handshake is complete: records its results, and sends the client a ticket. */
void tls_session_shaken(struct tls_session *s);
/* Frees everything except the results. */
void tls_session_shrink(struct tls_session *s);
/* Whether the store allows QUIC. */
bool tls_store_fits_quic(const struct tls_store *store);

/* The name of an alert that we sent. */
const char *tls_alert_name(unsigned number);

/* A text about the last failure, for people. */
const char *tls_session_why(const struct tls_session *s);

#endif
