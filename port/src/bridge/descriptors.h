/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the host hands over, each for one thing: a file for the response of a stream, a socket to listen on, or
 * memory. */
#ifndef SPARX_BRIDGE_DESCRIPTORS_H
#define SPARX_BRIDGE_DESCRIPTORS_H

#include "base/file.h"
#include "bridge/exchange.h"

/* Connects to the host's socket, if HELLO names one. If that fails, there is no channel. */
void descriptors_begin(struct bridge *b);
/* Waits for the descriptors that HELLO names: listening sockets and memory. False: fault says what is wrong with them. */
bool descriptors_await(struct bridge *b, struct config_fault *fault);
/* Slots were named for a stream that has ended: they are returned to the host. */
void descriptors_unused(struct bridge *b, uint64_t slot, uint64_t length);
/* The bytes that a message names, kept until shared_give. Empty: it names invalid slots, as `fault` says. */
struct slice descriptors_share(struct bridge *b, uint64_t slot, uint64_t length, struct message_fault *fault);
void descriptors_end(struct bridge *b);
/*
 * Finds the file with this token that this exchange may use. False: there is no such file. If true, the caller must call file_give; *file is
 * NULL if memory ran out.
 */
bool descriptors_find(struct exchange *x, uint64_t token, struct file **file);
/* No further message names files of this exchange: closes those that are not being sent. */
void descriptors_forget(struct exchange *x);

#endif
