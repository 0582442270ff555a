/** usage.kv_cache as two tables with bars: bytes full, kept and at the peak; tokens kept per layer. */
import { formatBytes } from '../engine/bytes.ts';
import type { KvCacheUsage } from '../engine/types.ts';

/** Fills #cache, and shows it. */
export function showCache(usage: KvCacheUsage): void {
  const { tokens, bytes_full, bytes_kept, bytes_peak, kept_per_layer, lmba_per_layer, retained_mass_per_layer } = usage;
  const most = Math.max(bytes_full, bytes_peak);
  byId('cache-summary').textContent =
    `${usage.press} on ${tokens} tokens${usage.added_per_layer ? `, ${usage.added_per_layer} trained rows added in every layer and head` : ''}, entries in ${usage.entry_type}. Bytes are whole pages.`;
  byId('bytes').replaceChildren(
    row('full', bytes_full / most, [formatBytes(bytes_full), '100%'], 'other'),
    row('kept', bytes_kept / most, [formatBytes(bytes_kept), percent(bytes_kept / bytes_full)]),
    row('peak', bytes_peak / most, [formatBytes(bytes_peak), percent(bytes_peak / bytes_full)], 'other'),
  );
  byId('layers').replaceChildren(
    ...kept_per_layer.map((kept, layer) => {
      const [lmba, mass] = [lmba_per_layer[layer], retained_mass_per_layer[layer]];
      return row(String(layer), kept / tokens, [String(kept), lmba === null ? '–' : String(lmba), mass === null ? '–' : percent(mass)]);
    }),
  );
  byId('notes').replaceChildren(...usage.notes.map((note) => made('li', note)));
  byId('cache').hidden = false;
}

/** The bar repeats what the numbers say, so that it is for the eye alone. */
function row(name: string, share: number, values: readonly string[], className = ''): HTMLElement {
  const fill = made('div', '', 'fill');
  fill.style.setProperty('--share', String(share));
  const track = made('div', '', 'track');
  track.append(fill);
  const bar = made('td', '', 'bar');
  bar.append(track);
  const head = made('th', name);
  head.setAttribute('scope', 'row');
  const row = made('tr', '', className);
  row.append(head, bar, ...values.map((value) => made('td', value)));
  return row;
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

function made(tag: string, text = '', className = ''): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function byId(id: string): HTMLElement {
  return document.getElementById(id)!;
}
