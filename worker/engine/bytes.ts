/** Byte sizes as people write them. */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
};

/** "16MiB" -> 16777216. Throws an Error that says what would work. */
export function parseBytes(text: string | number): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(String(text));
  const unit = match ? UNITS[match[2].toLowerCase()] : undefined;
  if (!match || unit === undefined) throw new Error(`expected a byte size such as 16MiB, 512KiB or 1048576, got "${text}"`);
  const bytes = Math.floor(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes)) throw new Error(`the byte size ${text} is too large`);
  return bytes;
}

/** 16777216 -> "16 MiB". Three significant digits. */
export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${digits(bytes / 2 ** 30)} GiB`;
  if (bytes >= 2 ** 20) return `${digits(bytes / 2 ** 20)} MiB`;
  if (bytes >= 2 ** 10) return `${digits(bytes / 2 ** 10)} KiB`;
  return `${bytes} B`;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
