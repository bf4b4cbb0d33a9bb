// The stress input of ../../conformance, and comparisons with its golden files. Runs in Node.js and in browsers.
import { Codes, concat } from "../dist/index.js";

const FULL_SCALE = 2 ** 23;

function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(1_664_525, state) + 1_013_904_223) >>> 0;
    return (state >>> 8) - FULL_SCALE;
  };
}

const shift = (x, n) => Math.floor(x / 2 ** n); // exact: all values are below 2**53
const clip = (x) => Math.max(-FULL_SCALE, Math.min(FULL_SCALE, x));

/** 519 323 samples at 16 kHz. */
export function stressInput() {
  const bits = new Uint32Array(7_200);
  for (let i = 0; i < 800; i++) bits[3_200 + i] = 0x8000_0000;
  for (let i = 0; i < 3_200; i++)
    bits[4_000 + i] = (((i & 1) << 31) | (1 + ((Math.imul(i, 2_654_435_761) >>> 0) & 0x7f_fffe))) >>> 0;
  const x = new Float32Array(519_323);
  x.set(new Float32Array(bits.buffer));
  let place = bits.length;
  const put = (numerator, denominator = FULL_SCALE) => (x[place++] = numerator / denominator);
  let next = generator(1);
  for (let level = 0; level < 12; level++) for (let i = 0; i < 24_000; i++) put(next(), FULL_SCALE * 2 ** level);
  next = generator(2);
  for (let i = 0; i < 16_000; i++) put(clip(4 * next()));
  for (let i = 0, phase = 0, step = 0; i < 80_000; i++) {
    step += 26_843;
    phase = (phase + step) >>> 0;
    const arc = (phase >>> 16) & 0x7fff;
    const value = shift(arc * (0x8000 - arc), 5);
    put(phase >>> 31 ? 0 - value : value); // not -0
  }
  for (let i = 0; i < 16_000; i++) put(i < 8_000 ? FULL_SCALE / 2 : 1 - FULL_SCALE);
  for (let i = 0; i < 16_000; i++) put(i % 997 ? 0 : FULL_SCALE);
  for (let i = 0; i < 16_000; i++) put(Math.floor(i / 40) % 2 ? -5_872_025 : 5_872_025);
  next = generator(3);
  for (let i = 0, first = 0, second = 0, third = 0, fourth = 0, countdown = 0; i < 80_000; i++, countdown--) {
    let pulse = shift(next(), 9);
    if (countdown === 0) [countdown, pulse] = [80 + (Math.floor(i / 400) % 120), FULL_SCALE / 4];
    [first, second] = [pulse + shift(31_000 * first - 15_600 * second, 14), first];
    [third, fourth] = [shift(first, 3) + shift(24_500 * third - 15_200 * fourth, 14), third];
    put(clip(third));
  }
  next = generator(4);
  for (let i = 0; i < 123; i++) put(next());
  return x;
}

function fnv1a(bytes) {
  let value = 2_166_136_261;
  for (const byte of bytes) value = Math.imul(value ^ byte, 16_777_619);
  return value >>> 0;
}

/** A golden file: the fields of its header, codes and hashes of the audio of each frame. */
export function parseGolden(text) {
  const lines = text.trimEnd().split("\n");
  const start = lines.findIndex((line) => /^\d/.test(line));
  const fields = Object.fromEntries(lines.slice(0, start).map((line) => line.split(" ")));
  const rows = lines.slice(start).map((line) => line.split(" "));
  const codes = Codes.from(
    Array.from({ length: Number(fields.num_codebooks) }, (_, q) => rows.map((row) => Number(row[q]))),
  );
  return { fields, codes, hashes: rows.map((row) => parseInt(row.at(-1), 16)) };
}

/** Numbers of codes, and of frames of audio, that differ from a golden file. */
export function compare(golden, codes, audio) {
  const hop = Number(golden.fields.hop_length);
  const frames = golden.hashes.length;
  const positive = audio.map((x) => x + 0); // -0 becomes 0
  const bytes = new Uint8Array(positive.buffer);
  const wrongCodes =
    codes.data.length === golden.codes.data.length
      ? golden.codes.data.reduce((sum, code, i) => sum + (code !== codes.data[i]), 0)
      : "all";
  const wrongFrames = golden.hashes.reduce(
    (sum, hash, t) => sum + (hash !== fnv1a(bytes.subarray(4 * hop * t, 4 * hop * (t + 1)))),
    0,
  );
  return { codes: wrongCodes, frames: audio.length === Number(golden.fields.samples) ? wrongFrames : frames };
}

/** Encode and decode the stress input: whole, or as a stream of chunks. The tokenizer may be one in a worker. */
export async function passThrough(tok, x, chunk) {
  if (!chunk) {
    const tokens = await tok.encode(x);
    return [tokens.codes, await tok.decode(tokens)];
  }
  const stream = await tok.stream();
  const codes = [];
  const audio = [];
  for (let start = 0; start < x.length; start += chunk) {
    const some = stream.encode(x.subarray(start, start + chunk));
    codes.push(some instanceof Promise ? await some : some);
    const heard = stream.decode(codes.at(-1));
    audio.push(heard instanceof Promise ? await heard : heard);
  }
  codes.push(await stream.flush());
  audio.push(await stream.decode(codes.at(-1)), await stream.drain());
  await stream.close();
  return [Codes.concat(codes), concat(audio).slice(0, x.length)];
}
