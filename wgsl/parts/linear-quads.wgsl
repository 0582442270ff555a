// How linear.wgsl takes pieces of rows of plain values: in decode 32 lanes read 32 neighbouring quads, eight times.
const LANE_QUADS = 1u;
const STEP = 32u;

fn piece(weights: u32, row: u32, first: u32, step: u32) -> Piece {
  return Piece(
    quad(weights, row, first), quad(weights, row, first + step), quad(weights, row, first + 2u * step), quad(weights, row, first + 3u * step),
    quad(weights, row, first + 4u * step), quad(weights, row, first + 5u * step), quad(weights, row, first + 6u * step), quad(weights, row, first + 7u * step),
  );
}

