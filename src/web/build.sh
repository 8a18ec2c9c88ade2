#!/bin/sh
# Builds the Deck page into dist/web. If no source is newer than the page, only `find` runs.
cd "$(dirname "$0")/../.." || exit 1
page=dist/web/index.html
made_of='src/web src/client src/protocol vite.config.ts package-lock.json'
# shellcheck disable=SC2086
if [ -f "$page" ] && [ -z "$(find $made_of -newer "$page")" ]; then exit 0; fi
exec node_modules/.bin/vite build --logLevel warn
