#!/usr/bin/env bash
#
# The dead man's switch of one instance. guardian.ts starts it. Standard input names the guarded accounts and the deadline of
# their browsers, in hundredths of a second of /proc/uptime:
#
#   watch <account id>
#   unwatch <account id>
#   until <hundredths>
#
# It kills those browsers when the last deadline is over, or at the end of input, because then the instance has died. It kills
# every process group with `--user-data-dir=<sessions directory>/session-<account id>`, and nothing else.
#
# Usage: guardian.sh <sessions directory>. Exit code: 0 if there was nothing to kill, 3 if it killed.
{
  # A signal that ends the instance must not end its guardian. The braces make bash read the whole script before it starts.
  trap '' TERM INT HUP
  profile="--user-data-dir=$1/session-"
  declare -A guarded
  until='' timeout=()

  while read -r "${timeout[@]}" verb value; do
    case $verb in
      watch) guarded[$value]=1 ;;
      unwatch) unset "guarded[$value]" ;;
      until) until=$value ;;
    esac
    [[ $until ]] || continue
    read -r uptime _ </proc/uptime
    left=$((until - 10#${uptime/./}))
    ((left > 0)) || break
    printf -v seconds '%d.%02d' $((left / 100)) $((left % 100))
    timeout=(-t "$seconds")
  done

  # A killed process takes a moment to end, and a starting browser may still appear, so look again until none is left. But not
  # for long, because another instance of this server may soon own the accounts.
  code=0
  for ((round = 0; round < 10 && ${#guarded[@]} > 0; round++)); do
    found=0
    # grep preselects the few possible processes. Reading every process in bash would use a whole core during this time.
    for file in $(grep -lsF -- "$profile" /proc/[0-9]*/cmdline); do
      process=${file%/cmdline}
      mapfile -d '' arguments <"$file" || continue
      for argument in "${arguments[@]}"; do
        account=${argument#"$profile"}
        # If the argument does not begin with the profile, the expansion above leaves it whole.
        [[ $account != "$argument" && -n $account && ${guarded[$account]} ]] || continue
        read -r status <"$process/stat"
        # After the name, which may contain any characters: state, parent, process group.
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
