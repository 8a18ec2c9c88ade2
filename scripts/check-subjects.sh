#!/bin/sh
# Reads commit subjects, one a line. Fails if one is not a Conventional Commit of at most 72 characters, and names it:
#   git log --no-merges --format=%s main..HEAD | sh scripts/check-subjects.sh
types='build|chore|ci|docs|feat|fix|perf|refactor|revert|style|test'
export LC_ALL=C.UTF-8
status=0
while IFS= read -r subject; do
  [ -n "$subject" ] || continue
  if ! printf '%s\n' "$subject" | grep -qE "^($types)(\([a-z0-9-]+\))?!?: [^ ]"; then
    echo "not a Conventional Commit (feat: …, fix(client): …): $subject" >&2
    status=1
  elif ! printf '%s\n' "$subject" | grep -qE '^.{1,72}$'; then
    echo "longer than 72 characters: $subject" >&2
    status=1
  fi
done
exit $status
