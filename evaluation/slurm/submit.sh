#!/bin/bash
# Queues one evaluation as N shards, an array task each, and after the last of them one job that merges and reports.
# The same command again, after a time limit or a failure, goes on where each shard stopped.
set -euo pipefail

usage='submit.sh --config FILE --out FOLDER --shards N [--cpus 1] [--mem 6G] [--time 04:00:00] [-- options of edgepress eval]
  partition, account, GPUs and the like: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_GPUS, as sbatch reads them'
fail() { printf 'submit.sh: %s\n' "$*" >&2; exit 1; }
is_count() { [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] && (($2 <= $3)) || fail "$1 is a whole number from 1 to $3, not \"$2\""; }

config='' out='' shards='' cpus=1 mem=6G time=04:00:00
while (($# > 0)); do
  case $1 in
    --config | --out | --shards | --cpus | --mem | --time)
      [[ ${2:-} ]] || fail "$1 wants a value"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --) shift; break ;;
    -h | --help) echo "$usage"; exit ;;
    *) fail "unknown option $1; usage: $usage" ;;
  esac
done
[[ $config && $out && $shards ]] || fail "--config, --out and --shards are all wanted; usage: $usage"
[[ -r $config && -f $config ]] || fail "no readable config file at $config"
is_count --shards "$shards" 10000
is_count --cpus "$cpus" 1024
[[ $mem =~ ^[1-9][0-9]*[KMGT]?$ ]] || fail "--mem is megabytes, or such as 6G, not \"$mem\""
[[ $time =~ ^[0-9]+([:-][0-9]+){0,3}$ ]] || fail "--time is minutes, or such as 04:00:00 or 1-12, not \"$time\""
for option in "$@"; do
  case $option in
    --config* | --shard* | --out* | -o*) fail "$option is set by submit.sh: give it before --" ;;
  esac
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cli="$(dirname "$(dirname "$here")")/dist/cli/index.js"
[[ -f $cli ]] || fail "$cli is missing: npm run build"
for program in node sbatch squeue; do
  command -v "$program" > /dev/null || fail "$program is not on the PATH"
done

mkdir -p "$out/logs"
config=$(realpath "$config")
out=$(realpath "$out")
# Two writers of one answers file would cut each other's lines.
if [[ -s $out/jobs ]] && queued=$(squeue --noheader --format=%i --jobs "$(< "$out/jobs")" 2> /dev/null) && [[ $queued ]]; then
  fail "jobs $(< "$out/jobs") of $out are still in the queue: wait, or scancel $(tr , ' ' < "$out/jobs")"
fi

logs=${out//%/%%}/logs # sbatch reads %a and the like
array=$(sbatch --parsable --job-name=edgepress-eval --array="1-$shards" --cpus-per-task="$cpus" --mem="$mem" --time="$time" \
  --output="$logs/shard-%a.log" "$here/shard.sbatch" "$cli" "$config" "$out" "$shards" "$@")
array=${array%%;*} # JOB;CLUSTER where there are several
echo "$array" > "$out/jobs"
merge=$(sbatch --parsable --job-name=edgepress-merge --dependency="afterok:$array" --kill-on-invalid-dep=yes --mem="$mem" --time="$time" \
  --output="$logs/merge.log" "$here/merge.sbatch" "$cli" "$out" "$shards")
merge=${merge%%;*}
echo "$array,$merge" > "$out/jobs"
echo "$shards shards are job $array, merge and report job $merge; logs in $out/logs, at the end $out/report.html"
