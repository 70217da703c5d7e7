/* SPDX-License-Identifier: Apache-2.0 */
/* The host's configuration: read-only after HELLO. */
#ifndef SPARX_CONFIG_H
#define SPARX_CONFIG_H

#include "base/slice.h"
#include "frames/options.h"
#include "peer/cidr.h"

enum { LISTENERS_MAX = 64, SERVER_NAME_MAX = 128, ADDRESS_MAX = 128, USER_NAME_MAX = 64, TYPES_MAX = 1024, CODINGS_MAX = 8 };
enum { SOCKET_PATH_MAX = 108 };
#define TOKEN_MAX ((UINT64_C(1) << 53) - 1) /* the longest token and the most listeners over the channel */
enum proxy_mode { PROXY_OFF, PROXY_OPTIONAL, PROXY_REQUIRED };
enum sandbox_mode { SANDBOX_BEST_EFFORT, SANDBOX_STRICT, SANDBOX_OFF };

struct listener_config {
	char address[ADDRESS_MAX]; /* IPv4, IPv6, or "unix:" and a path */
	uint16_t port;
	int backlog;
	bool reuse_port, ipv6_only;
	bool shared;                 /* other processes accept on this socket too */
	uint32_t mode;               /* mode of a unix socket's file; 0: as the umask allows */
	int64_t owner, group;        /* owner and group of the file, by number; -1: those of this process */
	uint64_t descriptor;         /* the token of a socket that the host hands over; 0: it is bound here */
	int fd;                      /* that socket, until it is listened on; -1: it has not arrived */
	char hsts[32];               /* the field strict-transport-security of all responses; empty: none */
	uint16_t redirect;           /* all requests are redirected to https at this port; 0: none */
	bool http3;                  /* HTTP/3 at the same port over UDP; */
	int udp;                     /* the socket for that, once it is bound; -1: there is none */
	uint8_t h3_place, h3_places; /* number of this port program at a shared address; 0 places: no others */
	bool h3_key_given;
	uint8_t h3_key[32];     /* secret for the tokens and resets of all of them */
	char alt_svc[48];       /* the field alt-svc of responses over other versions; empty: none */
	uint32_t alt_svc_age;   /* s */
	uint8_t proxy_protocol; /* enum proxy_mode: whether each connection begins with a PROXY header */
	struct slice tls;       /* the undecoded map, in the input buffer, until HELLO was handled. Absent: plain */
};

struct config {
#define OPTION(name, value, min, max, unit, meaning) uint64_t name;
#include "options.def"
#undef OPTION
	struct listener_config listeners[LISTENERS_MAX];
	unsigned listener_count;
	char server[SERVER_NAME_MAX]; /* empty: no Server field */
	bool report;
	struct cidr_list trusted_proxies; /* proxies that may name their clients */
	unsigned trusted_fields;          /* TRUST_…: the fields in which they are trusted */
	struct cidr_list limit_exempt;    /* peers without limits */
	uint8_t codings[CODINGS_MAX];     /* enum coding: of responses, the preferred ones first */
	unsigned coding_count;
	char compress_types[TYPES_MAX]; /* media types between spaces */
	uint8_t sandbox;                /* enum sandbox_mode */
	char user[USER_NAME_MAX];       /* the user to switch to, if the process is root; empty: none */
	/* The host's socket for descriptors, and the connection to it. Empty, and -1: there is none. */
	char descriptors[SOCKET_PATH_MAX];
	int channel;
	uint64_t region; /* the token of memory that the host shares; 0: it does not */
	int region_fd;   /* that memory, until it is mapped; -1: it has not arrived */
};

struct option_def {
	const char *name, *unit, *meaning;
	uint64_t value, min, max; /* value: the default */
	size_t offset;            /* in struct config */
};

/* Walks the numeric options; NULL after the last. */
const struct option_def *option_at(unsigned position);
uint64_t option_value(const struct config *c, const struct option_def *def);

/* The path of a unix socket, or @ and a name outside the file system (unix(7)); NULL: it is not a unix socket. */
const char *listener_path(const struct listener_config *l);
/* The file of a unix socket that this process binds and removes; NULL: there is none. */
const char *listener_file(const struct listener_config *l);
const char *sandbox_mode_name(enum sandbox_mode mode);

void config_defaults(struct config *c);
/* Reads HELLO's options (a msgpack map). False: *fault names the option and the rule, and c must not be used. */
bool config_read(struct config *c, struct slice options, struct config_fault *fault);

#endif
