/* SPDX-License-Identifier: Apache-2.0 */
/* What a fuzz target consists of, and how it reads its input. */
#ifndef SPARX_FUZZ_TARGET_H
#define SPARX_FUZZ_TARGET_H

#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

/* 0 after the end. */
static inline uint8_t input_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

/* At most so many. */
static inline struct slice input_bytes(struct input *in, size_t most)
{
	struct slice bytes = slice_of(in->at, most < in->left ? most : in->left);

	in->at += bytes.len;
	in->left -= bytes.len;
	return bytes;
}

#endif
