/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of quic/ share: quic.c (assigns packets to connections, and starts new ones), conn.c (a connection), events.c
 * (ngtcp2's callbacks), ghost.c (a closed connection), route.c (connection ids), token.c (packets sent without a connection),
 * socket.c, clock.c.
 */
#ifndef SPARX_QUIC_PARTS_H
#define SPARX_QUIC_PARTS_H

#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "base/bucket.h"
#include "base/buf.h"
#include "base/idmap.h"
#include "proto/h3.h"
#include "quic/quic.h"

enum {
	QUIC_CID = 8, /* bytes of a connection id of ours: a key of the map of routes */
	QUIC_SECRET = 32,
	QUIC_PACKET_MIN = 1200, /* bytes of a packet that every path carries, */
	QUIC_PACKET = 1452,     /* of one that all paths but tunnels carry, */
	QUIC_PACKET_MAX = 8952, /* and of one that networks with large frames carry: the largest in both directions */
	QUIC_BURST = 65000,     /* the most bytes of one send call, */
	QUIC_SEGMENTS = 64,     /* and the most packets of the same size in it */
	QUIC_SCRATCH = QUIC_BURST + QUIC_PACKET_MAX,
	QUIC_UNI_MAX = 8,   /* unidirectional streams that a client may have open */
	QUIC_CIDS_MAX = 32, /* the most ids of one connection at a time, more than ngtcp2 makes */
};

union quic_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct quic_datagram {
	uint8_t *bytes;
	size_t n;
	union quic_address from, to;
	socklen_t from_len, to_len;
	uint8_t ecn;
};

/* The target of a connection id. */
struct quic_end {
	void (*receive)(struct quic_end *end, const struct quic_datagram *d);
};

struct quic {
	struct loop_io io;
	struct conn_pool *pool;
	struct tls_store *const *store;
	struct idmap routes; /* keys: our connection ids, and a hash of the id that a client chose for its first packets */
	struct list blocked; /* connections with packets that the socket did not accept */
	struct list ghosts;  /* longest first */
	unsigned ghost_count;
	unsigned connections, half_open;
	union quic_address local; /* the address it is bound to */
	uint8_t index;            /* of the listener */
	uint8_t place, places;    /* number of this port program among those that share the address: connection ids contain it */
	bool readable, writable, draining;
	bool segments;           /* one call may send many packets */
	bool wide;               /* packets above QUIC_PACKET are tried */
	uint64_t last_ns;        /* the clock never goes back */
	const uint64_t *by_hand; /* µs: the clock of a test; NULL: the real one */
	uint8_t token_secret[QUIC_SECRET], reset_secret[QUIC_SECRET];
	uint8_t hash_secret[16];
	struct bucket strays; /* answers to packets that belong to no connection */
	struct quic_figures figures;
};

/*
 *   HANDSHAKE ──it is done──> OPEN ──session is done, time is up, peer is gone──> CLOSED
 *       └──time is up, or an error──────────────────────────────────────────────────^
 */
enum quic_state { QUIC_HANDSHAKE, QUIC_OPEN, QUIC_CLOSED };

struct quic_conn {
	struct quic_end end;
	struct member member;
	struct session_owner owner;
	struct quic *quic;
	ngtcp2_conn *ng;
	ngtcp2_crypto_conn_ref ref;
	ngtcp2_mem mem;
	size_t memory;      /* memory that ngtcp2 uses for it */
	ngtcp2_ccerr error; /* what to close it with */
	struct tls_session *tls;
	struct buf hello; /* bytes of the ClientHello, until it is complete */
	struct h3 *h3;
	struct conn_record *record;
	struct wheel_node expiry;   /* ngtcp2's */
	struct wheel_node deadline; /* the session's */
	struct list blocked;        /* quic->blocked */
	struct buf unsent;          /* packets that the socket did not accept; */
	size_t segment;             /* their size, */
	uint8_t unsent_ecn;
	ngtcp2_path_storage unsent_path;
	uint64_t initial_key; /* key of the route by the id that the client chose; 0: removed */
	uint64_t progress;    /* bytes of the session when packets were last counted */
	uint64_t tokens;      /* packets without effect that it may still send */
	struct bucket packets;
	size_t moved;           /* bytes moved since it began to wait for its client */
	uint64_t sent;          /* bytes */
	uint64_t silent_since;  /* ns: when the first packet was sent since the client was last heard; 0: none was */
	uint64_t narrow_until;  /* ns: until then packets are small, since the path lost larger ones; 0: they need not be */
	uint64_t patient_until; /* ns: an acknowledgement waits till then for a response; 0: none does */
	uint32_t unanswered;    /* packets that came since one was written */
	uint32_t timeouts;      /* since the client was last heard */
	uint8_t state;          /* enum quic_state */
	bool due;               /* `deadline` has fired in this turn */
	bool validated;         /* its address is validated */
	bool shaken;            /* the handshake is done; */
	bool shrunk;            /* and the memory that only the handshake needed is freed */
	bool looks;             /* HTTP/3's output is only examined */
	bool failed;            /* it must be closed, with `error` */
	bool silent;            /* silently */
	bool unordered;         /* its first packet contained a later part of the ClientHello */
};

/* ---- socket.c ---- */

/* -1: errno says why. */
int quic_socket(const struct listener_config *config, uint16_t port, union quic_address *local);
/* Takes packets. Returns how many there were. */
unsigned quic_socket_receive(struct quic *q, void (*take)(struct quic *q, const struct quic_datagram *d));
/* Sends packets of `segment` bytes each, except the last. False: the socket accepts no more now; *sent says how many bytes it
   accepted. Packets that cannot be sent at all count as sent, like lost packets. */
bool quic_socket_send(struct quic *q, const ngtcp2_path *path, uint8_t ecn, const uint8_t *bytes, size_t n, size_t segment,
		      size_t *sent);
/* Room for packets, QUIC_SCRATCH bytes. */
uint8_t *quic_scratch(void);
/* The octets of an address, and its port in the order of the network: those of IPv4 that come by IPv6 are IPv4. */
struct slice quic_octets(const union quic_address *a, in_port_t *port);

/* ---- route.c ---- */

bool quic_route_add(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end);
void quic_route_remove(struct quic *q, const ngtcp2_cid *cid);
/* Adds a route for an id that a client chose. Returns its key; 0: out of memory, or it exists already. */
uint64_t quic_route_add_initial(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end);
void quic_route_remove_initial(struct quic *q, uint64_t key);
struct quic_end *quic_route_find(const struct quic *q, const uint8_t *cid, size_t len);
/* Changes the target of one of our ids. */
bool quic_route_move(struct quic *q, const ngtcp2_cid *cid, struct quic_end *end);
/* Makes a new unique id. */
bool quic_cid_make(struct quic *q, ngtcp2_cid *cid);

/* ---- token.c ---- */

bool quic_reset_token(const struct quic *q, const ngtcp2_cid *cid, uint8_t *token);
/* A token with which a client avoids a Retry. */
size_t quic_new_token(const struct quic *q, const ngtcp2_path *path, uint64_t now, uint8_t *token, size_t size);
enum quic_token { QUIC_TOKEN_NONE, QUIC_TOKEN_RETRY, QUIC_TOKEN_NEW, QUIC_TOKEN_BAD };
/* Whether a token proves the address. *original: the first id that the client chose, for QUIC_TOKEN_RETRY. */
enum quic_token quic_token_check(const struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t now,
				 ngtcp2_cid *original);
/* Whether a client without a token must first prove its address: too many clients have not, or came in this turn. Otherwise
   counts the handshake that begins. */
bool quic_wants_proof(struct quic *q);
/* Answers that need no connection. */
void quic_say_versions(struct quic *q, const ngtcp2_version_cid *vc, const struct quic_datagram *d);
void quic_say_retry(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t now);
void quic_say_close(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, uint64_t code);
void quic_say_reset(struct quic *q, const uint8_t *cid, const struct quic_datagram *d);

/* ---- ghost.c ---- */

/* Keeps the ids of a closed connection: packets for them are answered with the packet that closed it, or not at all. */
void quic_ghost_make(struct quic *q, const ngtcp2_cid *ids, size_t count, const uint8_t *packet, size_t n, uint64_t ms);
void quic_ghosts_free(struct quic *q);

/* ---- events.c ---- */

extern const ngtcp2_callbacks quic_callbacks;
extern const struct h3_carrier quic_carrier;
/* Marks it to be closed with the error that ngtcp2 returned. */
void quic_failed(struct quic_conn *c, int error);

/* ---- conn.c ---- */

/* Begins with the client's first packet. original: the first id that the client chose, if it had to prove its address. */
void quic_conn_open(struct quic *q, const ngtcp2_pkt_hd *hd, const struct quic_datagram *d, enum quic_token token,
		    const ngtcp2_cid *original);

/* ---- clock.c ---- */

/* ns; never earlier than the previous time. */
uint64_t quic_now(struct quic *q);

static inline ngtcp2_path quic_path_of(const struct quic_datagram *d)
{
	return (ngtcp2_path){
		.local = {(ngtcp2_sockaddr *)(uintptr_t)&d->to.any, d->to_len},
		.remote = {(ngtcp2_sockaddr *)(uintptr_t)&d->from.any, d->from_len},
	};
}

#endif
