/** Speech to discrete tokens and back: the codes and the audio of the Python package speechtok, bit for bit. */
export { Codes } from "./codes.js";
export { SpeechtokError } from "./errors.js";
export { load, pack } from "./load.js";
export { openMicrophone } from "./microphone.js";
export { concat } from "./tokenizer.js";
export { loadInWorker } from "./remote.js";
