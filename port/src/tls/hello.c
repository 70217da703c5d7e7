/* SPDX-License-Identifier: Apache-2.0 */
/* The ClientHello, as far as it must be known before a session is made: whether it is complete, and for which server it asks. */
#include "tls/tls.h"

enum {
	RECORD_HEAD = 5,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 16384,
	MESSAGE_HEAD = 4,
	CLIENT_HELLO = 1,
	VERSION_AND_RANDOM = 2 + 32,
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_QUIC = 57, /* RFC 9001 8.2 */
	NAME_OF_HOST = 0,
	KEPT_MAX = TLS_HELLO_MAX + 64 * RECORD_HEAD, /* bytes of the wire that are worth keeping */
};

/* A walk over bytes that never leaves them. */
static bool take(struct slice *in, size_t n, struct slice *part)
{
	if (in->len < n)
		return false;
	*part = slice_of(in->at, n);
	*in = slice_of(in->at + n, in->len - n);
	return true;
}

static bool take_number(struct slice *in, unsigned bytes, size_t *number)
{
	struct slice part;

	if (!take(in, bytes, &part))
		return false;
	*number = 0;
	for (unsigned i = 0; i < bytes; i++)
		*number = *number << 8 | part.at[i];
	return true;
}

/* A vector: its length in so many bytes, and then that. */
static bool take_vector(struct slice *in, unsigned bytes, struct slice *part)
{
	size_t n;

	return take_number(in, bytes, &n) && take(in, n, part);
}

/* Letters, digits, hyphens, dots and underscores: what is no name of a host is no name at all. */
static bool copy_name(struct slice from, char name[TLS_NAME_MAX])
{
	if (from.len == 0 || from.len >= TLS_NAME_MAX)
		return false;
	for (size_t i = 0; i < from.len; i++) {
		uint8_t c = from.at[i];
		bool upper = c >= 'A' && c <= 'Z';
		if (!upper && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
			return false;
		name[i] = (char)(upper ? c + 'a' - 'A' : c);
	}
	name[from.len - (from.at[from.len - 1] == '.')] = 0;
	return true;
}

static void find_name(struct slice extension, char name[TLS_NAME_MAX])
{
	struct slice list, host;
	size_t type;

	if (take_vector(&extension, 2, &list) && take_number(&list, 1, &type) && type == NAME_OF_HOST &&
	    take_vector(&list, 2, &host) && !copy_name(host, name))
		name[0] = 0;
}

/* The name, and whether there is an extension of QUIC; false too if it cannot be read. */
static bool find_extensions(struct slice hello, char name[TLS_NAME_MAX])
{
	struct slice skipped, extensions, extension;
	bool quic = false;
	size_t type;

	if (!take(&hello, VERSION_AND_RANDOM, &skipped) || !take_vector(&hello, 1, &skipped) || !take_vector(&hello, 2, &skipped) ||
	    !take_vector(&hello, 1, &skipped) || !take_vector(&hello, 2, &extensions))
		return false;
	while (take_number(&extensions, 2, &type) && take_vector(&extensions, 2, &extension)) {
		if (type == EXTENSION_SERVER_NAME && !name[0])
			find_name(extension, name);
		quic |= type == EXTENSION_QUIC;
	}
	return quic;
}

/* What is no ClientHello is whole at once: a session finds what is wrong with it. */
enum tls_first tls_first_bytes(const uint8_t *bytes, size_t len, char name[TLS_NAME_MAX])
{
	uint8_t message[MESSAGE_HEAD + TLS_HELLO_MAX];
	struct slice in = slice_of(bytes, len), payload;
	size_t have = 0, wanted = MESSAGE_HEAD;

	name[0] = 0;
	if (len > 0 && bytes[0] >= 'A' && bytes[0] <= 'Z') /* a method */
		return TLS_FIRST_HTTP;
	if (len > KEPT_MAX)
		return TLS_FIRST_WHOLE;
	while (have < wanted) {
		size_t n;
		if (in.len > 0 && (in.at[0] != RECORD_HANDSHAKE || (in.len > 1 && in.at[1] != 3)))
			return TLS_FIRST_WHOLE;
		if (in.len < RECORD_HEAD)
			return TLS_FIRST_MORE;
		n = (size_t)in.at[3] << 8 | in.at[4];
		if (n == 0 || n > RECORD_MAX)
			return TLS_FIRST_WHOLE;
		in = slice_of(in.at + RECORD_HEAD, in.len - RECORD_HEAD);
		payload = slice_of(in.at, n < in.len ? n : in.len);
		if (payload.len > sizeof message - have)
			payload.len = sizeof message - have;
		memcpy(message + have, payload.at, payload.len);
		have += payload.len;
		if (have > 0 && message[0] != CLIENT_HELLO)
			return TLS_FIRST_WHOLE;
		if (have >= MESSAGE_HEAD)
			wanted = MESSAGE_HEAD + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
		if (wanted > sizeof message)
			return TLS_FIRST_WHOLE;
		if (in.len < n)
			return TLS_FIRST_MORE;
		in = slice_of(in.at + n, in.len - n);
	}
	find_extensions(slice_of(message + MESSAGE_HEAD, wanted - MESSAGE_HEAD), name);
	return TLS_FIRST_WHOLE;
}

enum tls_first tls_first_message(const uint8_t *bytes, size_t len, char name[TLS_NAME_MAX], bool *lacks_parameters)
{
	size_t wanted;

	name[0] = 0;
	*lacks_parameters = false;
	if (len > 0 && bytes[0] != CLIENT_HELLO)
		return TLS_FIRST_WHOLE;
	if (len < MESSAGE_HEAD)
		return TLS_FIRST_MORE;
	wanted = (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
	if (wanted > TLS_HELLO_MAX)
		return TLS_FIRST_WHOLE;
	if (len - MESSAGE_HEAD < wanted)
		return TLS_FIRST_MORE;
	*lacks_parameters = !find_extensions(slice_of(bytes + MESSAGE_HEAD, wanted), name);
	return TLS_FIRST_WHOLE;
}
