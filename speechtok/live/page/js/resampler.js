import { checkInteger, checkWaveform } from "./errors.js";
import { Handle } from "./handle.js";
/** Sample rates that can be converted, in hertz. */
export const MIN_RATE = 1_000;
export const MAX_RATE = 768_000;
/**
 * Changes the sample rate of audio that arrives in pieces of any lengths.
 *
 * Joined together, the outputs equal those for the whole, and those of the Python package, bit for bit.
 */
export class Resampler extends Handle {
    native;
    fromRate;
    toRate;
    /** @internal */
    constructor(native, fromRate, toRate) {
        const { functions } = native;
        checkRate(fromRate);
        checkRate(toRate);
        const [address] = native.call([], (result) => functions.open_resampler(fromRate, toRate, result));
        super(address, (resampler) => functions.close_resampler(resampler));
        this.native = native;
        this.fromRate = fromRate;
        this.toRate = toRate;
    }
    /** Take the next samples. */
    push(chunk) {
        return this.run([checkWaveform("the chunk", chunk)], chunk.length);
    }
    /** End the utterance: the samples that waited for later ones. */
    flush() {
        return this.run([], -1);
    }
    /** Start a new utterance. */
    reset() {
        this.native.functions.reset_resampler(this.address);
    }
    run(arrays, samples) {
        const { functions } = this.native;
        const address = this.address;
        const [audio, count] = this.native.call(arrays, (result, chunk) => functions.resample(address, chunk ?? 0, samples, result));
        return this.native.takeSamples(audio, count);
    }
}
/** Check a sample rate from a caller. */
export function checkRate(sampleRate) {
    return checkInteger("the sample rate", sampleRate, MIN_RATE, MAX_RATE);
}
