#!/usr/bin/env bash
#
# The dead man's switch of one instance; guardian.ts starts it. Standard input says whose browsers are guarded,
# and until when they may live, in hundredths of a second of /proc/uptime:
#
#   watch <account id>
#   unwatch <account id>
#   until <hundredths>
#
# When that time comes and no later one was said, or at the end of input (the instance has died), it kills those browsers:
# every process group with `--user-data-dir=<sessions directory>/session-<account id>`, and nothing else.
#
# Usage: guardian.sh <sessions directory>. Exit code: 0 when there was nothing to kill, 3 after it killed.
{
  # Whoever ends the instance must not end what watches over it. The braces make bash read all of this before it starts.
  trap '' TERM INT HUP
  profile="--user-data-dir=$1/session-"
  declare -A doomed
  until='' patience=()

  while read -r "${patience[@]}" verb value; do
    case $verb in
      watch) doomed[$value]=1 ;;
      unwatch) unset "doomed[$value]" ;;
      until) until=$value ;;
    esac
    [[ $until ]] || continue
    read -r uptime _ </proc/uptime
    left=$((until - 10#${uptime/./}))
    ((left > 0)) || break
    printf -v seconds '%d.%02d' $((left / 100)) $((left % 100))
    patience=(-t "$seconds")
  done

  # A process that was killed takes a moment to go, and one that was being started may come: looked for again until
  # none is left. Never for long: by then the accounts may belong to another instance of this server.
  code=0
  for ((round = 0; round < 10 && ${#doomed[@]} > 0; round++)); do
    found=0
    # grep finds the few that come into question; looking into each process here would take a core for as long.
    for file in $(grep -lsF -- "$profile" /proc/[0-9]*/cmdline); do
      process=${file%/cmdline}
      mapfile -d '' arguments <"$file" || continue
      for argument in "${arguments[@]}"; do
        account=${argument#"$profile"}
        # An argument that does not begin with the profile is left whole by that.
        [[ $account != "$argument" && -n $account && ${doomed[$account]} ]] || continue
        read -r status <"$process/stat"
        # After the name, which may hold anything: state, parent, process group.
        read -r _ _ group _ <<<"${status##*) }"
        ((group > 1)) && kill -KILL -- "-$group"
        kill -KILL "${process##*/}"
        found=1 code=3
      done
    done
    ((found)) || break
    sleep 0.1
  done
  exit "$code"
} 2>/dev/null
