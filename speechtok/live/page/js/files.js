import { SpeechtokError, quoted } from "./errors.js";
const GZIP = [0x1f, 0x8b];
/** The contents of a source; gzip is inflated. */
export async function readSource(source) {
    const bytes = await fetchBytes(source);
    if (bytes[0] !== GZIP[0] || bytes[1] !== GZIP[1])
        return bytes;
    const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    try {
        return new Uint8Array(await new Response(inflated).arrayBuffer());
    }
    catch (error) {
        throw new SpeechtokError("bad-file", "it is damaged: its gzip data cannot be inflated; fetch it again", { cause: error });
    }
}
async function fetchBytes(source) {
    if (source instanceof Uint8Array)
        return source;
    if (source instanceof ArrayBuffer)
        return new Uint8Array(source);
    if (typeof Blob !== "undefined" && source instanceof Blob)
        return new Uint8Array(await source.arrayBuffer());
    if (typeof Response !== "undefined" && source instanceof Response)
        return bytesOf(source);
    if (typeof source !== "string" && !(source instanceof URL))
        throw new SpeechtokError("bad-argument", `the source is ${quoted(source)}; expected a URL, a path or bytes`);
    if (isNode()) {
        const isUrl = source instanceof URL || /^(https?|data|blob|file):/.test(source);
        const url = isUrl ? new URL(source) : undefined;
        if (!url || url.protocol === "file:")
            return readFile(url ?? source);
    }
    return bytesOf(await fetch(source));
}
async function bytesOf(response) {
    if (!response.ok)
        throw new SpeechtokError("bad-file", `${quoted(response.url)} cannot be fetched: ${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
}
async function readFile(path) {
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
    try {
        return await readFile(path);
    }
    catch (error) {
        throw new SpeechtokError("bad-file", `${quoted(String(path))} cannot be read: ${error.message}`, { cause: error });
    }
}
/** Whether this is Node.js, or a program with its modules. */
export function isNode() {
    return typeof process !== "undefined" && process.versions?.node !== undefined;
}
