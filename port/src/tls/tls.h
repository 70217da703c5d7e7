/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS without a word about the library that speaks it.
 *
 * A store is what a listener shows (certificates) and demands (versions, clients' certificates). It never changes: new
 * certificates are a new store, and sessions keep the one that they began with. A session is one handshake and then one record
 * layer. It moves no bytes by itself: what it sends and receives goes through its wire.
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

/* To be called once, before the sandbox: what libraries open, they open now. False: there is no TLS. */
bool tls_start(void);

/* ---- what a listener shows and demands ---- */

enum { TLS_TICKET_KEY = 64, TLS_NAME_MAX = 256, TLS_CERTIFICATES_MAX = 1024 };
enum tls_client { TLS_CLIENT_UNASKED, TLS_CLIENT_ASKED, TLS_CLIENT_REQUIRED };

struct tls_store;

/* Reads a listener's `tls` map (PROTOCOL.md section 7.2). NULL: *fault names the key and the rule; where the fault is of one
   certificate, the rule begins with its number, from 0. */
struct tls_store *tls_store_read(struct slice map, struct config_fault *fault);
/* One more who needs it; one less. The last one frees it. */
struct tls_store *tls_store_keep(struct tls_store *store);
void tls_store_drop(struct tls_store *store);
unsigned tls_store_certificates(const struct tls_store *store);
/* The store was made only as a trial. */
bool tls_store_is_trial(const struct tls_store *store);
/* The secret of tickets, from the next session on. Those made with another are not taken. False: its length is wrong. */
bool tls_store_tickets(struct tls_store *store, struct slice key);
/* Without a secret of its own, a new store goes on with the tickets of the one before. */
void tls_store_inherit(struct tls_store *store, const struct tls_store *before);

/* ---- the first bytes of a client ---- */

enum tls_first {
	TLS_FIRST_MORE,  /* a ClientHello that is not complete */
	TLS_FIRST_WHOLE, /* a ClientHello, or what a session is to refuse with the right alert */
	TLS_FIRST_HTTP,  /* a request in plain text */
	TLS_FIRST_WRONG, /* what ends with an alert, without a session */
};

enum { TLS_HELLO_MAX = 16384 }; /* bytes of a ClientHello */

struct tls_hello {
	char name[TLS_NAME_MAX]; /* the server that the client asks for (SNI) in lower case; empty: it does not say so */
	bool takes_13;           /* it speaks TLS 1.3 */
	bool lacks_quic;         /* tls_first_message: it is without QUIC's parameters */
	uint8_t alert;           /* of what is wrong; 0: none is due */
};

/* What the bytes say. */
enum tls_first tls_first_bytes(const uint8_t *bytes, size_t len, struct tls_hello *hello);
/* The alert for a client that the store has no version for; 0: it may come. */
uint8_t tls_store_refuses(const struct tls_store *store, const struct tls_hello *hello);

/* ---- a session ---- */

/* Where records come from and go to. */
struct tls_wire {
	void *ctx;
	/* Bytes of the peer; 0: there are none any more; -1 with errno EAGAIN: none now. */
	ssize_t (*pull)(void *ctx, void *bytes, size_t n);
	/* Takes all. -1: the wire is broken, or there is no memory. */
	ssize_t (*push)(void *ctx, const struct iovec *iov, int count);
};

struct tls_session;

enum tls_outcome { TLS_DONE, TLS_AGAIN, TLS_EOF, TLS_FAILED };

/* NULL: out of memory. The name is the one that tls_first_bytes found. */
struct tls_session *tls_session_new(struct tls_store *store, const char *name, const struct tls_wire *wire);
void tls_session_free(struct tls_session *s);
/* Goes on as far as the wire has bytes. TLS_FAILED: the alert was pushed. */
enum tls_outcome tls_session_handshake(struct tls_session *s);
/* At least one byte if TLS_DONE. TLS_FAILED: the alert was pushed. */
enum tls_outcome tls_session_read(struct tls_session *s, void *bytes, size_t size, size_t *n);
/* Plain bytes that were decrypted and not read yet. */
bool tls_session_pending(const struct tls_session *s);
/* One record of at most `record` bytes; returns how many of the bytes are in it, 0 if the wire broke. */
size_t tls_session_write(struct tls_session *s, const void *bytes, size_t n, size_t record);
/* Says that no more will be written. */
void tls_session_bye(struct tls_session *s);

/* What was agreed on, once the handshake is done. It points into the session. */
const struct secure *tls_session_facts(const struct tls_session *s);
/* Whether the certificates cover a host that is not the one the client asked for first. */
bool tls_session_covers(const struct tls_session *s, struct slice host);

/* ---- without records: the handshake of QUIC (RFC 9001), whose messages another library moves ---- */

/* The same as tls_first_bytes, of a handshake message that is not in records. */
enum tls_first tls_first_message(const uint8_t *bytes, size_t len, struct tls_hello *hello);
/* TLS 1.3 with the protocol h3, which the client must offer too. NULL: out of memory. `ctx` is what the library that moves the messages
   finds at the session (tls_session_native). */
struct tls_session *tls_session_for_quic(struct tls_store *store, const char *name, void *ctx);
void *tls_session_native(struct tls_session *s);
/* The handshake is done: what is known from then on. Gives the client a ticket. */
void tls_session_shaken(struct tls_session *s);
/* Frees all but what is known. */
void tls_session_shrink(struct tls_session *s);
/* Whether the store has what QUIC needs. */
bool tls_store_fits_quic(const struct tls_store *store);

/* What an alert that we sent says. */
const char *tls_alert_name(unsigned number);

/* A text for people about the last failure. */
const char *tls_session_why(const struct tls_session *s);

#endif
