#!/bin/sh
# Runs all test files, shared out to the shards; or, as tap does, those that are named.
for argument; do
  case $argument in -*) ;; *) exec tap "$@" ;; esac
done
DECK_SHARDS=$(mktemp -d) || exit 1
export DECK_SHARDS
trap 'rm -rf "$DECK_SHARDS"' EXIT
tap --timeout=1800 "$@" test/shards/[0-9].ts
status=$?
# Each file was claimed by a shard.
for file in test/*/*.test.ts; do
  case $file in test/web/*) continue ;; esac
  claim=$(echo "$file" | sed 's,^test/,,; s,/,+,; s,\.test\.ts$,,')
  [ -e "$DECK_SHARDS/$claim" ] && continue
  echo "$file did not run" >&2
  [ "$status" -ne 0 ] || status=1
done
exit "$status"
