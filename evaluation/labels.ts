/** Short names for the presses of a table: parts by name, with those of their parameters that tell two of one name apart, and nothing that all presses have alike. */
import type { Made, PartMade } from './made-of.ts';

type Press = Made[number];

export interface Labels {
  scorer(made: Made): string;
  layerBudget(made: Made): string;
  headBudget(made: Made): string;
  /** Of the rest, what is not the same in all; '' where everything is. */
  others(made: Made): string;
}

/** Of these presses; a label means nothing beside others. */
export function labelsOf(all: readonly Made[]): Labels {
  const slot = (choose: (press: Press) => readonly PartMade[]): ((made: Made) => string) => {
    const name = namesOf(all.flatMap((made) => made.flatMap(choose)));
    return (made) => made.map((press) => choose(press).map(name).join('+') || 'none').join(' | ') || 'no press';
  };
  const words = {
    selection: slot((press) => [press.selection]),
    transforms: slot((press) => press.transforms),
    schedule: slot((press) => [press.schedule]),
    memory_budget: plain(({ memory_budget }) => (memory_budget === null ? 'none' : `${memory_budget} bytes`)),
    mode: plain(({ mode }) => mode),
    compat: plain(({ compat }) => (compat ? 'kvpress' : 'none')),
    on_tight: plain(({ on_tight }) => on_tight),
  };
  const varied = Object.entries(words).filter(([, word]) => new Set(all.map(word)).size > 1);
  return {
    scorer: slot((press) => [press.scorer]),
    layerBudget: slot((press) => [press.layer_budget]),
    headBudget: slot((press) => [press.head_budget]),
    others: (made) => varied.map(([field, word]) => `${field} ${word(made)}`).join(', '),
  };
}

function plain(word: (press: Press) => string): (made: Made) => string {
  return (made) => [...new Set(made.map(word))].join(' | ');
}

/** "zigzag", or "zigzag(threshold=0.8)" where there is one of another threshold. */
function namesOf(parts: readonly PartMade[]): (part: PartMade) => string {
  const seen = new Map<string, Map<string, Set<string>>>(); // name -> parameter -> values
  for (const { name, params } of parts) {
    const fields = seen.get(name) ?? new Map<string, Set<string>>();
    seen.set(name, fields);
    for (const [field, value] of Object.entries(params)) fields.set(field, (fields.get(field) ?? new Set()).add(JSON.stringify(value)));
  }
  return ({ name, params }) => {
    const told = Object.entries(params).filter(([field]) => seen.get(name)!.get(field)!.size > 1);
    const words = told.map(([field, value]) => `${field}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
    return words.length === 0 ? name : `${name}(${words.join(',')})`;
  };
}
