/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the ClientHello before a session is made: whether it is complete, and which server it asks for. It also finds the errors
 * that the library does not notice; all others are left to the library.
 */
#include "tls/tls.h"

enum {
	RECORD_HEAD = 5,
	RECORD_ALERT = 21,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 16384,
	MESSAGE_HEAD = 4,
	CLIENT_HELLO = 1,
	VERSION_AND_RANDOM = 2 + 32,
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_PRE_SHARED_KEY = 41,
	EXTENSION_VERSIONS = 43,
	EXTENSION_QUIC = 57, /* RFC 9001 8.2 */
	VERSION_13 = 0x0304,
	ALERT_UNEXPECTED_MESSAGE = 10,
	ALERT_ILLEGAL_PARAMETER = 47,
	ALERT_DECODE_ERROR = 50,
	NAME_OF_HOST = 0,
	KEPT_MAX = TLS_HELLO_MAX + 64 * RECORD_HEAD, /* the most bytes that are kept */
};

/* A cursor that never leaves its bytes. */
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

/* A vector: its length, in `n` bytes, and its contents. */
static bool take_vector(struct slice *in, unsigned bytes, struct slice *part)
{
	size_t n;

	return take_number(in, bytes, &n) && take(in, n, part);
}

/* Letters, digits, hyphens, dots and underscores: other names cannot be host names and are ignored. */
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

/* RFC 6066 3: at most one name per type. Returns an alert, 0 for none. */
static uint8_t read_name(struct slice extension, struct tls_hello *hello)
{
	struct slice list, host;
	size_t type;
	bool found = false;

	if (!take_vector(&extension, 2, &list))
		return 0;
	while (take_number(&list, 1, &type) && take_vector(&list, 2, &host)) {
		if (type != NAME_OF_HOST)
			continue;
		if (found)
			return ALERT_ILLEGAL_PARAMETER;
		found = true;
		if (!copy_name(host, hello->name))
			hello->name[0] = 0;
	}
	return 0;
}

static uint8_t read_versions(struct slice extension, struct tls_hello *hello)
{
	struct slice list;
	size_t version;

	if (take_vector(&extension, 1, &list))
		while (take_number(&list, 2, &version))
			hello->takes_13 = hello->takes_13 || version == VERSION_13;
	return 0;
}

/* RFC 8446 4.2.11: each identity has its binder, and a name. */
static uint8_t read_keys(struct slice extension)
{
	struct slice identities, binders, part;
	size_t age;
	int more = 0;

	if (!take_vector(&extension, 2, &identities) || !take_vector(&extension, 2, &binders) || extension.len > 0 ||
	    identities.len == 0)
		return ALERT_DECODE_ERROR;
	for (; identities.len > 0; more++)
		if (!take_vector(&identities, 2, &part) || part.len == 0 || !take_number(&identities, 4, &age))
			return ALERT_DECODE_ERROR;
	for (; binders.len > 0; more--)
		if (!take_vector(&binders, 1, &part) || part.len < 32)
			return ALERT_DECODE_ERROR;
	return more ? ALERT_ILLEGAL_PARAMETER : 0;
}

static uint8_t read_extension(size_t type, struct slice extension, struct tls_hello *hello)
{
	switch (type) {
	case EXTENSION_SERVER_NAME:
		return read_name(extension, hello);
	case EXTENSION_VERSIONS:
		return read_versions(extension, hello);
	case EXTENSION_PRE_SHARED_KEY:
		return read_keys(extension);
	case EXTENSION_QUIC:
		hello->lacks_quic = false;
		return 0;
	default:
		return 0;
	}
}

/* True if the extension has occurred before: none may occur twice, known or not (RFC 8446 4.2). */
static bool note(uint8_t seen[8192], size_t type)
{
	uint8_t bit = (uint8_t)(1u << type % 8);
	bool before = seen[type / 8] & bit;

	seen[type / 8] |= bit;
	return before;
}

static uint8_t examine(struct slice in, struct tls_hello *hello)
{
	uint8_t seen[8192] = {0}, alert = 0;
	struct slice skipped, methods, extensions, extension;
	size_t type;

	if (!take(&in, VERSION_AND_RANDOM, &skipped) || !take_vector(&in, 1, &skipped) || !take_vector(&in, 2, &skipped) ||
	    !take_vector(&in, 1, &methods) || !take_vector(&in, 2, &extensions))
		return 0;
	while (!alert && take_number(&extensions, 2, &type) && take_vector(&extensions, 2, &extension))
		alert = note(seen, type) ? ALERT_ILLEGAL_PARAMETER : read_extension(type, extension, hello);
	if (!alert && hello->takes_13 && (methods.len != 1 || methods.at[0] != 0)) /* RFC 8446 4.1.2 */
		alert = ALERT_ILLEGAL_PARAMETER;
	return alert;
}

static enum tls_first wrong(struct tls_hello *hello, uint8_t alert)
{
	hello->alert = alert;
	return TLS_FIRST_WRONG;
}

/* Input that is not a ClientHello counts as complete: a session finds the error. */
enum tls_first tls_first_bytes(const uint8_t *bytes, size_t len, struct tls_hello *hello)
{
	uint8_t message[MESSAGE_HEAD + TLS_HELLO_MAX];
	struct slice in = slice_of(bytes, len), payload;
	size_t have = 0, wanted = MESSAGE_HEAD;

	*hello = (struct tls_hello){.alert = 0};
	if (len > 0 && bytes[0] >= 'A' && bytes[0] <= 'Z') /* a method */
		return TLS_FIRST_HTTP;
	if (len > 0 && bytes[0] != RECORD_HANDSHAKE)
		return wrong(hello, bytes[0] == RECORD_ALERT ? 0 : ALERT_UNEXPECTED_MESSAGE);
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
	hello->alert = examine(slice_of(message + MESSAGE_HEAD, wanted - MESSAGE_HEAD), hello);
	return hello->alert ? TLS_FIRST_WRONG : TLS_FIRST_WHOLE;
}

enum tls_first tls_first_message(const uint8_t *bytes, size_t len, struct tls_hello *hello)
{
	size_t wanted;

	*hello = (struct tls_hello){.alert = 0};
	if (len > 0 && bytes[0] != CLIENT_HELLO)
		return TLS_FIRST_WHOLE;
	if (len < MESSAGE_HEAD)
		return TLS_FIRST_MORE;
	wanted = (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
	if (wanted > TLS_HELLO_MAX)
		return TLS_FIRST_WHOLE;
	if (len - MESSAGE_HEAD < wanted)
		return TLS_FIRST_MORE;
	hello->lacks_quic = true;
	hello->alert = examine(slice_of(bytes + MESSAGE_HEAD, wanted), hello);
	return hello->alert ? TLS_FIRST_WRONG : TLS_FIRST_WHOLE;
}
