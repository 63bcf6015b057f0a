// Python in a page: a worker that loads Pyodide and NumPy from the site itself and runs cells.
//
//     const worker = new Worker("_static/in_page/worker.js");      // a classic worker; not from file://
//     worker.onmessage = ({ data }) => { ... };
//     worker.postMessage({ type: "start", set: "ps1_scaling" });
//     worker.postMessage({ type: "run", id: 1, code: "1 + 1" });   // may be sent at once: it waits for "ready"
//
// To the worker
//     start {base, set}    base: URL of the folder with Python's files, ending in "/"; by default python/ beside this
//                          script. set: the problem set whose checks.py `from checks import check` finds; may be absent.
//     run {id, code, cell} id: any value, given back with everything that comes of it. cell: {number} is what the
//                          reader sees as In[number] in tracebacks; by default cells are counted.
// From the worker
//     progress {what, loaded, total}   what: a sentence for the reader. Bytes; loaded == total once all is there.
//     ready {seconds}                  Since "start".
//     failed {reason}                  It can't start; a sentence for the reader. Nothing will run.
//     output {id, output}              An nbformat output. Streams come in pieces: join those of one name.
//     done {id, ok, seconds, count}    count: the number of the cell.
//
// A cell can't be interrupted: a page ends the worker (`worker.terminate()`), starts another, and runs the earlier cells
// again. A worker that ended leaves nothing behind.
"use strict";

const READY = { pyodide: null, run: null };
const waiting = []; // cells that came before Python was there
const TYPES = { wasm: "application/wasm", zip: "application/zip", tar: "application/x-tar" };

self.onmessage = ({ data }) => {
  if (data.type === "start") start(data).catch((error) => self.postMessage({ type: "failed", reason: reason(error) }));
  else if (data.type === "run" && READY.run) run(data);
  else if (data.type === "run") waiting.push(data);
};

async function start({ base = new URL("python/", self.location).href, set }) {
  const began = performance.now();
  if (typeof WebAssembly !== "object") throw new Sentence("This browser can't run Python: it has no WebAssembly.");
  if (typeof DecompressionStream !== "function") {
    throw new Sentence("This browser is too old to run Python in a page. One from 2023 or later can.");
  }
  const site = await contents(base);
  const numpy = site.bytes("numpy.tar");
  const bnlab = site.bytes("bnlab.tar");
  for (const early of [numpy, bnlab]) early.catch(() => {}); // it is reported where it is awaited
  const network = self.fetch;
  self.fetch = (url, options) => site.answer(String(url)) ?? network(url, options); // Pyodide's own files
  importScripts(site.url("pyodide.js"));
  site.count("pyodide.js");
  const pyodide = await self.loadPyodide({
    indexURL: base,
    lockFileURL: "pyodide-lock.json",
    env: { HOME: "/home/reader" },
  });
  self.fetch = network;
  site.count("pyodide.asm.js");
  unpack(pyodide.FS, await numpy, "/lib/python3.11/site-packages");
  unpack(pyodide.FS, await bnlab, "/lib/python3.11/site-packages");
  const boot = pyodide.runPython("from bnlab.in_page.start import start; start");
  READY.run = boot(set ?? "", (output) => self.postMessage({ type: "output", id: READY.id, output: JSON.parse(output) }));
  self.postMessage({ type: "ready", seconds: (performance.now() - began) / 1000 });
  for (const cell of waiting.splice(0)) run(cell);
}

function run({ id, code, cell }) {
  const began = performance.now();
  READY.id = id;
  let ok = false;
  let count;
  try {
    [ok, count] = READY.run(code, cell?.number ?? null).toJs();
  } catch (error) {
    // Python itself broke down: out of memory, or too deep a recursion for the browser.
    const evalue = "Python in this page broke down, out of memory or in too deep a recursion. Start it again.";
    const output = { output_type: "error", ename: error.name, evalue, traceback: [evalue, String(error)] };
    self.postMessage({ type: "output", id, output });
  }
  self.postMessage({ type: "done", id, ok, count, seconds: (performance.now() - began) / 1000 });
}

// What the folder `base` holds, loaded on demand, with reports of how far that is.
async function contents(base) {
  const listed = await fetch(new URL("contents.json", base), { cache: "no-cache" }).catch(() => null);
  if (!listed?.ok) {
    throw new Sentence(
      listed ? "Python isn't part of this copy of the site." : "Python could not be loaded: is the network there?"
    );
  }
  const { files } = await listed.json();
  const total = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  let loaded = 0;
  const count = (bytes) => {
    loaded += bytes;
    self.postMessage({ type: "progress", what: loaded < total ? "Loading Python" : "Starting Python", loaded, total });
  };

  // The sum in the address keeps files of two versions of the site apart in caches.
  const url = (name) => `${new URL(name, base)}?${files[name].sha256.slice(0, 8)}`;

  async function open(name) {
    const response = await fetch(url(name)).catch(() => null);
    if (!response?.ok) throw new Sentence(`Python could not be loaded: ${name} is missing. Is the network there?`);
    const reader = response.body.getReader();
    const first = await reader.read();
    const pass = (chunk, stream) => {
      if (chunk.done) return stream.close();
      count(chunk.value.length);
      stream.enqueue(chunk.value);
    };
    const all = new ReadableStream({
      start: (stream) => pass(first, stream),
      pull: async (stream) => pass(await reader.read(), stream),
    });
    const zipped = first.value?.[0] === 0x1f && first.value?.[1] === 0x8b; // some servers have unpacked it already
    return zipped ? all.pipeThrough(new DecompressionStream("gzip")) : all;
  }

  const packed = new Map(["pyodide.asm.wasm", "python_stdlib.zip"].map((name) => [name, open(`${name}.gz`)]));
  for (const file of packed.values()) file.catch(() => {});

  return {
    url,
    // A script was loaded, which the browser does by itself.
    count: (name) => count(files[name].bytes),
    async bytes(name) {
      return new Uint8Array(await new Response(await open(`${name}.gz`)).arrayBuffer());
    },
    // The answer to one of Pyodide's requests, or undefined.
    answer(address) {
      const name = address.split("/").pop();
      if (name === "pyodide-lock.json") return Promise.resolve(new Response(JSON.stringify(LOCK)));
      const headers = { "Content-Type": TYPES[name.split(".").pop()] };
      return packed.get(name)?.then((stream) => new Response(stream, { headers }));
    },
  };
}

// What Pyodide would like to know of packages that it could load: there are none.
const LOCK = { info: { arch: "wasm32", platform: "emscripten_3_1_45", version: "0.24.1", python: "3.11.3" }, packages: {} };

// Put the files of a tar under `folder`.
function unpack(FS, tar, folder) {
  const text = (from, length) => new TextDecoder().decode(tar.subarray(from, from + length)).replace(/\0.*$/s, "");
  for (let at = 0; at < tar.length && tar[at]; ) {
    const name = [text(at + 345, 155), text(at, 100)].filter(Boolean).join("/");
    const size = parseInt(text(at + 124, 12), 8);
    const path = `${folder}/${name}`;
    FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
    FS.writeFile(path, tar.subarray(at + 512, at + 512 + size));
    at += 512 + 512 * Math.ceil(size / 512);
  }
}

// An error whose message is meant for the reader.
class Sentence extends Error {}

function reason(error) {
  return error instanceof Sentence ? error.message : `Python could not be started in this browser (${error}).`;
}
