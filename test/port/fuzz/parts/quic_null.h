/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of what encrypts QUIC: nothing is, and a handshake is done when it begins. */
#ifndef SPARX_FUZZ_QUIC_NULL_H
#define SPARX_FUZZ_QUIC_NULL_H

enum { QUIC_NULL_TAG = 16 };

#endif
