/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PROXY protocol headers as they are on the wire, and their meaning: "1 source > target" with the version, "1 silent",
 * "bad: why", or "not". Everything after a valid header belongs to the client.
 */
#ifndef SPARX_TEST_PROXIED_CORPUS_H
#define SPARX_TEST_PROXIED_CORPUS_H

#include "base/slice.h"

struct raw_header {
	const char *says;
	struct slice bytes;
};

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define TEN "1234567890"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define ENDS4 "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x01\xbb"
#define FOUR "192.0.2.7:4711 > 10.0.0.1:443"
#define SIX_A "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"
#define SIX_B "\x20\x01\x0d\xb8\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
#define MAPPED "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07"
#define ZEROS4 "\0\0\0\0"
#define ZEROS32 ZEROS4 ZEROS4 ZEROS4 ZEROS4 ZEROS4 ZEROS4 ZEROS4 ZEROS4
#define ZEROS96 ZEROS32 ZEROS32 ZEROS32
/* 108 octets each */
#define PATH_A "/run/client\0" ZEROS96
#define PATH_B "/run/server\0" ZEROS96
#define PATH_FULL "/" HUNDRED "1234567"
#define NO_PATH ZEROS96 ZEROS4 ZEROS4 ZEROS4

/* clang-format off */
#define SAYS(says, text) {says, {(const uint8_t *)text, sizeof(text) - 1}}
/* clang-format on */

static const struct raw_header proxied_corpus[] = {
	/* version 1 */
	SAYS("1 192.0.2.7:4711 > 10.0.0.1:443", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("1 255.255.255.255:65535 > 255.255.255.255:65535", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
	SAYS("1 0.0.0.0:0 > 0.0.0.0:0", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
	SAYS("1 2001:db8::7:4711 > 2001:db8:f::1:443", "PROXY TCP6 2001:db8::7 2001:db8:f::1 4711 443\r\n"),
	SAYS("1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:65535 > ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:65535",
	     "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF 65535 65535\r\n"),
	SAYS("1 192.0.2.7:1 > 2001:db8::1:2", "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n"),
	SAYS("1 silent", "PROXY UNKNOWN\r\n"), SAYS("1 silent", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"),
	SAYS("1 silent", "PROXY UNKNOWN whatever \n \0 it is\r\n"),
	SAYS("1 silent", "PROXY UNKNOWN 67890" TEN TEN TEN TEN TEN TEN TEN TEN "12345\r\n"),  /* 106 */
	SAYS("1 silent", "PROXY UNKNOWN 67890" TEN TEN TEN TEN TEN TEN TEN TEN "123456\r\n"), /* 107 */
	SAYS("bad: its line has no end within 107 bytes", "PROXY UNKNOWN 67890" TEN TEN TEN TEN TEN TEN TEN TEN "1234567\r\n"),
	SAYS("bad: its line has no end within 107 bytes", "PROXY TCP4 " HUNDRED),
	SAYS("bad: its line does not end with CR LF", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\rX"),
	SAYS("bad: its line has no end within 107 bytes", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n" HUNDRED),
	SAYS("bad: its line does not end with CR LF", "PROXY UNKNOWN a\rb\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY \r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY TCP4\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY TCP5 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY tcp4 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY UDP4 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN", "PROXY  TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its protocol is not TCP4, TCP6 or UNKNOWN",
	     "PROXY /x HTTP/1.1\r\n"), /* such a listener reads PROXY as a header, not as a method */
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 2001:db8::7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP6 192.0.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 192.000.2.7 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 192.0.2 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4  10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 192.0.2.7\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP4 a.example 10.0.0.1 4711 443\r\n"),
	SAYS("bad: its source is not an address of its family", "PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n"),
	SAYS("bad: its destination is not an address of its family", "PROXY TCP4 192.0.2.7 ::1 4711 443\r\n"),
	SAYS("bad: its destination is not an address of its family", "PROXY TCP4 192.0.2.7  4711 443\r\n"),
	SAYS("bad: its source port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n"),
	SAYS("bad: its source port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 04711 443\r\n"),
	SAYS("bad: its source port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n"),
	SAYS("bad: its source port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n"),
	SAYS("bad: its destination port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 99999\r\n"),
	SAYS("bad: its destination port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443 \r\n"),
	SAYS("bad: its destination port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 443 x\r\n"),
	SAYS("bad: its destination port is not 0 to 65535", "PROXY TCP4 192.0.2.7 10.0.0.1 4711 \r\n"),
	/* version 2 */
	SAYS("2 " FOUR, SIG "\x21\x11\x00\x0c" ENDS4),
	SAYS("2 2001:db8::7:4711 > 2001:db8:f::1:443", SIG "\x21\x21\x00\x24" SIX_A SIX_B "\x12\x67\x01\xbb"),
	SAYS("2 192.0.2.7:4711 > 2001:db8:f::1:443", SIG "\x21\x21\x00\x24" MAPPED SIX_B "\x12\x67\x01\xbb"),
	SAYS("2 unix:/run/client > unix:/run/server", SIG "\x21\x31\x00\xd8" PATH_A PATH_B),
	SAYS("2 unix: > unix:", SIG "\x21\x31\x00\xd8" NO_PATH NO_PATH),
	SAYS("2 unix:"
	     "/" HUNDRED "1234567"
	     " > unix:/run/server",
	     SIG "\x21\x31\x00\xd8" PATH_FULL PATH_B),
	SAYS("2 silent", SIG "\x20\x00\x00\x00"), SAYS("2 silent", SIG "\x20\x11\x00\x0c" ENDS4),
	SAYS("2 silent", SIG "\x20\xff\x00\x03"
			     "abc"),              /* LOCAL: the family is ignored */
	SAYS("2 silent", SIG "\x20\x11\x00\x00"), /* and whether there is room for addresses */
	SAYS("2 silent", SIG "\x21\x00\x00\x00"),
	SAYS("2 silent", SIG "\x21\x00\x00\x05"
			     "abcde"),
	SAYS("2 silent", SIG "\x21\x01\x00\x00"), SAYS("2 silent", SIG "\x21\x12\x00\x0c" ENDS4), /* UDP over IPv4 */
	SAYS("2 silent", SIG "\x21\x22\x00\x24" SIX_A SIX_B "\x12\x67\x01\xbb"), SAYS("2 silent", SIG "\x21\x32\x00\x00"),
	SAYS("bad: its family is unassigned", SIG "\x21\x41\x00\x0c" ENDS4),
	SAYS("bad: its family is unassigned", SIG "\x21\x13\x00\x0c" ENDS4),
	SAYS("bad: its command is unassigned", SIG "\x22\x11\x00\x0c" ENDS4),
	SAYS("bad: its command is unassigned", SIG "\x2f\x11\x00\x0c" ENDS4),
	SAYS("bad: its version is not 2", SIG "\x11\x11\x00\x0c" ENDS4),
	SAYS("bad: its version is not 2", SIG "\x31\x11\x00\x0c" ENDS4),
	SAYS("bad: it is too short for its addresses", SIG "\x21\x11\x00\x0b" ENDS4),
	SAYS("bad: it is too short for its addresses", SIG "\x21\x21\x00\x0c" ENDS4),
	SAYS("bad: it is too short for its addresses", SIG "\x21\x31\x00\x0c" ENDS4),
	SAYS("bad: it is longer than max_proxy_header", SIG "\x21\x11\xff\xff" ENDS4),
	/* extensions */
	SAYS("2 " FOUR " authority=a.example", SIG "\x21\x11\x00\x18" ENDS4 "\x02\x00\x09"
						   "a.example"),
	SAYS("2 " FOUR " authority=a", SIG "\x21\x11\x00\x14" ENDS4 "\x02\x00\x01"
					   "a"
					   "\x02\x00\x01"
					   "b"),
	SAYS("2 " FOUR " alpn=h2", SIG "\x21\x11\x00\x11" ENDS4 "\x01\x00\x02"
				       "h2"),
	SAYS("2 " FOUR " unique=\\x00\\xff", SIG "\x21\x11\x00\x11" ENDS4 "\x05\x00\x02"
						 "\x00\xff"),
	SAYS("2 " FOUR, SIG "\x21\x11\x00\x12" ENDS4 "\x04\x00\x03"
			    "abc"),                                   /* NOOP */
	SAYS("2 " FOUR, SIG "\x21\x11\x00\x0f" ENDS4 "\xee\x00\x00"), /* of somebody's own */
	SAYS("2 " FOUR " authority=", SIG "\x21\x11\x00\x0f" ENDS4 "\x02\x00\x00"),
	SAYS("2 " FOUR " tls=0/1", SIG "\x21\x11\x00\x14" ENDS4 "\x20\x00\x05"
				       "\x00\x00\x00\x00\x01"),
	SAYS("2 " FOUR " tls=7/0 TLSv1.3,a b,X,RSA,EC256", SIG "\x21\x11\x00\x39" ENDS4 "\x20\x00\x2a"
							       "\x07\x00\x00\x00\x00"
							       "\x21\x00\x07"
							       "TLSv1.3"
							       "\x22\x00\x03"
							       "a b"
							       "\x23\x00\x01"
							       "X"
							       "\x24\x00\x03"
							       "RSA"
							       "\x30\x00\x00"
							       "\x25\x00\x05"
							       "EC256"),
	SAYS("2 " FOUR, SIG "\x21\x11\x00\x13" ENDS4 "\x03\x00\x04"
			    "\xbd\xe7\x19\x53"), /* a checksum */
	SAYS("bad: its checksum is wrong", SIG "\x21\x11\x00\x13" ENDS4 "\x03\x00\x04"
					       "\xbd\xe7\x19\x52"),
	SAYS("bad: its checksum is wrong", SIG "\x21\x11\x00\x12" ENDS4 "\x03\x00\x03"
					       "\xbd\xe7\x19"),
	SAYS("bad: an extension is cut short", SIG "\x21\x11\x00\x0d" ENDS4 "\x02"),
	SAYS("bad: an extension is cut short", SIG "\x21\x11\x00\x0e" ENDS4 "\x02\x00"),
	SAYS("bad: an extension is cut short", SIG "\x21\x11\x00\x10" ENDS4 "\x02\x00\x02"
						   "a"),
	SAYS("bad: its extension for TLS is cut short", SIG "\x21\x11\x00\x13" ENDS4 "\x20\x00\x04"
							    "\x01\x00\x00\x00"),
	SAYS("bad: its extension for TLS is cut short", SIG "\x21\x11\x00\x17" ENDS4 "\x20\x00\x08"
							    "\x01\x00\x00\x00\x00"
							    "\x21\x00\x01"),
	/* something else */
	SAYS("not", "GET / HTTP/1.1\r\n\r\n"), SAYS("not", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), SAYS("not", "PROXYX /"),
	SAYS("not", "proxy TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"), SAYS("not", "\r\nGET / HTTP/1.1\r\n\r\n"),
	SAYS("not", "\r\n\r\nPROXY UNKNOWN\r\n"), SAYS("not", "\r\n\r\n\0\r\nQUIX\n\x21\x11\x00\x0c" ENDS4),
	SAYS("not", "\x16\x03\x01\x02\x00\x01"), /* TLS */
};

enum { PROXIED_CORPUS = sizeof proxied_corpus / sizeof *proxied_corpus };

#endif
