#!/bin/sh
# Builds the Deck page into dist/web, unless it is built already.
exec node "$(dirname "$0")/../../scripts/build.js" page
