#!/bin/sh
# Runs all test files, distributed over the shards. If files are named, runs those with tap instead.
for argument; do
  case $argument in -*) ;; *) exec tap "$@" ;; esac
done
DECK_SHARDS=$(mktemp -d) || exit 1
export DECK_SHARDS
trap 'rm -rf "$DECK_SHARDS"' EXIT
tap --timeout=1800 "$@" test/shards/[0-9].ts
status=$?
# Checks that a shard claimed each file.
for file in test/*/*.test.ts; do
  case $file in test/web/*) continue ;; esac
  claim=$(echo "$file" | sed 's,^test/,,; s,/,+,; s,\.test\.ts$,,')
  [ -e "$DECK_SHARDS/$claim" ] && continue
  echo "$file did not run" >&2
  [ "$status" -ne 0 ] || status=1
done
exit "$status"
