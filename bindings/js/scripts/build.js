// Build dist/: the two modules from C, JavaScript from TypeScript, and the packed weights of the default.
//
// The C compiler is that of the Python package ziglang, which `python3 -m pip install` of requirements.txt installs;
// PYTHON names another Python that has it.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const here = join(root, "bindings", "js");
const library = join(root, "bindings", "c");
const dist = mkdtempSync(join(here, "dist-")); // it takes its name when it is complete

const compiler = [process.env.PYTHON ?? "python3", "-m", "ziglang", "cc", "-target", "wasm32-wasi"];
const flags = [
  "-std=c11",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-ffp-contract=off", // each operation rounds separately, so that all machines compute the same bits
  "-fno-fast-math",
  "-DSPEECHTOK_STATIC",
  ...[join(library, "include"), join(library, "src"), join(root, "speechtok", "nn", "native")].map((path) => `-I${path}`),
];
const link = ["-mexec-model=reactor", "-Wl,--gc-sections", "-Wl,--strip-all", "-Wl,-z,stack-size=262144"];

/** Small code but for the arithmetic. There are no files and no threads in the module. */
const fast = ["model", "resampler"];
const small = [
  ...["checkpoint", "config", "error", "json", "levels", "safetensors", "self_test", "sha256", "stream", "tables"],
  ...["tokenizer", "tokens"],
];

function run(command, ...words) {
  try {
    execFileSync(command, words, { cwd: here, stdio: "inherit" });
  } catch (error) {
    console.error(`${command} ${words.join(" ")}: ${error.message}`);
    rmSync(dist, { recursive: true });
    process.exit(1);
  }
}

function compile(kind, vectors) {
  const [python, ...words] = [...compiler, ...flags, ...vectors];
  const folder = mkdtempSync(join(tmpdir(), "speechtok-"));
  const objects = fast.map((name) => join(folder, `${name}.o`));
  for (const [i, name] of fast.entries())
    run(python, ...words, "-O3", "-c", join(library, "src", `${name}.c`), "-o", objects[i]);
  const sources = small.map((name) => join(library, "src", `${name}.c`));
  const own = ["packed", "wasm"].map((name) => join(here, "native", `${name}.c`));
  run(python, ...words, "-Os", ...sources, ...own, ...objects, ...link, "-o", join(dist, `speechtok.${kind}.wasm`));
  rmSync(folder, { recursive: true });
}

run(process.execPath, join(here, "node_modules", "typescript", "bin", "tsc"), "--project", here, "--outDir", dist);
compile("simd", ["-msimd128"]);
compile("scalar", []);
const tokenizer = join(root, "speechtok", "assets", "speechtok-v2");
run(process.execPath, join(dist, "cli.js"), "pack", tokenizer, join(dist, "speechtok-v2.bin"));
cpSync(join(root, "LICENSE"), join(here, "LICENSE"));
chmodSync(dist, 0o755);
rmSync(join(here, "dist"), { recursive: true, force: true });
renameSync(dist, join(here, "dist"));
for (const name of ["speechtok.simd.wasm", "speechtok.scalar.wasm", "speechtok-v2.bin"])
  console.log(`${name} ${statSync(join(here, "dist", name)).size} bytes`);
