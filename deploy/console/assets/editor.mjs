// The editor of rule files: CodeMirror with YAML. `make assets` builds static/editor.js of it.
// The server checks and tries the draft; this script only edits the text and shows what the server says.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { lintGutter, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { unifiedMergeView } from '@codemirror/merge';
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search';
import { Compartment, EditorState } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

const host = document.getElementById('editor');
const form = document.getElementById('draft');
const field = form.elements.text;
const original = field.value;
const readOnly = host.dataset.readonly === 'yes';
const words = JSON.parse(host.dataset.words);

// In a shadow root its styles need neither a nonce nor 'unsafe-inline'.
const root = host.attachShadow({ mode: 'open' });
const theme = EditorView.theme({
  '&': { color: 'var(--text)', backgroundColor: 'var(--panel)', fontSize: '12px', height: '100%' },
  '&.cm-focused': { outline: '2px solid var(--accent)', outlineOffset: '-2px' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.6' },
  '.cm-content': { caretColor: 'var(--text)' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'var(--sunk)', color: 'var(--muted)', border: '0' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'var(--hover)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--accent-soft)' },
  '.cm-tooltip, .cm-panels': { backgroundColor: 'var(--panel)', color: 'var(--text)', border: '1px solid var(--line-2)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent-bg)', color: 'var(--on-accent)' },
  '.cm-diagnostic': { fontFamily: 'var(--sans)', fontSize: '13px', maxWidth: '36rem' },
  '.cm-searchMatch': { backgroundColor: 'var(--hit)' },
  '.cm-insertedLine, .cm-changedLine': { backgroundColor: 'var(--add) !important' },
  '.cm-deletedChunk': { backgroundColor: 'var(--del) !important' },
  '.cm-deletedChunk .cm-deletedText, .cm-changedText': { background: 'none !important' },
});
const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--accent)' },
  { tag: [tags.string, tags.content], color: 'var(--c-str)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--c-num)' },
  { tag: [tags.comment, tags.meta], color: 'var(--muted)' },
]);

// Completions: the paths of the event beside it, the directives, and the payload's fields.
const complete = (context) => {
  const word = context.matchBefore(/[$@\w.[\]'-]+/);
  if (!word && !context.explicit) return null;
  const paths = [...document.querySelectorAll('#event [data-path]')].map((each) => ({ label: each.dataset.path, type: 'variable', detail: each.textContent.slice(0, 40) }));
  return { from: word ? word.from : context.pos, options: [...new Map([...paths, ...words].map((each) => [each.label, each])).values()] };
};

const changes = new Compartment();
const view = new EditorView({
  parent: root,
  root,
  state: EditorState.create({
    doc: original,
    extensions: [
      lineNumbers(), highlightActiveLineGutter(), highlightActiveLine(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(),
      highlightSelectionMatches(), search({ top: true }), lintGutter(), yaml(), syntaxHighlighting(colours), theme, EditorView.lineWrapping,
      autocompletion({ override: [complete] }), changes.of([]), EditorState.readOnly.of(readOnly), EditorState.tabSize.of(2),
      EditorView.contentAttributes.of({ 'aria-label': host.dataset.label, 'aria-multiline': 'true' }),
      keymap.of([
        { key: 'Mod-s', run: () => { openSave(); return true; }, preventDefault: true },
        ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap,
      ]),
      EditorView.updateListener.of((update) => { if (update.docChanged) edited(); }),
    ],
  }),
});
// Keys that are typed here are no shortcuts of the page.
host.addEventListener('keydown', (event) => { if (event.key !== 'Tab') event.stopPropagation(); });
addEventListener('keydown', (event) => { if ((event.ctrlKey || event.metaKey) && event.key === 's') { event.preventDefault(); openSave(); } });

const openSave = () => document.querySelector('[data-dialog=save]:not(:disabled)')?.click();
let saved = original;
let applying = false;
const edited = () => {
  field.value = view.state.doc.toString();
  document.getElementById('unsaved').hidden = field.value === saved;
  form.dispatchEvent(new CustomEvent('draft', { bubbles: true, detail: { byForm: applying } }));
};
addEventListener('beforeunload', (event) => { if (!readOnly && field.value !== saved) event.preventDefault(); });

// Replaces the text by one that a form made; only the part that differs, so that the cursor and undo survive.
const apply = (text) => {
  const now = view.state.doc.toString();
  if (text === now) return;
  let from = 0;
  while (from < text.length && from < now.length && text[from] === now[from]) from += 1;
  let behind = 0;
  while (behind < text.length - from && behind < now.length - from && text[text.length - 1 - behind] === now[now.length - 1 - behind]) behind += 1;
  applying = true;
  view.dispatch({ changes: { from, to: now.length - behind, insert: text.slice(from, text.length - behind) }, scrollIntoView: true });
  applying = false;
};

const show = (messages) => {
  const found = messages.filter((each) => each.line && each.line <= view.state.doc.lines).map((each) => {
    const line = view.state.doc.line(each.line);
    const from = Math.min(line.from + Math.max(0, (each.column || 1) - 1), line.to);
    return { from, to: Math.max(from, line.to), severity: each.kind, message: each.hint ? `${each.message}\n${each.hint}` : each.message };
  });
  view.dispatch(setDiagnostics(view.state, found));
};
const goTo = (number) => {
  const line = view.state.doc.line(Math.max(1, Math.min(number, view.state.doc.lines)));
  view.dispatch({ selection: { anchor: line.from }, effects: EditorView.scrollIntoView(line.from, { y: 'center' }) });
};

// A field of the event: its path goes to the field of a form that had the focus last, or into the text.
let target = null;
document.addEventListener('focusin', (event) => {
  if (event.target.matches?.('[data-insert]')) target = event.target;
  else if (event.target === host) target = null;
});
document.addEventListener('click', (event) => {
  const path = event.target.closest?.('[data-path]')?.dataset.path;
  const line = event.target.closest?.('[data-line]')?.dataset.line;
  if (path && !readOnly) {
    if (target?.isConnected && target.offsetParent) {
      target.value = path;
      target.dispatchEvent(new Event('change', { bubbles: true }));
      target.focus();
    } else {
      view.dispatch(view.state.replaceSelection(path));
      view.focus();
    }
  }
  if (line) {
    document.getElementById('as-text').click();
    goTo(Number(line));
    view.focus();
  }
  if (event.target.closest?.('[data-as-text]')) document.getElementById('as-text').click();
  if (event.target.closest?.('[data-changes]')) {
    const on = event.target.getAttribute('aria-pressed') !== 'true';
    event.target.setAttribute('aria-pressed', on);
    view.dispatch({ effects: changes.reconfigure(on ? unifiedMergeView({ original: saved, mergeControls: false }) : []) });
  }
});

// What the server says arrives as attributes of elements that htmx swaps in.
const read = () => {
  const checked = document.querySelector('#checked[data-messages]');
  if (checked) { show(JSON.parse(checked.dataset.messages)); checked.removeAttribute('data-messages'); }
  const stored = document.querySelector('#saved-now[data-mode]');
  if (stored) {
    if (stored.dataset.digest) form.elements.opened.value = stored.dataset.digest;
    stored.removeAttribute('data-mode');
    saved = field.value;
    document.getElementById('unsaved').hidden = true;
  }
  const written = document.querySelector('#written[data-text]');
  if (written) { const { text } = written.dataset; written.removeAttribute('data-text'); apply(text); }
};
document.addEventListener('htmx:after:swap', read);
read();
field.hidden = true;
if (host.dataset.draft) apply(host.dataset.draft);
if (host.dataset.start) goTo(Number(host.dataset.start));
