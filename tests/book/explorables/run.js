// Runs the `compute` and `say` of an explorable outside of any page: node run.js, with {script, data, states} as JSON on
// standard input. Prints {controls, results, sentences} as JSON, where numbers that JSON doesn't know are words.
//
// The script sees `bnExplorables`, D3 and the language itself, nothing else, and what it is given can't be changed.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

function freeze(value) {
  if (value !== null && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
  return value;
}

const D3 = path.join(__dirname, "../../../book/_static/vendor/d3/d3.min.js");

const { script, data, states } = JSON.parse(fs.readFileSync(0, "utf-8"));
let figure = null;
const bnExplorables = { define: (name, defined) => (figure = defined) };
const page = vm.createContext({ bnExplorables });
for (const file of [D3, script]) vm.runInContext(fs.readFileSync(file, "utf-8"), page, { filename: file });

freeze([data, states]);
const results = states.map((state) => figure.compute(state, data));
const sentences = states.map((state, index) => figure.say(results[index], state, data));
const words = (key, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
console.log(JSON.stringify({ controls: figure.controls, results, sentences }, words));
