// A place to write code in: CodeMirror, which is loaded when the first one opens, or a plain text area where it can't be.
//
//     await bnEditor.load();
//     const editor = bnEditor.open(place, { text, label, hint, readOnly, change, run });
//     editor.text = "...";  editor.focus();
//
// `bnEditor.plain(place, ...)` is a text area in any case, for words. Who comes by Tab leaves by Tab. From the
// first key typed on, Tab indents, until Escape; `hint` is the id of the text that says so. `run(stays)` is called on
// Shift+Enter, and on Ctrl+Enter or Cmd+Enter with true.
"use strict";

window.bnEditor = (() => {
  const source = new URL("../vendor/codemirror/codemirror.js", document.currentScript.src);
  const TAB_LEAVES = ["Tab", "Escape", "Shift", "Control", "Alt", "Meta"]; // after no other key than these
  let loading;

  function load() {
    loading ??= new Promise((resolve) => {
      document.head.append(Object.assign(document.createElement("script"), { src: source, onload: resolve, onerror: resolve }));
    });
    return loading;
  }

  function open(place, settings) {
    return window.CodeMirror ? rich(place, settings) : plain(place, settings);
  }

  function rich(place, { text, label, hint, readOnly, change, run }) {
    const { EditorState, EditorView, Prec, drawSelection, keymap, defaultKeymap, history, historyKeymap, indentWithTab } = CodeMirror;
    const { bracketMatching, indentOnInput, indentUnit, syntaxHighlighting, LanguageSupport, pythonLanguage, classHighlighter } = CodeMirror;
    const keys = [
      { key: "Shift-Enter", run: () => (run(false), true) },
      { key: "Mod-Enter", run: () => (run(true), true) },
      { key: "Escape", run: (view) => (view.setTabFocusMode(true), false) },
    ];
    const tabs = {
      focus: (event, view) => void view.setTabFocusMode(true),
      click: (event, view) => void view.setTabFocusMode(readOnly),
      keydown: (event, view) => void (TAB_LEAVES.includes(event.key) || view.setTabFocusMode(readOnly)),
    };
    // On every page Sphinx waits for this key, for its search, and would swallow it.
    place.addEventListener("keydown", (event) => event.key === "/" && event.stopPropagation());
    const view = new EditorView({
      parent: place,
      state: EditorState.create({
        doc: text,
        extensions: [
          Prec.highest(EditorView.domEventHandlers(tabs)),
          Prec.highest(keymap.of(keys)),
          keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
          history(),
          drawSelection(),
          bracketMatching(),
          indentOnInput(),
          indentUnit.of("    "),
          syntaxHighlighting(classHighlighter),
          new LanguageSupport(pythonLanguage),
          EditorState.readOnly.of(readOnly),
          EditorView.contentAttributes.of({ tabindex: 0, "aria-label": label, "aria-describedby": hint, "aria-readonly": readOnly }),
          EditorView.updateListener.of((update) => update.docChanged && change(update.state.doc.toString())),
        ],
      }),
    });
    return {
      get text() {
        return view.state.doc.toString();
      },
      set text(insert) {
        if (insert !== this.text) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert } });
      },
      focus: () => view.focus(),
    };
  }

  function plain(place, { text, label, hint, readOnly, change, run }) {
    const area = Object.assign(document.createElement("textarea"), { value: text, ariaLabel: label, readOnly, spellcheck: false });
    area.setAttribute("aria-describedby", hint);
    const fit = () => (area.rows = Math.max(2, area.value.split("\n").length));
    fit();
    area.addEventListener("input", () => (fit(), change(area.value)));
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.shiftKey || event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      run(!event.shiftKey);
    });
    place.append(area);
    return {
      get text() {
        return area.value;
      },
      set text(value) {
        if (value === area.value) return;
        area.value = value;
        fit();
        change(value);
      },
      focus: () => area.focus(),
    };
  }

  return { load, open, plain };
})();
