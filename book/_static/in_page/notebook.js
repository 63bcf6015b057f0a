// The notebook of a problem set as it was released, to write a reader's work into and to read it out of a file.
"use strict";

window.bnNotebook = (released, set) => {
  const text = (source) => (Array.isArray(source) ? source.join("") : source);
  const lines = (source) => (source ? source.match(/[^\n]*\n|[^\n]+$/g) : []);
  const mark = (cell) => cell?.metadata?.nbgrader ?? {};
  const answered = (cell) => mark(cell).grade_id ?? cell?.id;

  // The file to hand in: the released notebook with `sources` and `outputs` ({list, count}) in their cells, by cell id.
  // Metadata, ids and nbgrader's checksums stay as they are: by them the grader knows the cells.
  function file(sources, outputs) {
    const cells = released.cells.map((cell) => {
      const source = sources.get(cell.id);
      const changed = source !== undefined && source !== text(cell.source) ? { source: lines(source) } : {};
      if (cell.cell_type !== "code") return { ...cell, ...changed };
      const shown = outputs.get(cell.id);
      return { ...cell, ...changed, ...(shown?.count ? { execution_count: shown.count, outputs: shown.list } : {}) };
    });
    return `${JSON.stringify({ ...released, cells }, null, 1)}\n`;
  }

  // What somebody wrote in Jupyter: {sources, left}, texts by cell id and the number of cells that are none of this set's.
  // Throws an Error that says what the file is instead.
  function read(content) {
    let notebook;
    try {
      notebook = JSON.parse(content);
    } catch {
      throw new Error("it isn't a notebook: a file .ipynb as Jupyter saves it was expected");
    }
    if (!Array.isArray(notebook?.cells)) throw new Error("it isn't a notebook in the format 4: it has no cells");
    const found = new Map(notebook.cells.map((cell) => [answered(cell), cell]));
    const graded = released.cells.filter((cell) => mark(cell).grade_id);
    if (!graded.some((cell) => found.has(answered(cell)))) {
      throw new Error(`it has none of the questions of ${set}: it is another notebook`);
    }
    const known = new Set(released.cells.map(answered));
    const sources = new Map();
    for (const cell of released.cells) {
      const theirs = found.get(answered(cell));
      if (theirs?.cell_type === cell.cell_type && theirs.source !== undefined) sources.set(cell.id, text(theirs.source));
    }
    const left = notebook.cells.filter((cell) => !known.has(answered(cell)) && text(cell.source ?? "").trim()).length;
    return { sources, left };
  }

  return { released, file, read, points: (id) => mark(released.cells.find((cell) => cell.id === id)).points };
};
