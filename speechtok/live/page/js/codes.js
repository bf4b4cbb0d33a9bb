import { SpeechtokError, checkInteger, quoted } from "./errors.js";
/** Codes of one utterance, or of a piece of one: a grid of codebooks × frames. */
export class Codes {
    data;
    numCodebooks;
    numFrames;
    /**
     * @param data codes, codebook by codebook: `data[q * numFrames + t]`
     */
    constructor(data, numCodebooks, numFrames) {
        this.data = data;
        this.numCodebooks = numCodebooks;
        this.numFrames = numFrames;
        if (!(data instanceof Uint16Array) || data.length !== numCodebooks * numFrames)
            throw new SpeechtokError("bad-argument", `the data of codes is ${quoted(data)}; expected a Uint16Array of ${numCodebooks} × ${numFrames} codes`);
    }
    /** Codes from rows of numbers, a row for each codebook. */
    static from(rows) {
        const numFrames = rows[0]?.length ?? 0;
        const data = new Uint16Array(rows.length * numFrames);
        for (let q = 0; q < rows.length; q++) {
            const row = rows[q];
            if (row.length !== numFrames)
                throw new SpeechtokError("bad-argument", `codebook ${q} has ${row.length} frames; expected ${numFrames}`);
            for (let t = 0; t < numFrames; t++)
                data[q * numFrames + t] = checkInteger("a code", row[t], 0, 65_535);
        }
        return new Codes(data, rows.length, numFrames);
    }
    /** Join pieces of a stream. */
    static concat(parts) {
        const numCodebooks = parts[0]?.numCodebooks ?? 0;
        const numFrames = parts.reduce((sum, part) => sum + part.numFrames, 0);
        const data = new Uint16Array(numCodebooks * numFrames);
        let place = 0;
        for (const part of parts) {
            if (part.numCodebooks !== numCodebooks)
                throw new SpeechtokError("bad-argument", `a part has ${part.numCodebooks} codebooks; expected ${numCodebooks}`);
            for (let q = 0; q < numCodebooks; q++)
                data.set(part.codebook(q), q * numFrames + place);
            place += part.numFrames;
        }
        return new Codes(data, numCodebooks, numFrames);
    }
    /** The code of a codebook and a frame. */
    get(codebook, frame) {
        checkInteger("the codebook", codebook, 0, this.numCodebooks - 1);
        return this.data[codebook * this.numFrames + checkInteger("the frame", frame, 0, this.numFrames - 1)];
    }
    /** All codes of a codebook: a view, not a copy. Codebook 0 holds the semantic codes. */
    codebook(codebook) {
        checkInteger("the codebook", codebook, 0, this.numCodebooks - 1);
        return this.data.subarray(codebook * this.numFrames, (codebook + 1) * this.numFrames);
    }
    /** Frames `start` to `stop`, as `Array.prototype.slice` counts them. */
    slice(start = 0, stop = this.numFrames) {
        const rows = Array.from({ length: this.numCodebooks }, (_, q) => this.codebook(q).slice(start, stop));
        return rows.length ? Codes.from(rows) : this;
    }
    /** The first codebooks alone, which make a lower bit rate. */
    first(numCodebooks) {
        checkInteger("numCodebooks", numCodebooks, 1, this.numCodebooks);
        return new Codes(this.data.slice(0, numCodebooks * this.numFrames), numCodebooks, this.numFrames);
    }
}
