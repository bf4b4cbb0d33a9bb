import { Codes } from "./codes.js";
import { SpeechtokError, checkInteger, checkWaveform, quoted } from "./errors.js";
import { Handle } from "./handle.js";
import { Resampler, checkRate } from "./resampler.js";
import { Stream } from "./stream.js";
/** Other fingerprints of the same codes. */
const ALIASES = { "18d457da55bebdd2": "6e0f5f766c426279" };
const MAX_SAMPLES = 2 ** 29;
/** A loaded tokenizer, as `load` returns it. */
export class Tokenizer extends Handle {
    native;
    sampleRate;
    hopLength;
    numCodebooks;
    codebookSize;
    fingerprint;
    decoderFingerprint;
    /** @internal */
    constructor(native, address) {
        super(address, (tokenizer) => native.functions.free_tokenizer(tokenizer));
        this.native = native;
        const info = native.read((result) => native.functions.describe(address, result));
        this.sampleRate = info[0];
        this.hopLength = info[1];
        this.numCodebooks = info[2];
        this.codebookSize = info[3];
        this.fingerprint = native.text(info[5]);
        this.decoderFingerprint = native.text(info[6]);
    }
    get kind() {
        return this.native.kind;
    }
    get frameRate() {
        return this.sampleRate / this.hopLength;
    }
    /** Bits a second of codes of some codebooks; of all if the number is left out. */
    bitRate(numCodebooks = this.numCodebooks) {
        return this.checkCodebooks(numCodebooks) * Math.log2(this.codebookSize) * this.frameRate;
    }
    /** Encode a waveform, mono, with samples in [-1, 1]. */
    encode(waveform, options = {}) {
        const numCodebooks = this.checkCodebooks(options.numCodebooks ?? this.numCodebooks);
        const samples = this.resample(checkWaveform("the waveform", waveform), options.sampleRate ?? this.sampleRate);
        const address = this.address;
        const [data, numFrames] = this.native.call([samples], (result, x) => this.native.functions.encode(address, x, samples.length, numCodebooks, result));
        return {
            codes: new Codes(this.native.takeCodes(data, numCodebooks * numFrames), numCodebooks, numFrames),
            numSamples: samples.length,
            sampleRate: this.sampleRate,
            hopLength: this.hopLength,
            codebookSize: this.codebookSize,
            fingerprint: this.fingerprint,
        };
    }
    /** Decode tokens, or bare codes, to a waveform at the tokenizer's rate. */
    decode(tokens, options = {}) {
        const bare = tokens instanceof Codes;
        if (!bare)
            this.checkFingerprint(tokens);
        const all = bare ? tokens : tokens.codes;
        const numCodebooks = checkInteger("numCodebooks", options.numCodebooks ?? all.numCodebooks, 1, all.numCodebooks);
        const most = all.numFrames * this.hopLength;
        const numSamples = bare ? most : checkInteger("numSamples", tokens.numSamples, 0, most);
        const address = this.address;
        const data = all.data.subarray(0, numCodebooks * all.numFrames);
        const [waveform] = this.native.call([data], (result, codes) => this.native.functions.decode(address, codes, numCodebooks, all.numFrames, numSamples, result));
        return this.native.takeSamples(waveform, numSamples);
    }
    /** A stream for live audio: `sampleRate` is that of the chunks to encode. */
    stream(options = {}) {
        const numCodebooks = this.checkCodebooks(options.numCodebooks ?? this.numCodebooks);
        const sampleRate = checkRate(options.sampleRate ?? this.sampleRate);
        const sizes = { tokenizer: this.address, hopLength: this.hopLength };
        return new Stream(this.native, sizes, numCodebooks, sampleRate, this);
    }
    /** A resampler for audio that arrives in pieces. */
    resampler(fromRate, toRate = this.sampleRate) {
        return new Resampler(this.native, fromRate, toRate);
    }
    /** Change the sample rate of a waveform: `ceil(samples * toRate / fromRate)` samples. */
    resample(waveform, fromRate, toRate = this.sampleRate) {
        checkInteger("the number of samples", checkWaveform("the waveform", waveform).length, 0, MAX_SAMPLES);
        if (checkRate(fromRate) === checkRate(toRate))
            return waveform;
        const resampler = this.resampler(fromRate, toRate);
        try {
            return concat([resampler.push(waveform), resampler.flush()]);
        }
        finally {
            resampler.close();
        }
    }
    /** Utterances of a `.tokens` file. One changed bit is an error. */
    readTokens(bytes) {
        const { functions } = this.native;
        const [file, batch, numCodebooks, , sampleRate, hopLength, codebookSize, text] = this.native.call([bytes], (result, data) => functions.parse_tokens(data, bytes.length, result));
        try {
            const fingerprint = this.native.text(text);
            return Array.from({ length: batch }, (_, row) => {
                const [data, numFrames, numSamples] = this.native.call([], (result) => functions.utterance_of(file, row, result));
                const codes = new Codes(this.native.takeCodes(data, numCodebooks * numFrames), numCodebooks, numFrames);
                return {
                    codes,
                    numSamples: numSamples,
                    sampleRate: sampleRate,
                    hopLength: hopLength,
                    codebookSize: codebookSize,
                    fingerprint,
                };
            });
        }
        finally {
            functions.free_tokens(file);
        }
    }
    /** The `.tokens` file of one or more utterances: the bytes that the Python package writes. */
    writeTokens(tokens) {
        const list = Array.isArray(tokens) ? tokens : [tokens];
        const first = list[0];
        if (!first)
            throw new SpeechtokError("bad-argument", "there are no tokens; expected at least one utterance");
        const { numCodebooks } = first.codes;
        const numFrames = Math.max(...list.map((one) => one.codes.numFrames));
        const data = new Uint16Array(list.length * numCodebooks * numFrames);
        list.forEach((one, row) => {
            for (const key of ["sampleRate", "hopLength", "codebookSize", "fingerprint"])
                if (one[key] !== first[key])
                    throw new SpeechtokError("bad-argument", `${key} differs between utterances`);
            if (one.codes.numCodebooks !== numCodebooks)
                throw new SpeechtokError("bad-argument", "the number of codebooks differs between utterances");
            for (let q = 0; q < numCodebooks; q++)
                data.set(one.codes.codebook(q), (row * numCodebooks + q) * numFrames);
        });
        const arrays = [
            data,
            Uint32Array.from(list, (one) => one.codes.numFrames),
            Uint32Array.from(list, (one) => one.numSamples),
            new TextEncoder().encode(`${first.fingerprint}\0`),
        ];
        const [bytes, size] = this.native.call(arrays, (result, codes, lengths, numSamples, fingerprint) => this.native.functions.write_tokens(codes, lengths, numSamples, list.length, numCodebooks, numFrames, first.sampleRate, first.hopLength, first.codebookSize, fingerprint, result));
        return new Uint8Array(this.native.take(bytes, size));
    }
    checkCodebooks(numCodebooks) {
        return checkInteger("numCodebooks", numCodebooks, 1, this.numCodebooks);
    }
    checkFingerprint(tokens) {
        if (!(tokens?.codes instanceof Codes))
            throw new SpeechtokError("bad-argument", `the tokens are ${quoted(tokens)}; expected those of encode, or Codes`);
        const { fingerprint } = tokens;
        if ((ALIASES[fingerprint] ?? fingerprint) === (ALIASES[this.fingerprint] ?? this.fingerprint))
            return;
        throw new SpeechtokError("fingerprint", `the tokens were made by tokenizer ${quoted(fingerprint)}, and this one is ${quoted(this.fingerprint)}; ` +
            "load the tokenizer that made them");
    }
}
/** Join pieces of audio. */
export function concat(parts) {
    const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let place = 0;
    for (const part of parts) {
        joined.set(part, place);
        place += part.length;
    }
    return joined;
}
