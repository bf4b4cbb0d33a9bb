/** Messages between a page and the worker that computes for it. */
import { Codes } from "./codes.js";
import { SpeechtokError } from "./errors.js";
/** A value that was sent, with its classes again. */
export function revive(value) {
    if (Array.isArray(value))
        return value.map(revive);
    if (isPlainCodes(value))
        return new Codes(value.data, value.numCodebooks, value.numFrames);
    if (isTokens(value))
        return { ...value, codes: revive(value.codes) };
    return value;
}
/** Buffers of a result, which the worker needs no longer. */
export function buffersOf(value) {
    if (Array.isArray(value))
        return value.flatMap(buffersOf);
    if (value instanceof Codes)
        return [value.data.buffer];
    if (value instanceof Float32Array || value instanceof Uint8Array)
        return [value.buffer];
    return isTokens(value) ? buffersOf(value.codes) : [];
}
export function toError(error) {
    if (error instanceof SpeechtokError)
        return { code: error.code, message: error.message };
    return { message: error instanceof Error ? error.message : String(error) };
}
export function fromError({ code, message }) {
    return code ? new SpeechtokError(code, message) : new Error(message);
}
function isPlainCodes(value) {
    return typeof value === "object" && value !== null && "data" in value && "numFrames" in value;
}
function isTokens(value) {
    return typeof value === "object" && value !== null && "codes" in value && "fingerprint" in value;
}
