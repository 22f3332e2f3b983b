#!/usr/bin/env bash
# Train until DONE, whatever happens in between:
#
#     cloud/run.sh gpt2-124m --gpus 8 --name NAME [any other word of `buildgpt train`]
#
# Every start is `buildgpt train ... --resume`, so each goes on from the newest complete checkpoint.
# After each end the run's file `state` is read, as launchers of several processes hide exit statuses.
#
# Exit status: 0 DONE; 2 the words were wrong; 1 given up, after three restarts without a new
# checkpoint; 75 told to stop (SIGTERM: a spot notice, Slurm) and saved: start again elsewhere.
#
# LAUNCH is the command that trains, and STOP the one that tells it to stop (else it gets SIGTERM),
# for several machines: see slurm.sbatch.
# RESTART_PAUSE is how many seconds a crashed attempt gets to let go of its GPUs.
set -uo pipefail

read -ra launch <<<"${LAUNCH:-buildgpt train}"
pause=${RESTART_PAUSE:-5}
most_restarts=3 # without a new checkpoint between them
told_to_stop=75 # sysexits.h calls it EX_TEMPFAIL: try again later

say() { echo "run.sh: $*" | tee -i -a "$log"; }

# The value of an option among the words, the last one given: value_of --name WORDS...
value_of() {
  local option=$1 value=
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      "$option") value=${2-} ;;
      "$option="*) value=${1#*=} ;;
    esac
    shift
  done
  echo "$value"
}

state() { cat "$run/state" 2>/dev/null; }

newest_checkpoint() {
  find "$run/checkpoints" -path '*/step_*/complete.json' 2>/dev/null | sort -V | tail -n 1
}

# A terminal's Ctrl-C has reached the training already; every other signal is passed on.
# shellcheck disable=SC2317 # called by the traps
stop() {
  stopped=yes
  if [ "$1" != INT ] && [ -n "$child" ]; then ${STOP:-kill -TERM "$child"} 2>/dev/null; fi
}

# Start the training and wait for its end; a signal interrupts `wait`, not the waiting.
train() {
  "${launch[@]}" "$@" --resume > >(tee -i -a "$log") 2>&1 &
  child=$!
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
  done
  child=
}

case ${1-} in
  "" | -*)
    echo "usage: cloud/run.sh RECIPE [--name NAME] [any word of buildgpt train]" >&2
    exit 2
    ;;
esac
name=$(value_of --name "$@")
runs=$(value_of --runs "$@")
run=${runs:-runs}/${name:-$(basename "$1" .toml)}
log=$run.log # beside the run: its folder is the training's to make
mkdir -p "${runs:-runs}" || exit 1

stopped='' child='' restarts=0
trap 'stop TERM' TERM HUP
trap 'stop INT' INT

while [ -z "$stopped" ]; do
  before=$(newest_checkpoint)
  train "$@"
  if [ "$(state)" = DONE ] && [ "$status" -eq 0 ]; then
    say "$run is done"
    exit 0
  elif [ -n "$stopped" ]; then
    break
  elif [ "$status" -eq 2 ]; then
    exit 2
  fi
  if [ "$(newest_checkpoint)" != "$before" ]; then restarts=0; fi
  if [ "$restarts" -eq "$most_restarts" ]; then
    say "given up after $restarts restarts without a new checkpoint; what went wrong is in $log"
    exit 1
  fi
  restarts=$((restarts + 1))
  say "exit status $status, state $(state): restart $restarts of $most_restarts"
  sleep "$pause" >/dev/null 2>&1 &
  wait $!
done
say "told to stop; the state of $run is $(state), its newest checkpoint: $(newest_checkpoint)"
exit "$told_to_stop"
