import assert from "node:assert/strict";
import test from "node:test";
import { load } from "speechtok";
import { compare, passThrough, stressInput } from "./stress.js";
import { RANDOM, bytesOf, golden, sha256 } from "./support.js";

const CASES = [
  ["speechtok-v2", "simd", [0, 1, 320, 333, 1_280, 4_000]],
  ["speechtok-v2", "scalar", [0]],
  ["random", "simd", [0, 1, 320, 333, 1_280, 4_000]],
  ["random", "scalar", [0, 1, 333, 4_000]],
];
const x = stressInput();

test("the stress input is the documented one", async () => {
  assert.equal(sha256(bytesOf(x)), (await golden("random")).fields.input_sha256);
});

for (const [name, kind, chunks] of CASES)
  test(`${name}, ${kind}: codes and audio are those of the golden file`, async (t) => {
    const expected = await golden(name);
    const tok = await load(name === "random" ? RANDOM : undefined, { kind });
    assert.equal(tok.kind, kind);
    assert.equal(tok.fingerprint, expected.fields.fingerprint);
    assert.equal(tok.decoderFingerprint, expected.fields.decoder_fingerprint);
    for (const chunk of chunks)
      await t.test(chunk ? `in chunks of ${chunk}` : "whole", async () => {
        const [codes, audio] = await passThrough(tok, x, chunk);
        assert.deepEqual(compare(expected, codes, audio), { codes: 0, frames: 0 });
      });
  });

test("the comparison notices one changed code and one changed sample", async () => {
  const expected = await golden("random");
  const [codes, audio] = await passThrough(await load(RANDOM), x);
  codes.data[5] ^= 1;
  audio[70_000] += 1e-6;
  assert.deepEqual(compare(expected, codes, audio), { codes: 1, frames: 1 });
});
