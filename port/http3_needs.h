/* SPDX-License-Identifier: Apache-2.0 */
/* What HTTP/3 needs of its libraries. The Makefile preprocesses this, and leaves HTTP/3 out with the reason that an #error gives. */
#if defined(__linux__) && !defined(PORTABLE)
#else
#error it is written for Linux
#endif

#if __has_include(<ngtcp2/version.h>)
#include <ngtcp2/version.h>
#if NGTCP2_VERSION_NUM < 0x010b00
#error ngtcp2 is too old: one packet of any client ends a server that uses 0.12 (libngtcp2-dev from 1.11 is needed)
#endif
#else
#error libngtcp2-dev is missing
#endif

#if !__has_include(<ngtcp2/ngtcp2_crypto_gnutls.h>)
#error libngtcp2-crypto-gnutls-dev is missing
#endif

#if __has_include(<nghttp3/version.h>)
#include <nghttp3/version.h>
#if NGHTTP3_VERSION_NUM < 0x010800
#error nghttp3 is too old (libnghttp3-dev from 1.8 is needed)
#endif
#else
#error libnghttp3-dev is missing
#endif
