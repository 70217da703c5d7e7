/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests (test/fixtures/tls), and a listener's `tls` map made of them in the notation of support.h. */
#ifndef SPARX_TEST_TLS_FIXTURE_H
#define SPARX_TEST_TLS_FIXTURE_H

#include "support.h"
#include "tls/tls.h"

/* A file of test/fixtures/tls; to be freed. */
struct buf tls_file(const char *name);

/*
 * The map: `certificates` names files, separated by blanks: "a-ec b" for a-ec.crt and a-ec.key, b.crt and b.key; "a-ec:b" has the
 * certificate of the first and the key of the second. `more` is a map of further pairs in the notation, NULL for none; a
 * text 'CA:name' in it stands for the bytes of name.crt.
 */
struct buf tls_map(const char *certificates, const char *more);
/* A map of one certificate, whose chain and key are these files. password: NULL for none. */
struct buf tls_map_of_files(const char *chain, const char *key, const char *password);
/* The store of such a map, which must be valid. */
struct tls_store *tls_store_of(const char *certificates, const char *more);

#endif
