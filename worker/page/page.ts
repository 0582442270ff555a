/** The page at /chat/: loads the embedded model into this browser, asks it, and shows what the press kept. */
import { exampleRequest } from '../api/example.ts';
import { type BackendName, InputError, listPresses, loadModel, type Model } from '../browser.ts'; // the bundle beside the page
import { formatBytes } from '../engine/bytes.ts';
import { showCache } from './cache-view.ts';

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const ui = {
  state: byId('model-state'),
  detail: byId('model-detail'),
  loading: byId<HTMLProgressElement>('loading'),
  backend: byId<HTMLSelectElement>('backend'),
  form: byId<HTMLFormElement>('ask'),
  document: byId<HTMLTextAreaElement>('document'),
  question: byId<HTMLInputElement>('question'),
  preset: byId<HTMLSelectElement>('preset'),
  summary: byId('preset-summary'),
  ratio: byId<HTMLInputElement>('ratio'),
  ratioShown: byId<HTMLOutputElement>('ratio-shown'),
  scope: byId<HTMLSelectElement>('scope'),
  window: byId<HTMLInputElement>('window'),
  submit: byId<HTMLButtonElement>('submit'),
  stop: byId<HTMLButtonElement>('stop'),
  error: byId('error'),
  answer: byId<HTMLOutputElement>('answer'),
  timings: byId('timings'),
  cache: byId('cache'),
};
const { presets, scorers } = listPresses();
const MAX_TOKENS = 128;

let model: Model | null = null;
/** Stays after a load that failed: there is nothing to ask. */
let loading: AbortController | null = null;
let asking: AbortController | null = null;
let notes: string[] = [];

/** Loads the model on the chosen backend; a choice that comes while one is loading takes its place. */
async function load(): Promise<void> {
  loading?.abort();
  asking?.abort();
  model?.close();
  model = null;
  const mine = new AbortController();
  loading = mine;
  notes = [];
  ui.submit.disabled = true;
  ui.state.textContent = 'Loading the model';
  ui.detail.textContent = '';
  ui.loading.hidden = false;
  ui.loading.value = 0;
  try {
    const loaded = await loadModel(undefined, {
      backend: (ui.backend.value || undefined) as BackendName | 'auto' | undefined,
      signal: mine.signal,
      onProgress(done, total) {
        ui.loading.value = done / total;
        ui.detail.textContent = `${formatBytes(done)} of ${formatBytes(total)}`;
      },
      onNote(note) {
        notes.push(note);
        if (model) showModel(model);
      },
    });
    if (mine.signal.aborted) return loaded.close();
    model = loaded;
    loading = null;
    showModel(loaded);
    ui.submit.disabled = asking !== null;
  } catch (error) {
    if (mine.signal.aborted) return;
    ui.state.textContent = 'The model could not be loaded';
    ui.detail.textContent = sentenceOf(error);
  }
  ui.loading.hidden = true;
}

function showModel(loaded: Model): void {
  const { info } = loaded;
  const { name, variant } = loaded.health().backend;
  const runsOn = name === 'webgpu' ? 'WebGPU' : 'WASM';
  ui.state.textContent = `${info.id} runs on ${runsOn}: ${variant}`;
  const size = `${(info.parameters / 1e6).toFixed(1)} million parameters, ${formatBytes(info.weightBytes)}`;
  const why = ui.backend.value ? 'chosen by you' : 'this browser has an adapter for WebGPU';
  ui.detail.textContent = [size, ...(notes.length > 0 ? notes : [why])].map(sentence).join(' ');
}

async function ask(asked: Model): Promise<void> {
  asking = new AbortController();
  ui.submit.disabled = true;
  ui.stop.disabled = false;
  ui.answer.textContent = '';
  ui.answer.dataset.empty = 'Reading …';
  ui.timings.textContent = '';
  ui.cache.hidden = true;
  try {
    for await (const event of asked.generate(request(), asking.signal)) {
      if (event.type === 'prompt') showCache(event.kvCache);
      if (event.type === 'text') ui.answer.append(event.text);
      if (event.type !== 'finish') continue;
      const { promptTokens, completionTokens } = event.usage;
      const { prefillMs, pressMs, decodeMs } = event.timings;
      const cut = event.reason === 'length' ? `, cut off at ${MAX_TOKENS}` : '';
      const together = pressMs === 0 && event.usage.kvCache.press !== 'no_press'; // on a GPU
      const reading = `read ${together ? 'and pressed ' : ''}in ${ms(prefillMs)}${pressMs > 0 ? `, pressed in ${ms(pressMs)}` : ''}`;
      ui.timings.textContent = `${promptTokens} tokens ${reading}; ${completionTokens} written in ${ms(decodeMs)}${cut}`;
    }
  } catch (error) {
    if (asking.signal.aborted) ui.timings.textContent = 'Stopped.';
    else showError(sentenceOf(error));
  } finally {
    asking = null;
    ui.answer.dataset.empty = 'No answer.';
    ui.stop.disabled = true;
    ui.submit.disabled = loading !== null;
    if (model && !loading) showModel(model); // it may run on another device by now
  }
}

const ms = (time: number): string => `${time.toFixed(time < 10 ? 1 : 0)} ms`;

function request(): Parameters<Model['generate']>[0] {
  const [text, question] = [ui.document.value.trim(), ui.question.value.trim()];
  const parts = [...(text ? [{ type: 'text', text: `${text}\n` }] : []), { type: 'text', text: question }];
  const { ratio, scope, window } = partsOf(ui.preset.value);
  const press = {
    preset: ui.preset.value,
    ...(ratio && { compression_ratio: Number(ui.ratio.value) / 100 }),
    ...(scope && { scope: ui.scope.value }),
    ...(window && ui.window.value !== '' && { window_size: ui.window.valueAsNumber }),
  };
  return { prompt: [{ role: 'user', content: parts }], press, sampling: { temperature: 0, maxTokens: MAX_TOKENS } };
}

/** Which of the fields a preset takes. */
function partsOf(name: string): { ratio: boolean; scope: boolean; window: boolean } {
  const { scorer, takes_ratio } = presets.find((preset) => preset.name === name)!;
  const parameters = scorers.find((part) => part.name === scorer)?.parameters as { properties?: object } | undefined;
  return { ratio: takes_ratio, scope: scorer !== null, window: 'window_size' in (parameters?.properties ?? {}) };
}

function showPreset(): void {
  const { summary } = presets.find(({ name }) => name === ui.preset.value)!;
  ui.summary.textContent = summary;
  for (const [part, taken] of Object.entries(partsOf(ui.preset.value))) {
    const field = ui.form.querySelector<HTMLElement>(`[data-part=${part}]`)!;
    field.hidden = !taken;
  }
}

type Preset = (typeof presets)[number];

/** What can be chosen here: neither what reads a file made for a model, of which the embedded one has none, nor what acts on answers longer than these. */
function presetGroups(): Map<string, Preset[]> {
  const groups = new Map<string, Preset[]>();
  for (const preset of presets) {
    if (preset.artifact?.required || preset.schedule === 'decoding') continue;
    const kind = kindOf(preset);
    groups.set(kind, [...(groups.get(kind) ?? []), preset]);
  }
  return groups;
}

function kindOf({ name, scorer, layer_budget, head_budget, selection, transforms, extra_passes }: Preset): string {
  if (scorer === null) return 'All of it';
  if (name === `${layer_budget}_${scorer}`) return `Layers share by ${layer_budget}, tokens by any score`;
  if (extra_passes) return 'The prompt is read once more';
  if (transforms!.length > 0) return 'Changed after the choice';
  if (layer_budget !== 'uniform') return 'Layers keep different shares';
  if (selection !== 'top_k') return 'Chosen by stretches, or in two stages';
  return head_budget === 'uniform' ? 'The best tokens by one score' : 'Heads keep different shares';
}

/** What was wrong with the input, or else that it was our fault. */
function sentenceOf(error: unknown): string {
  const { message } = error as Error;
  if (!(error instanceof InputError)) console.error(error);
  return sentence(error instanceof InputError ? message : `something failed that should not: ${message}`);
}

/** With a capital, unless it begins with the name of a field or of a scorer. */
function sentence(text: string): string {
  if (scorers.some(({ name }) => text.startsWith(`${name} `))) return `${text}.`;
  return `${text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase())}.`;
}

function showError(sentence: string): void {
  ui.error.textContent = sentence;
  ui.error.hidden = sentence === '';
}

const [example, question] = exampleRequest.messages[0].content;
ui.document.value = example.text.trim();
ui.question.value = question.text;
for (const [label, list] of presetGroups()) {
  const group = document.createElement('optgroup');
  group.label = label;
  group.append(...list.map(({ name }) => new Option(name)));
  ui.preset.append(group);
}
ui.preset.value = exampleRequest.press.preset;
showPreset();

ui.preset.addEventListener('change', showPreset);
ui.ratio.addEventListener('input', () => {
  ui.ratioShown.value = `${ui.ratio.value}%`;
});
ui.backend.addEventListener('change', load);
ui.stop.addEventListener('click', () => asking?.abort());
ui.form.addEventListener('submit', (event) => {
  event.preventDefault();
  const empty = ui.question.value.trim() === '';
  ui.question.setAttribute('aria-invalid', String(empty));
  showError(empty ? 'There is no question: type one.' : '');
  if (empty) ui.question.focus();
  else if (model && !asking) ask(model);
});
load();
