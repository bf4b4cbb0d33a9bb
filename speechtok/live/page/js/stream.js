import { Codes } from "./codes.js";
import { SpeechtokError, checkWaveform, quoted } from "./errors.js";
import { Handle } from "./handle.js";
/**
 * Audio to codes and codes to audio, piece by piece. Pieces may have any length: joined together, they equal the results
 * for the whole.
 *
 * A frame's codes come with its last sample. Its audio comes with the codes of the next frame, or with `drain`. The two
 * directions do not share state.
 */
export class Stream extends Handle {
    native;
    sizes;
    numCodebooks;
    sampleRate;
    owner;
    /** @internal */
    constructor(native, sizes, 
    /** Codebooks of encoded codes. */
    numCodebooks, 
    /** Sample rate of the chunks to encode. Decoded audio has the tokenizer's rate. */
    sampleRate, 
    /** Keeps the tokenizer from being collected. */
    owner) {
        const { functions } = native;
        const [address] = native.call([], (result) => functions.open_stream(sizes.tokenizer, numCodebooks, sampleRate, result));
        super(address, (stream) => functions.close_stream(stream));
        this.native = native;
        this.sizes = sizes;
        this.numCodebooks = numCodebooks;
        this.sampleRate = sampleRate;
        this.owner = owner;
    }
    /** Take the next samples, at the stream's rate: codes of the frames that they complete. */
    encode(chunk) {
        const { functions } = this.native;
        const address = this.address;
        const result = this.native.call([checkWaveform("the chunk", chunk)], (result, samples) => functions.stream_encode(address, samples, chunk.length, this.numCodebooks, result));
        return this.takeCodes(result);
    }
    /** End the utterance: the last, partial frame is completed with silence. Call `reset` before more samples. */
    flush() {
        const address = this.address;
        const result = this.native.call([], (result) => this.native.functions.stream_flush(address, this.numCodebooks, result));
        return this.takeCodes(result);
    }
    /** Take the next codes, of any number of codebooks from the first: audio up to the last frame but one. */
    decode(codes) {
        if (!(codes instanceof Codes))
            throw new SpeechtokError("bad-argument", `the codes are ${quoted(codes)}; expected Codes`);
        const { functions } = this.native;
        const address = this.address;
        const [audio, count] = this.native.call([codes.data], (result, data) => functions.stream_decode(address, data, codes.numCodebooks, codes.numFrames, this.sizes.hopLength, result));
        return this.native.takeSamples(audio, count);
    }
    /** End decoding: the audio of the last frame. Call `reset` before more codes. */
    drain() {
        const address = this.address;
        const [audio, count] = this.native.call([], (result) => this.native.functions.stream_drain(address, this.sizes.hopLength, result));
        return this.native.takeSamples(audio, count);
    }
    /** Start new utterances in both directions, and discard the state of the old ones. */
    reset() {
        this.native.functions.reset_stream(this.address);
    }
    takeCodes([data, numFrames]) {
        return new Codes(this.native.takeCodes(data, this.numCodebooks * numFrames), this.numCodebooks, numFrames);
    }
}
