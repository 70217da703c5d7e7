// SPDX-License-Identifier: Apache-2.0
// The part of msgpack that PROTOCOL.md uses: nil, bool, integers, str, bin, array, map.
'use strict';

// ---- encoding

class Encoder {
  constructor() {
    this.bytes = Buffer.allocUnsafe(65536);
    this.at = 0;
  }

  // Returns the bytes of all values since the last call.
  take() {
    const taken = Buffer.from(this.bytes.subarray(0, this.at));
    this.at = 0;
    return taken;
  }

  put(value) {
    if (value === null || value === undefined) this.byte(0xc0);
    else if (typeof value === 'boolean') this.byte(value ? 0xc3 : 0xc2);
    else if (typeof value === 'number') this.integer(value);
    else if (typeof value === 'string') this.text(value);
    else if (value instanceof Uint8Array) this.length(value.length, null, 0, 0xc4, 0xc5, 0xc6).copy(value);
    else if (Array.isArray(value)) {
      this.length(value.length, 0x90, 16, null, 0xdc, 0xdd);
      for (const item of value) this.put(item);
    } else {
      const pairs = Object.entries(value);
      this.length(pairs.length, 0x80, 16, null, 0xde, 0xdf);
      for (const [key, item] of pairs) this.text(key), this.put(item);
    }
  }

  integer(n) {
    if (!Number.isSafeInteger(n)) throw new RangeError(`not an integer: ${n}`);
    if (n >= 0 && n < 2 ** 32) return this.length(n, 0, 128, 0xcc, 0xcd, 0xce);
    if (n < 0 && n >= -32) return this.byte(n & 0xff);
    this.byte(n < 0 ? 0xd3 : 0xcf);
    const at = this.room(8);
    this.bytes.writeBigInt64BE(BigInt(n), at);
  }

  text(value) {
    const size = Buffer.byteLength(value);
    this.length(size, 0xa0, 32, 0xd9, 0xda, 0xdb);
    const at = this.room(size);
    this.bytes.write(value, at);
  }

  copy(value) {
    const at = this.room(value.length);
    this.bytes.set(value, at);
  }

  // Writes a number: into the type byte if it is below `most`, else after it, with 8, 16 or 32 bits.
  length(n, short, most, kind8, kind16, kind32) {
    if (n < most) this.byte(short | n);
    else if (n < 2 ** 8 && kind8 !== null) this.byte(kind8), this.byte(n);
    else if (n < 2 ** 16) this.byte(kind16), this.byte(n >> 8), this.byte(n);
    else this.byte(kind32), this.byte(n >>> 24), this.byte(n >> 16), this.byte(n >> 8), this.byte(n);
    return this;
  }

  byte(n) {
    const at = this.room(1);
    this.bytes[at] = n;
  }

  // Reserves the next `size` bytes; returns their offset.
  room(size) {
    if (this.at + size > this.bytes.length) {
      const larger = Buffer.allocUnsafe(2 * (this.at + size));
      this.bytes.copy(larger, 0, 0, this.at);
      this.bytes = larger;
    }
    return (this.at += size) - size;
  }
}

// ---- decoding

class Decoder {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get done() {
    return this.at >= this.bytes.length;
  }

  next() {
    const kind = this.bytes[this.at++];
    if (kind < 0x80) return kind;
    if (kind < 0x90) return this.map(kind & 15);
    if (kind < 0xa0) return this.array(kind & 15);
    if (kind < 0xc0) return this.text(kind & 31);
    if (kind >= 0xe0) return kind - 256;
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.binary(this.uint(1 << (kind - 0xc4)));
      case 0xcc: case 0xcd: case 0xce: return this.uint(1 << (kind - 0xcc));
      case 0xcf: return Number(this.bytes.readBigUInt64BE((this.at += 8) - 8));
      case 0xd0: case 0xd1: case 0xd2: return this.int(1 << (kind - 0xd0));
      case 0xd3: return Number(this.bytes.readBigInt64BE((this.at += 8) - 8));
      case 0xd9: case 0xda: case 0xdb: return this.text(this.uint(1 << (kind - 0xd9)));
      case 0xdc: case 0xdd: return this.array(this.uint(2 << (kind - 0xdc)));
      case 0xde: case 0xdf: return this.map(this.uint(2 << (kind - 0xde)));
      default: throw new RangeError(`not expected in msgpack: ${kind}`);
    }
  }

  uint(size) {
    return this.bytes.readUIntBE((this.at += size) - size, size);
  }

  int(size) {
    return this.bytes.readIntBE((this.at += size) - size, size);
  }

  binary(size) {
    return this.bytes.subarray(this.at, (this.at += size));
  }

  text(size) {
    return this.bytes.toString('utf8', this.at, (this.at += size));
  }

  array(size) {
    return Array.from({ length: size }, () => this.next());
  }

  map(size) {
    const map = {};
    for (let i = 0; i < size; i++) map[this.next()] = this.next();
    return map;
  }
}

module.exports = { Encoder, Decoder };
