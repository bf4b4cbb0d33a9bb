import { SpeechtokError, quoted } from "./errors.js";
import { readSource } from "./files.js";
import { Native, bestKind } from "./native.js";
import { Tokenizer } from "./tokenizer.js";
/**
 * Load a tokenizer: the default of this package, packed weights, or a saved tokenizer.
 *
 * Packed weights are compared with their digest, and the weights of a saved tokenizer with its fingerprints. Then the
 * module encodes and decodes a known signal, and refuses to work if it computes other bits.
 */
export async function load(source, options = {}) {
    const kind = options.kind ?? bestKind();
    if (kind !== "simd" && kind !== "scalar")
        throw new SpeechtokError("bad-argument", `kind is ${quoted(kind)}; expected "simd" or "scalar"`);
    if (isCheckpoint(source)) {
        const [native, config, weights] = await Promise.all([
            Native.open(kind),
            readSource(source.config),
            readSource(source.weights),
        ]);
        const [address] = native.call([config, weights], (result, c, w) => native.functions.load_files(c, config.length, w, weights.length, result));
        return new Tokenizer(native, address);
    }
    const [native, packed] = await Promise.all([
        Native.open(kind),
        readSource(source ?? new URL("./speechtok-v2.bin", import.meta.url)),
    ]);
    const [address] = native.call([packed], (result, data) => native.functions.load_packed(data, packed.length, result));
    return new Tokenizer(native, address);
}
/** Pack a saved tokenizer into one file with about a byte for each weight. Compress it with gzip to make it smaller. */
export async function pack(checkpoint) {
    const [native, config, weights] = await Promise.all([
        Native.open(bestKind()),
        readSource(checkpoint.config),
        readSource(checkpoint.weights),
    ]);
    const [packed, size] = native.call([config, weights], (result, c, w) => native.functions.pack_files(c, config.length, w, weights.length, result));
    return new Uint8Array(native.take(packed, size));
}
/** Whether a source is that of two files. */
export function isCheckpoint(source) {
    return typeof source === "object" && source !== null && "config" in source && "weights" in source;
}
