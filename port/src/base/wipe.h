/* SPDX-License-Identifier: Apache-2.0 */
/* Overwrites a secret; the compiler cannot optimize it away. */
#ifndef SPARX_BASE_WIPE_H
#define SPARX_BASE_WIPE_H

#include <string.h>

static inline void wipe(void *bytes, size_t n)
{
	memset(bytes, 0, n);
	__asm__ volatile("" : : "r"(bytes) : "memory");
}

#endif
