// As much of msgpack as PROTOCOL.md uses: nil, bool, integers, str, bin, array, map.
'use strict';

// ---- encoding

function encode(value) {
  const parts = [];
  put(parts, value);
  return Buffer.concat(parts);
}

function put(parts, value) {
  if (value === null || value === undefined) parts.push(Buffer.of(0xc0));
  else if (typeof value === 'boolean') parts.push(Buffer.of(value ? 0xc3 : 0xc2));
  else if (typeof value === 'number') parts.push(integer(value));
  else if (typeof value === 'string') {
    const text = Buffer.from(value);
    parts.push(text.length < 32 ? Buffer.of(0xa0 | text.length) : length(text.length, 0xd9, 0xda, 0xdb), text);
  } else if (value instanceof Uint8Array) parts.push(length(value.length, 0xc4, 0xc5, 0xc6), value);
  else if (Array.isArray(value)) {
    parts.push(value.length < 16 ? Buffer.of(0x90 | value.length) : length(value.length, null, 0xdc, 0xdd));
    for (const item of value) put(parts, item);
  } else {
    const pairs = Object.entries(value);
    parts.push(pairs.length < 16 ? Buffer.of(0x80 | pairs.length) : length(pairs.length, null, 0xde, 0xdf));
    for (const [key, item] of pairs) put(parts, key), put(parts, item);
  }
}

function integer(n) {
  if (!Number.isSafeInteger(n)) throw new RangeError(`not an integer: ${n}`);
  if (n >= -32 && n < 128) return Buffer.of(n & 0xff);
  if (n >= 0 && n < 2 ** 32) return length(n, 0xcc, 0xcd, 0xce);
  const wide = Buffer.alloc(9, n < 0 ? 0xd3 : 0xcf);
  wide.writeBigInt64BE(BigInt(n), 1);
  return wide;
}

// A number in 8, 16 or 32 bits behind the byte that says which.
function length(n, kind8, kind16, kind32) {
  if (kind8 !== null && n < 2 ** 8) return Buffer.of(kind8, n);
  if (n < 2 ** 16) return Buffer.of(kind16, n >> 8, n & 0xff);
  return Buffer.of(kind32, n >>> 24, (n >> 16) & 0xff, (n >> 8) & 0xff, n & 0xff);
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

module.exports = { encode, Decoder };
