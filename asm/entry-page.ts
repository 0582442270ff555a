// entry-page: where an entry lies. A head's list is a row of page numbers: entry e is slot e % E of the list's (e / E)-th page.
//   f32   K [E, d] f32 | V [E, d] f32
//   f16   K [E, d] f16 | V [E, d] f16
//   int8  K [E, d] i8 | V [E, d] i8 | to a multiple of 4 | K scales [E] f32 | V scales [E] f32
// store-entries writes them, attend-paged reads them.

/** entryType: the place in entryTypes of worker/backend/backend.ts. */
// @ts-ignore: decorator
@inline export const ENTRY_F32: i32 = 0;
// @ts-ignore: decorator
@inline export const ENTRY_F16: i32 = 1;
// @ts-ignore: decorator
@inline export const ENTRY_INT8: i32 = 2;

/** Bytes of a row of K or V, scales aside. */
// @ts-ignore: decorator
@inline export function rowBytesOf(entryType: i32, d: i32): usize {
  return <usize>d << (entryType == ENTRY_F32 ? 2 : entryType == ENTRY_F16 ? 1 : 0);
}

/** Offset of the K scales in an int8 page; the V scales follow them. */
// @ts-ignore: decorator
@inline export function scalesAt(entriesPerPage: i32, d: i32): usize {
  return (2 * <usize>entriesPerPage * <usize>d + 3) & ~3;
}

/** Where one head's list lies. */
@unmanaged
export class Pages {
  pool: usize;
  pageBytes: usize;
  entryType: i32;
  E: i32; // entries per page
  table: usize; // [*] u32: the list's page numbers
  positions: usize; // [page * slotStride + slot] u32; 0 = nobody asks
  slotStride: i32;
}

// @ts-ignore: decorator
@inline export function pageOf(pages: Pages, e: i32): i32 {
  return load<i32>(pages.table + (<usize>(<u32>e / <u32>pages.E) << 2));
}
