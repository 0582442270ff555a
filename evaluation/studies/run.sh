#!/bin/sh
# One study, from its config to the tables and plots in the repository: npm run -s study needle
# The answers lie in results/<study>; a run that was stopped goes on there. What is told of them goes into evaluation/results/<study>.
# With options of edgepress eval it is not that study but a trial, answers, tables, plots and all in results/<study>-trial:
#   npm run -s study needle -- --samples 1 --lengths 256
set -eu
cd "$(dirname "$0")/../.."
fail() {
  echo "study: $1" >&2
  exit 1
}
studies=$(cd evaluation/studies && ls ./*.json | sed 's#^./##; s#.json$##' | tr '\n' ' ')
case ${1:-} in
  '') fail "which one? There are $studies" ;;
  -* | */*) fail "its name comes first, not \"$1\": npm run -s study needle -- --samples 1. There are $studies" ;;
esac
study=$1
shift
config=evaluation/studies/$study.json
[ -f "$config" ] || fail "there is none called \"$study\"; there are $studies"
answers=results/$study told=evaluation/results/$study
if [ $# -gt 0 ]; then
  answers=results/$study-trial told=results/$study-trial
  case $1 in
    -*) ;;
    *) fail "\"$1\" is no option; npm hands options on that stand behind --: npm run -s study $study -- --samples 1" ;;
  esac
  for option in "$@"; do
    case $option in
      -o* | --out* | --config*) fail "$option is set here; edgepress eval --config $config takes any folder" ;;
    esac
  done
fi
case $study in
  smollm2*)
    model=$(bash bench/peers/fetch-smollm2.sh)
    set -- --model "$model" --kv-pool 512MiB "$@"
    ;;
esac
# What is measured is what stands here, not what was built of it some time ago.
if [ ! -f dist/cli/index.js ] || [ -n "$(find asm cli evaluation presses wgsl worker -newer dist/cli/index.js \( -name '*.ts' -o -name '*.wgsl' \))" ]; then
  npm run --silent build
fi
node dist/cli/index.js eval --config "$config" --out "$answers" "$@"
rm -f "$told"/*.svg
node dist/cli/index.js eval report "$answers" --out "$told" --title "Study: $study"
