/* Arrays of numbers, which the page holds as base64 of little-endian values. */

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** All 65,536 half-precision numbers (IEEE 754 binary16) by their bits. Older browsers have no Float16Array. */
function halfNumbers() {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else table[bits] = sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return table;
}

/** The numbers of an encoded array: {type, scale, data}. Half-precision numbers are multiplied by their scale. */
function decoded({ type, scale, data }) {
  const { buffer } = bytesOf(data);
  if (type === "float32") return new Float32Array(buffer);
  if (type === "int32") return new Int32Array(buffer);
  if (type === "uint16") return new Uint16Array(buffer);
  const table = halfNumbers();
  return Float32Array.from(new Uint16Array(buffer), (bits) => table[bits] * scale);
}
