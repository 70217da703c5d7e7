/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/fields.h"

#include "base/text.h"
#include "frames/mp.h"
#include "frames/names.h"

static bool decode_name(struct slice *in, struct field *field)
{
	struct mp_value v;

	if (!mp_read(in, &v))
		return false;
	if (v.type == MP_UINT && v.u < NAMES_COUNT) {
		field->index = (int)v.u;
		field->name = name_text(field->index);
		return true;
	}
	field->name = v.bytes;
	field->index = v.type == MP_STR || v.type == MP_BIN ? name_find_nocase(v.bytes) : NAME_UNKNOWN;
	return v.type == MP_STR || v.type == MP_BIN;
}

static bool decode_value(struct slice *in, struct field *field)
{
	struct mp_value v;

	if (!mp_read(in, &v) || (v.type != MP_STR && v.type != MP_BIN))
		return false;
	field->value = text_trim(v.bytes); /* RFC 9110 5.5: white space around it is no part of it */
	return true;
}

bool fields_decode(struct slice raw, struct field *fields, unsigned max, unsigned *count, const char **rule)
{
	struct mp_value array;

	*count = 0;
	*rule = "must be an array of names and values";
	if (!mp_read(&raw, &array) || array.type != MP_ARRAY || array.u % 2 != 0)
		return false;
	*rule = "has too many fields";
	if (array.u / 2 > max)
		return false;
	for (; *count < array.u / 2; ++*count) {
		*rule = "has a name that is neither text nor an index of the table";
		if (!decode_name(&raw, &fields[*count]))
			return false;
		*rule = "has a value that is not bytes";
		if (!decode_value(&raw, &fields[*count]))
			return false;
	}
	return true;
}

size_t fields_bound(const struct field *fields, unsigned count)
{
	size_t bound = MP_MAX_HEAD;

	for (unsigned i = 0; i < count; i++)
		bound += 2 * MP_MAX_HEAD + fields[i].name.len + fields[i].value.len;
	return bound;
}

uint8_t *fields_encode(uint8_t *at, const struct field *fields, unsigned count)
{
	at = mp_array(at, 2 * count);
	for (unsigned i = 0; i < count; i++) {
		if (fields[i].index >= 0)
			at = mp_uint(at, (uint64_t)fields[i].index);
		else
			at = mp_str(at, fields[i].name);
		at = mp_bin(at, fields[i].value);
	}
	return at;
}
