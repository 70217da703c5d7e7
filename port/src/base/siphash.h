/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 (Aumasson and Bernstein, 2012): a hash with a secret, so that a peer that chooses keys cannot choose collisions. */
#ifndef SPARX_BASE_SIPHASH_H
#define SPARX_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint8_t secret[16], const void *bytes, size_t len);

#endif
