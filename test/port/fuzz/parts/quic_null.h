/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces QUIC's encryption: nothing is encrypted, and a handshake is complete when it begins. */
#ifndef SPARX_FUZZ_QUIC_NULL_H
#define SPARX_FUZZ_QUIC_NULL_H

enum { QUIC_NULL_TAG = 16 };

#endif
