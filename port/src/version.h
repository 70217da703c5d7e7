/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SPARX_VERSION_H
#define SPARX_VERSION_H

#define SPARX_VERSION "0.2.0"
#define SPARX_PROTOCOL_VERSION 1

#endif
