/** Codes by speechtok_status of the C library, from 1 on. */
const CODES = [
    "no-memory",
    "bad-argument",
    "bad-file",
    "bad-config",
    "fingerprint",
    "bad-state",
    "self-test",
];
/** A call that failed. The message says what was found and what was expected. */
export class SpeechtokError extends Error {
    code;
    name = "SpeechtokError";
    constructor(code, message, options) {
        super(message, options);
        this.code = code;
    }
}
/** The code of a status of the C library, which is not 0. */
export function codeOf(status) {
    return CODES[status - 1] ?? "bad-argument";
}
/** A value in a message: at most 80 characters. */
export function quoted(value) {
    const text = typeof value === "string" ? JSON.stringify(value) : String(value);
    return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
/** Check a whole number from a caller. */
export function checkInteger(name, value, minimum, maximum) {
    if (typeof value === "number" && Number.isInteger(value) && value >= minimum && value <= maximum)
        return value;
    throw new SpeechtokError("bad-argument", `${name} is ${quoted(value)}; expected ${minimum} to ${maximum}`);
}
/** Check samples from a caller; their values are checked in the C library. */
export function checkWaveform(name, value) {
    if (value instanceof Float32Array)
        return value;
    const type = value === null ? "null" : value?.constructor?.name ?? typeof value;
    throw new SpeechtokError("bad-argument", `${name} is of type ${type}; expected a Float32Array of samples in [-1, 1]`);
}
