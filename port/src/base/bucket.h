/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket in one word (the generic cell rate algorithm): the time at which the bucket will be full again. It may be ahead
 * of now by the time that a whole burst takes to come back. All zero is a full bucket.
 */
#ifndef SPARX_BASE_BUCKET_H
#define SPARX_BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint64_t paid; /* µs */
};

/* Takes one of `burst` tokens. They come back one by one, all of them within period_us. False: none is left. */
static inline bool bucket_take(struct bucket *b, uint64_t now_us, uint64_t burst, uint64_t period_us)
{
	uint64_t price = burst ? period_us / burst : UINT64_MAX / 4;
	uint64_t from = b->paid > now_us ? b->paid : now_us;

	if (burst == 0 || from - now_us > period_us - price)
		return false;
	b->paid = from + price;
	return true;
}

#endif
