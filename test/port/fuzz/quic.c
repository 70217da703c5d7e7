/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/3 with a null cipher: packets with payloads from the fuzzer. Bits of the first byte: 0-2 how the host answers,
 * 3 SETTINGS have already arrived. Records follow: two bytes, of which the upper two bits are the kind and the others the number
 * of bytes that follow, or of ms.
 *   0  the payload of a packet of 1-RTT: frames
 *   1  time passes
 *   2 a raw datagram
 *   3 like 0, but from another address
 */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>

#include "frames/mp.h"
#include "parts/answering.h"
#include "parts/quic_null.h"
#include "parts/target.h"
#include "quic/parts.h"

enum { PACKET_MAX = 1400, PEM_MAX = 8192, FIRST = 1200, MOVED_PORT = 2 };

static struct answering a;
static struct tls_store *store;
static uint64_t number; /* of the next packet */

/* ---- the listener's certificate: made once; its relevant parts are the same each time ---- */

static uint8_t *put(uint8_t *at, const char *key, const void *bytes, size_t n)
{
	return mp_bin(mp_str(at, slice_str(key)), slice_of(bytes, n));
}

static void make_store(void)
{
	static uint8_t chain[PEM_MAX], pem[PEM_MAX], map[2 * PEM_MAX + 100];
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t crt = NULL;
	size_t chain_len = sizeof chain, key_len = sizeof pem;
	struct config_fault fault;
	uint8_t *at = map;

	MUST(tls_start() && gnutls_x509_privkey_init(&key) == 0 && gnutls_x509_crt_init(&crt) == 0);
	MUST(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) == 0);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\1", 1);
	gnutls_x509_crt_set_activation_time(crt, 1);
	gnutls_x509_crt_set_expiration_time(crt, 4000000000);
	gnutls_x509_crt_set_key(crt, key);
	gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "h", 1, 0);
	MUST(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) == 0);
	MUST(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, chain, &chain_len) == 0);
	MUST(gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, pem, &key_len) == 0);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
	at = mp_map(at, 2);
	at = mp_str(at, SLICE_LIT("tickets"));
	at = mp_bool(at, false);
	at = mp_str(at, SLICE_LIT("certificates"));
	at = mp_array(at, 1);
	at = mp_map(at, 2);
	at = put(at, "chain", chain, chain_len);
	at = put(at, "key", pem, key_len);
	store = tls_store_read(slice_of(map, (size_t)(at - map)), &fault);
	MUST(store);
}

/* ---- packets ---- */

static struct quic_conn *conn_of(void)
{
	struct list *l = a.rig.server.pool.all.next;

	return l == &a.rig.server.pool.all ? NULL : container_of(container_of(l, struct member, all), struct quic_conn, member);
}

static struct quic_datagram datagram(uint8_t *bytes, size_t n, uint16_t port)
{
	struct quic_datagram d = {.bytes = bytes, .n = n, .from_len = sizeof d.from.v4, .to_len = sizeof d.to.v4};

	d.from.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	d.to = a.rig.server.quic[0]->local;
	return d;
}

/* A ClientHello with the name h, and an extension for QUIC's parameters. */
static size_t put_hello(uint8_t *at)
{
	static const uint8_t rest[] = {0, 0, 2, 0x13, 0x01, 1, 0, 0, 15, 0, 0, 0, 6, 0, 4, 0, 0, 1, 'h', 0, 0x39, 0, 1, 0};
	size_t n = 2 + 32 + sizeof rest;

	memset(at, 0, 4 + n);
	at[0] = 1;
	at[3] = (uint8_t)n;
	at[4] = at[5] = 3;
	memcpy(at + 4 + 2 + 32, rest, sizeof rest);
	return 4 + n;
}

/* The first packet, which starts a connection whose handshake is complete. */
static void begin(void)
{
	uint8_t bytes[FIRST] = {0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 'c', 'l', 'n', 't', 0, 0x44, 0}, hello[200];
	size_t n = put_hello(hello), at = 20;
	struct quic_datagram d = datagram(bytes, sizeof bytes, 1);
	ngtcp2_pkt_hd hd;

	bytes[at] = (uint8_t)(0x40 | (sizeof bytes - at - 2) >> 8); /* the length of the rest, including the packet number */
	bytes[at + 1] = (uint8_t)(sizeof bytes - at - 2);
	at += 2 + 4;
	bytes[at++] = 6; /* CRYPTO */
	bytes[at++] = 0;
	bytes[at++] = 0x40;
	bytes[at++] = (uint8_t)n;
	memcpy(bytes + at, hello, n);
	MUST(ngtcp2_accept(&hd, bytes, sizeof bytes) == 0);
	quic_conn_open(a.rig.server.quic[0], &hd, &d, QUIC_TOKEN_NONE, NULL);
}

static void packet(struct slice payload, uint16_t port)
{
	uint8_t bytes[PACKET_MAX + 64] = {0x43};
	struct quic_conn *c = conn_of();
	struct quic_datagram d;
	ngtcp2_cid ids[QUIC_CIDS_MAX];
	size_t n = 1 + QUIC_CID;

	if (!c || c->state == QUIC_CLOSED || payload.len == 0)
		return;
	ngtcp2_conn_get_scid(c->ng, ids);
	memcpy(bytes + 1, ids[0].data, QUIC_CID);
	for (int i = 3; i >= 0; i--)
		bytes[n++] = (uint8_t)(number >> 8 * i);
	number++;
	memcpy(bytes + n, payload.at, payload.len);
	n += payload.len + QUIC_NULL_TAG;
	d = datagram(bytes, n, port);
	c->end.receive(&c->end, &d);
}

static void raw(struct slice bytes)
{
	uint8_t copy[PACKET_MAX + 1];
	struct quic_conn *c = conn_of();
	struct quic_datagram d;

	if (!c || bytes.len == 0)
		return;
	memcpy(copy, bytes.at, bytes.len);
	d = datagram(copy, bytes.len, 1);
	c->end.receive(&c->end, &d);
}

/* The client's control stream. */
static void greet(void)
{
	static const uint8_t settings[] = {0x0a, 2, 3, 0, 4, 0};

	packet(slice_of(settings, sizeof settings), 1);
	answering_turn(&a);
}

/* ---- the target ---- */

static void start(enum answering_way way)
{
	struct listener_config listener = {.address = "127.0.0.1", .http3 = true};
	struct server *s = &a.rig.server;
	char rule[128];
	bool taken;

	answering_start(&a, way);
	s->quic[0] = quic_open(&s->pool, &listener, 0, 0, &store, &taken, rule, sizeof rule);
	MUST(s->quic[0]);
	s->quic[0]->by_hand = &s->loop->now_us;
	s->listener_count = 1;
	number = 0;
	begin();
	answering_turn(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t how = input_byte(&in);

	if (!store)
		make_store();
	start((how & 7) % ANSWERING_WAYS);
	if (how & 8)
		greet();
	while (in.left >= 2) {
		unsigned head = (unsigned)input_byte(&in) << 8, n;
		head |= input_byte(&in);
		n = head & 0x3fff;
		switch (head >> 14) {
		case 1:
			rig_pass_time(&a.rig, n);
			break;
		case 2:
			raw(input_bytes(&in, n < PACKET_MAX ? n : PACKET_MAX));
			break;
		default:
			packet(input_bytes(&in, n < PACKET_MAX ? n : PACKET_MAX), head >> 14 ? MOVED_PORT : 1);
		}
		answering_turn(&a);
		if (conn_of())
			MUST(conn_of()->memory <= a.rig.config.h3_memory + 65536);
	}
	answering_stop(&a);
	return 0;
}
