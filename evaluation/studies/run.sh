#!/bin/sh
# One study, from its config to the tables and plots in the repository: npm run study needle [more options of edgepress eval]
# The answers lie in results/<study>; a run that was stopped goes on there. What is told of them goes into evaluation/results/<study>.
set -eu
cd "$(dirname "$0")/../.."
study=${1:?which study? one of: $(cd evaluation/studies && ls ./*.json | sed 's#^./##; s#.json$##' | tr '\n' ' ')}
shift
config=evaluation/studies/$study.json
[ -f "$config" ] || { echo "study: there is no $config" >&2; exit 1; }
case $study in
  smollm2*) set -- --model "$(bash bench/peers/fetch-smollm2.sh)" --kv-pool 512MiB "$@" ;;
esac
[ -f dist/cli/index.js ] || npm run --silent build
node dist/cli/index.js eval --config "$config" --out "results/$study" "$@"
rm -f evaluation/results/"$study"/*.svg
node dist/cli/index.js eval report "results/$study" --out "evaluation/results/$study" --title "Study: $study"
